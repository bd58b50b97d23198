"""Placeholders that programs send as an id when they have none.

`String(undefined)` is "undefined", and so on. If such a text counted as an id, everybody who has none would be one
person.
"""

import re

_PLACEHOLDERS = frozenset(
    {
        # what languages write for nothing, for a truth value, and for an object
        *("null", "undefined", "nan", "none", "nil", "n/a", "true", "false", "0", "-1", "[object object]", "{}", "[]"),
        # what programs call somebody who has not signed in
        *("anonymous", "guest", "unknown", "not_authenticated", "unauthenticated"),
        # names of the field, whose value was forgotten, and templates that nobody filled in
        *(
            "id",
            "userid",
            "user_id",
            "user-id",
            "user id",
            "anonymousid",
            "anonymous_id",
            "anonymous-id",
            "anonymous id",
        ),
        *("anonymous id", "previousid", "previous_id", "previous-id", "distinctid", "distinct_id", "distinct-id"),
        *("{{userid}}", "{{user_id}}", "${userid}", "${user_id}", "{userid}", "{user_id}", "%user_id%", "%userid%"),
    }
)
_ORDINARY = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
# with one of them begins every placeholder that begins with a letter or a digit
_FIRST = frozenset(character for text in _PLACEHOLDERS for character in (text[0], text[0].upper()))
_MAX_CHARACTERS = 64
_ZERO_UUID = re.compile(r"[{(]?0{8}-?0{4}-?0{4}-?0{4}-?0{12}[)}]?")
_AROUND = " \t\r\n\f\v\0\u00a0\ufeff\u200b\"'`\u2018\u2019\u201c\u201d"
_BRACKETS = {"(": ")", "<": ">"}


def is_placeholder_id(value: str) -> bool:
    """Return whether `value` is a placeholder: one of the list, a UUID of zeros, or blank.

    Letter case, spaces and quotation marks around it do not matter, nor round and pointed brackets (`(null)`,
    `<none>`). A text with anything else in it is an id.
    """
    # the common case, which takes 0.1 µs: nothing around the text has to be taken away
    if value and value[0] in _ORDINARY and value[-1] in _ORDINARY:
        return value[0] in _FIRST and (value.lower() in _PLACEHOLDERS or _ZERO_UUID.fullmatch(value) is not None)
    if len(value) > _MAX_CHARACTERS:
        return not value.strip(_AROUND)
    text = value.strip(_AROUND).casefold()
    while len(text) > 1 and _BRACKETS.get(text[0]) == text[-1]:
        text = text[1:-1].strip(_AROUND)
    # quotation marks that were escaped on their way
    text = text.replace("\\", "").strip(_AROUND)
    return not text or text in _PLACEHOLDERS or _ZERO_UUID.fullmatch(text) is not None
