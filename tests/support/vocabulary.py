"""The rules of docs/glossary.md for names, as functions that read source text and return what breaks them.

Each problem is a line that names what is wrong; a source without one gives an empty list. A name is taken apart at
underscores and capitals, and words are compared whole and in lower case: `HTTPEdge2` has the words http and edge.
"""

import ast
import re
import sys
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import StringIO

Function = ast.FunctionDef | ast.AsyncFunctionDef

_EMPTY_MODULE_WORDS = frozenset({"utils", "helpers", "common", "base", "manager", "misc"})
# Leaf names that a module may share with the standard library, as all imports are absolute.
_STANDARD_NAMES_ALLOWED = frozenset({"http", "statistics"})
# Properties and context managers may be nouns, and so participles.
_NOUN_DECORATORS = frozenset(
    {"property", "cached_property", "setter", "deleter", "contextmanager", "asynccontextmanager"}
)
# Verbs that end as a participle does.
_VERBS_IN_ED = frozenset({"embed", "exceed", "feed", "need", "proceed", "seed", "speed", "succeed"})
_VERBS_IN_ING = frozenset({"bring", "ping"})
# Participles without an ending of their own. Those that are the same word as their verb (put, read, set) are no harm.
_IRREGULAR_PARTICIPLES = frozenset({
    "begun", "bound", "bought", "broken", "brought", "built", "caught", "chosen", "done", "drawn", "driven", "fallen",
    "forgotten", "found", "frozen", "given", "gone", "grown", "heard", "held", "hidden", "kept", "known", "left",
    "lost", "made", "meant", "met", "overridden", "paid", "proven", "rebuilt", "resent", "rewritten", "said", "seen",
    "sent", "shaken", "shown", "spent", "stolen", "swept", "taken", "thought", "thrown", "told", "understood", "undone",
    "unknown", "unseen", "unsent", "withdrawn", "worn", "written",
})  # fmt: skip
_CONSTANT_WORDS = frozenset(
    {"most", "longest", "heaviest", "deepest", "widest", "least", "enough", "every", "again", "pace", "patience"}
)
_WORD = re.compile(r"`(\w+)`")
_PERSONS = re.compile(r"\b(?:[Ww]e|us|[Oo]urs?|[Oo]urselves|[Ww]hoever)\b")
_SQL = re.compile(
    r"\s*(?:(select)\s|(insert)\s+into\s|(update)\s+[\w.]+(?:\s+as)?(?:\s+\w+)?\s+set\s|(delete)\s+from\s"
    r"|(with)\s+(?:recursive\s+)?\w+\s*(?:\([^)]*\)\s*)?as\b)",
    re.IGNORECASE,
)
# A call for its effect has no word of SQL for it, so its constant is named after the function: _CREATE_PARTITION.
_SQL_CALL = re.compile(r"\s*select\s+[\w.]+\([^()]*\)\s*", re.IGNORECASE)
_SQL_VERBS: Mapping[str, frozenset[str]] = {
    "select": frozenset({"select", "count", "lock"}),
    "insert": frozenset({"insert", "upsert"}),
    "update": frozenset({"update"}),
    "delete": frozenset({"delete"}),
    "with": frozenset({"select", "count", "lock", "insert", "upsert", "update", "delete"}),
}


@dataclass(frozen=True, slots=True)
class RetiredWords:
    """`anywhere` in a name, `first` as the first word of a function; the latter with the package that may use it."""

    anywhere: frozenset[str]
    first: Mapping[str, str | None] = field(default_factory=dict)


def parse_retired_words(glossary: str) -> RetiredWords:
    """The section `## Retired words`. Raises ValueError unless it has both of its tables.

    They stand under `### Anywhere in a name` and `### As the first word of a function`; the first column has the words
    in backticks. A package in backticks after "in" in the second column may go on using the word.
    """
    section = re.search(r"^## Retired words\b.*?\n(.*?)(?=^## |\Z)", glossary, re.MULTILINE | re.DOTALL)
    tables = dict(re.findall(r"^### (.+?)\n(.*?)(?=^### |\Z)", section[1] if section else "", re.MULTILINE | re.DOTALL))
    rows = {title: re.findall(r"^\| (`.+?) \| (.+) \|$", text, re.MULTILINE) for title, text in tables.items()}
    anywhere, first = rows.get("Anywhere in a name"), rows.get("As the first word of a function")
    if not anywhere or not first:
        raise ValueError("the glossary has no section 'Retired words' with both of its tables")
    packages = {
        word: re.search(r"\bin `([\w.]+)`", instead) for words, instead in first for word in _WORD.findall(words)
    }
    return RetiredWords(
        frozenset(word for words, _ in anywhere for word in _WORD.findall(words)),
        {word: found and found[1] for word, found in packages.items()},
    )


