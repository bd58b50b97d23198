"""Patterns as people write them: classes of Unicode, counted classes, and the reasons against those too large."""

import pytest

from tracking.domain.errors import Malformed
from tracking.infra.validation import check_schema
from tracking.infra.validation.formats import is_uri, is_uri_reference
from tracking.infra.validation.patterns import PatternError, compile_pattern


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (r"^\p{L}+$", ["abc", "Zürich", "日本", "Ω"], ["", "a1", "a b"]),
        (r"^\p{Lu}\p{L}*$", ["Ab", "Äb"], ["ab", "1"]),
        (r"^[\p{L}\p{N} .'-]{1,50}$", ["O'Brien 2", "é" * 50], ["", "é" * 51, "a_b"]),
        (r"^\p{Letter}$", ["a"], ["1"]),
        (r"^\p{Decimal_Number}{2}$", ["12", "٣٤"], ["1", "123", "ab"]),
        (r"^\p{gc=Lu}$", ["A"], ["a"]),
        (r"^\p{General_Category=Uppercase_Letter}$", ["A"], ["a"]),
        (r"^\p{Script=Greek}+$", ["αβγ"], ["abc"]),
        (r"^\p{sc=Latin}+$", ["abc"], ["αβγ"]),
        (r"^\P{L}+$", ["123"], ["a"]),
        (r"^[^\p{L}]+$", ["123"], ["a"]),
        (r"^.{0,255}$", ["", "x" * 255, "é" * 255], ["x" * 256, "a\nb"]),
        (r"^.{1,1000}$", ["x" * 1000], ["", "x" * 1001]),
        (r"^.{3}$", ["abc", "äöü"], ["ab", "abcd"]),
        (r"^.{2,}$", ["ab", "x" * 5000], ["a"]),
        (r"^\S{1,255}$", ["abc"], ["a b", ""]),
        (r"^[^<>]{0,500}$", ["a", ""], ["<", "a" * 501]),
        (r"^[\]a]{1,2}$", ["]a"], ["]]a", "b"]),
        (r"^\d{0}$", [""], ["1"]),
        (r"^\.{2}$", [".."], ["ab", "."]),
        (r"^\u{1F600}$", ["😀"], ["u"]),
        (r"^[\u{1F600}-\u{1F64F}]{1,3}$", ["😀😁"], ["a", "😀" * 4]),
        (r"^\u00e9\xe9$", ["éé"], ["ee"]),
        (r"^a.{0,3}b$", ["ab", "axxxb"], ["axxxxb"]),
    ],
)
def test_a_pattern_means_what_ecma_262_says(pattern: str, good: list[str], bad: list[str]) -> None:
    compiled = compile_pattern(pattern)

    assert [text for text in good if compiled.search(text) is None] == []
    assert [text for text in bad if compiled.search(text) is not None] == []
    check_schema({"pattern": pattern})


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (r"^(\p{L}|\d){2,30}$", r"steps, and the limit is 6000.*class of Unicode letters takes 1 200"),
        (r"^(a.{1,500}){1,5}$", "limit|invalid repetition|too large"),
        (r"^.{5,2}$", "second number is smaller"),
        (r"\p{Emoji}", r"\\p\{Emoji\}"),
        (r"\p{Alphabetic}", r"\\p\{Alphabetic\}"),
        (r"\p", "name of a property"),
        (r"\p{blk=Greek}", "general categories and scripts"),
        (r"\p{LC}", r"write \[\\p\{Lu\}"),
        (r"\u{110000}", "hexadecimal|range|escape"),
        (r"\u12", "hexadecimal"),
        (r"\ud800", "surrogate"),
        (r"(?=a)", "look-around"),
    ],
)
def test_what_cannot_be_run_is_refused_with_the_reason(pattern: str, said: str) -> None:
    with pytest.raises(PatternError, match=said):
        compile_pattern(pattern)


def test_a_counted_class_costs_no_more_than_the_class() -> None:
    assert compile_pattern(r"^.{0,255}$").programsize == compile_pattern("^.*$").programsize
    assert compile_pattern(r"^[\p{L} ]{1,50}$").programsize == compile_pattern(r"^[\p{L} ]*$").programsize


@pytest.mark.parametrize(
    ("schema", "place", "said"),
    [
        ({"type": "string", "nullable": True}, "#/nullable", r'"type": \["string", "null"\]'),
        ({"properties": {"a": {"nullable": True}}}, "#/properties/a/nullable", "draft-07"),
        ({"$schema": "https://json-schema.org/draft/2020-12/schema"}, "#/$schema", "prefixItems becomes items"),
        ({"$schema": "https://json-schema.org/draft/2019-09/schema"}, "#/$schema", "draft-07"),
        ({"prefixItems": [{}]}, "#/prefixItems", "items with an array"),
        ({"dependentRequired": {"a": ["b"]}}, "#/dependentRequired", "dependencies, with an array"),
        ({"dependentSchemas": {"a": {}}}, "#/dependentSchemas", "dependencies, with a schema"),
        ({"unevaluatedProperties": False}, "#/unevaluatedProperties", "additionalProperties"),
        ({"$dynamicRef": "#a"}, "#/$dynamicRef", r"\$ref"),
        ({"minContains": 2}, "#/minContains", "at least one"),
        ({"exampel": 1}, "#/exampel", "x-"),
    ],
)
def test_a_schema_of_another_dialect_is_refused_with_the_way_to_write_it(schema: object, place: str, said: str) -> None:
    with pytest.raises(Malformed, match=said) as rejection:
        check_schema(schema)

    assert rejection.value.details[0]["field"] == place


@pytest.mark.parametrize(
    "text",
    [
        *(
            "http://example.com",
            "https://user:pw@example.com:8080/a/b?c=d&e#f",
            "http://[2001:db8::1]:80/",
            "urn:isbn:0",
        ),
        *("mailto:a@b.example", "tel:+1-816-555-1212", "file:///etc/hosts", "http://", "a:", "data:text/plain,x%20y"),
        *("http://[v7.a:b]/", "http://ex%C3%A4mple.com/", "ldap://[2001:db8::7]/c=GB?objectClass?one", "x:/?/?#/?"),
    ],
)
def test_a_uri_is_what_rfc_3986_says(text: str) -> None:
    assert is_uri(text)
    assert is_uri_reference(text)


@pytest.mark.parametrize(
    "text",
    [
        *("http://exa mple.com", "http://example.com:port/", "http://[::1", "http://::1]/", "http://[1.2.3.4]/"),
        *(
            "http://a/%zz",
            "http://a/%2",
            "http://a/[b]",
            "http://a?b[c]",
            "http://a#b#c",
            "1http://a",
            ":a",
            "http://ä.de",
        ),
        *("http://a@b@c/", "http://a\\b", "http://a/\n", "http://a/<b>", 'http://a/"', "http://a/{b}", "http://a:1:2/"),
    ],
)
def test_what_is_no_uri_is_told_apart(text: str) -> None:
    assert not is_uri(text)
    assert not is_uri_reference(text)


@pytest.mark.parametrize("text", ["", "/a", "a/b", "//host/a", "?q", "#f", "./a:b", "a/b:c", "../..", "?a:b"])
def test_a_reference_needs_no_scheme_and_a_uri_does(text: str) -> None:
    assert is_uri_reference(text)
    assert not is_uri(text)