def split_words(name: str) -> list[str]:
    """The words of a name in lower case."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def find_retired_words(source: str, module: str, retired: RetiredWords) -> list[str]:
    """Classes and functions, nested ones too, and the last part of the module's name."""
    problems = [f"module {module}: {word}" for word in _list_retired(module.rpartition(".")[2], retired)]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef | Function):
            kind = "class" if isinstance(node, ast.ClassDef) else "function"
            words = _list_retired(node.name, retired)
            first = split_words(node.name)[:1]
            if kind == "function" and first and first[0] in retired.first:
                allowed = retired.first[first[0]]
                words += [] if allowed and f"{module}.".startswith(f"{allowed}.") else first
            problems += [f"{kind} {node.name}: {word}" for word in words]
    return problems


def _list_retired(name: str, retired: RetiredWords) -> list[str]:
    return [word for word in split_words(name) if word in retired.anywhere]


def find_classes(source: str) -> list[str]:
    """Names of all classes, private and nested ones too, so that a search for a name finds one class."""
    return [node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]


def find_participles(source: str) -> list[str]:
    """Public functions and methods whose first word is a participle, past or present.

    Functions inside functions are not public. What a library calls by its name (`connection_made`, `data_received`)
    has its participle at the end, where a verb may have one too (`mark_published`), so only the first word is read.
    """
    return [
        f"function {node.name}"
        for node in _list_public_functions(ast.parse(source))
        if _is_participle(split_words(node.name)[0]) and not _is_noun(node)
    ]


def _list_public_functions(parent: ast.Module | ast.ClassDef) -> Iterator[Function]:
    for node in parent.body:
        if isinstance(node, ast.ClassDef):
            yield from _list_public_functions(node)
        elif isinstance(node, Function) and not node.name.startswith("_"):
            yield node


def _is_participle(word: str) -> bool:
    if word in _IRREGULAR_PARTICIPLES:
        return True
    return (word.endswith("ed") and word not in _VERBS_IN_ED) or (word.endswith("ing") and word not in _VERBS_IN_ING)


def _is_noun(function: Function) -> bool:
    names = {ast.unparse(decorator).partition("(")[0].rpartition(".")[2] for decorator in function.decorator_list}
    return not names.isdisjoint(_NOUN_DECORATORS)


def find_bad_module_name(module: str) -> list[str]:
    """A name that says nothing, or that a module of the standard library has."""
    leaf = module.rpartition(".")[2]
    problems = [f"module {module}: {word}" for word in split_words(leaf) if word in _EMPTY_MODULE_WORDS]
    if leaf in sys.stdlib_module_names - _STANDARD_NAMES_ALLOWED and not leaf.startswith("__"):
        problems.append(f"module {module}: the standard library has {leaf}")
    return problems


def find_what_docstrings(source: str) -> list[str]:
    """Docstrings that open with "What"."""
    return [f"line {line}: {text[:60]}" for line, text in _list_docstrings(source) if re.match(r"What\b", text)]


def find_persons(source: str) -> list[str]:
    """Docstrings and comments in the first person, or with "whoever"."""
    tokens = tokenize.generate_tokens(StringIO(source).readline)
    comments = [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]
    return [
        f"line {line}: {text[max(0, found.start() - 20) : found.end() + 20]}"
        for line, text in [*_list_docstrings(source), *comments]
        for found in _PERSONS.finditer(text)
    ]


def _list_docstrings(source: str) -> list[tuple[int, str]]:
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Module | ast.ClassDef | Function)]
    return [(getattr(node, "lineno", 1), ast.get_docstring(node) or "") for node in nodes]


def find_bad_constants(source: str) -> list[str]:
    """Constants of modules and classes: SQL without its verb in front, and words that units and MAX have replaced."""
    problems = []
    for name, value in _list_constants(ast.parse(source)):
        words = split_words(name)
        problems += [f"constant {name}: {word}" for word in words if word in _CONSTANT_WORDS]
        if "AT_ONCE" in name:
            problems.append(f"constant {name}: AT_ONCE")
        text = _read_start(value)
        sql = _SQL.match(text)
        if sql is not None and not _SQL_CALL.fullmatch(text):
            verbs = _SQL_VERBS[next(verb for verb in sql.groups() if verb).lower()]
            if len(words) < 2 or words[0] not in verbs:
                problems.append(f"constant {name}: SQL that begins with none of {', '.join(sorted(verbs)).upper()}")
    return problems


def _list_constants(parent: ast.Module | ast.ClassDef) -> Iterator[tuple[str, ast.expr | None]]:
    for node in parent.body:
        if isinstance(node, ast.ClassDef):
            yield from _list_constants(node)
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            if isinstance(target, ast.Name) and target.id.isupper() and isinstance(node, ast.Assign | ast.AnnAssign):
                yield target.id, node.value


def _read_start(value: ast.expr | None) -> str:
    """The text with which a string begins, also one with values in it or one that is put together; else nothing."""
    match value:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=[first, *_]) | ast.BinOp(left=first):
            return _read_start(first)
    return ""
