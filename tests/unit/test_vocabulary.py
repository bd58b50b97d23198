"""Names in services and libs are those of docs/glossary.md: no retired word, no class twice, functions are verbs."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.vocabulary import (
    RetiredWords,
    find_bad_constants,
    find_bad_module_name,
    find_classes,
    find_participles,
    find_persons,
    find_retired_words,
    find_what_docstrings,
    parse_retired_words,
    split_words,
)

ROOT = Path(__file__).parents[2]
GLOSSARY = ROOT / "docs" / "glossary.md"
RETIRED = RetiredWords(frozenset({"shed", "chunk", "chunks"}), {"checked": None, "settle": "tracking.worker"})


def name_module(file: Path) -> str:
    """As it is imported; a package is named for its folder."""
    path = file.relative_to(ROOT / "libs" if file.is_relative_to(ROOT / "libs") else ROOT)
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


FILES = sorted(file for folder in ("services", "libs") for file in (ROOT / folder).rglob("*.py"))
SOURCES = {name_module(file): file.read_text() for file in FILES}


def find_all(find: Callable[[str], list[str]]) -> list[str]:
    return [f"{module}: {problem}" for module, source in SOURCES.items() for problem in find(source)]


def test_no_name_has_a_retired_word() -> None:
    retired = parse_retired_words(GLOSSARY.read_text())

    problems = [
        f"{module}: {problem}"
        for module, source in SOURCES.items()
        for problem in find_retired_words(source, module, retired)
    ]

    assert problems == []


def test_no_class_is_defined_twice() -> None:
    modules = defaultdict(list)
    for module, source in SOURCES.items():
        for name in find_classes(source):
            modules[name].append(module)

    assert {name: places for name, places in modules.items() if len(places) > 1} == {}


def test_no_public_function_is_a_participle() -> None:
    assert find_all(find_participles) == []


def test_module_names_say_something_and_are_no_standard_ones() -> None:
    assert [problem for module in SOURCES for problem in find_bad_module_name(module)] == []


def test_no_docstring_opens_with_what() -> None:
    assert find_all(find_what_docstrings) == []


def test_no_docstring_or_comment_is_in_the_first_person() -> None:
    assert find_all(find_persons) == []


def test_constants_have_the_verb_of_their_sql_and_the_words_for_limits_and_times() -> None:
    assert find_all(find_bad_constants) == []


def test_the_rules_see_all_modules() -> None:
    assert {"services.gateway", "services.gateway.__main__", "tracking.domain.errors", "tracking_client"} <= set(
        SOURCES
    )
    assert len(SOURCES) > 100


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("take_known", ["take", "known"]),
        ("_ShedLoad", ["shed", "load"]),
        ("HTTPEdge2", ["http", "edge"]),
        ("_MOST_BYTES", ["most", "bytes"]),
        ("__init__", ["init"]),
        ("_", []),
    ],
)
def test_a_name_is_taken_apart_at_underscores_and_capitals(name: str, words: list[str]) -> None:
    assert split_words(name) == words


def test_retired_words_are_read_from_their_section() -> None:
    text = """# Glossary
| `nothing` | a word of another section |

## Retired words
A sentence about them.

### Anywhere in a name

| word | write instead |
|---|---|
| `shed` | load shedding |
| `chunk`, `chunks` | group |

### As the first word of a function

| word | write instead |
|---|---|
| `checked` | check |
| `settle` | it remains for deliveries in `tracking.worker` |

## Another section
| `event` | a word of another section |
"""

    assert parse_retired_words(text) == RETIRED


@pytest.mark.parametrize("text", ["", "## Retired words\n### Anywhere in a name\n| `shed` | load shedding |\n"])
def test_a_glossary_without_its_lists_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse_retired_words(text)


@pytest.mark.parametrize(
    ("source", "module", "problems"),
    [
        ("class _LoadShed: ...", "a.b", ["class _LoadShed: shed"]),
        ("def f():\n  def shed_it(): ...", "a.b", ["function shed_it: shed"]),
        ("class A:\n  async def read_chunks(self): ...", "a.b", ["function read_chunks: chunks"]),
        ("", "a.shed", ["module a.shed: shed"]),
        ("def _checked_text(): ...", "a.b", ["function _checked_text: checked"]),
        ("def settle(): ...", "tracking.workers", ["function settle: settle"]),
        ("def settle(): ...", "tracking.worker", []),
        ("def settle(): ...", "tracking.worker.inbox", []),
        ("class Checked: ...\ndef is_checked(shed): ...", "shed.watershed", []),
    ],
)
def test_a_retired_word_is_found(source: str, module: str, problems: list[str]) -> None:
    assert find_retired_words(source, module, RETIRED) == problems


def test_private_and_nested_classes_are_found() -> None:
    assert find_classes("class _A:\n  class B: ...\ndef f():\n  class C: ...") == ["_A", "B", "C"]


@pytest.mark.parametrize("name", ["settled", "shown", "linked_ids", "known_error", "running", "unsent", "taken_in"])
def test_a_participle_is_found(name: str) -> None:
    assert find_participles(f"def {name}(): ...") == [f"function {name}"]
    assert find_participles(f"class _A:\n  async def {name}(self): ...") == [f"function {name}"]


@pytest.mark.parametrize(
    "source",
    [
        "def ping(): ...\ndef need_more(): ...\ndef read_rows(): ...\ndef put(): ...",
        "def mark_published(): ...\ndef is_known(): ...\ndef data_received(): ...\ndef find_unfinished(): ...",
        "def _settled(): ...\ndef f():\n  def settled(): ...",
        "class A:\n  @property\n  def settled(self): ...\n  @settled.setter\n  def settled(self, value): ...",
        "@contextlib.asynccontextmanager\nasync def running(): ...\n@contextmanager\ndef opened(): ...",
        "class A:\n  @functools.cached_property\n  def shown(self): ...",
    ],
)
def test_verbs_properties_and_context_managers_are_no_participles(source: str) -> None:
    assert find_participles(source) == []


@pytest.mark.parametrize("module", ["services.utils", "tracking.infra.http_helpers", "services.query.select", "a.io"])
def test_a_bad_module_name_is_found(module: str) -> None:
    assert len(find_bad_module_name(module)) == 1


@pytest.mark.parametrize("module", ["tracking.http", "services.statistics", "services.gateway.__main__", "a.database"])
def test_a_good_module_name_is_left_alone(module: str) -> None:
    assert find_bad_module_name(module) == []


def test_a_docstring_that_opens_with_what_is_found() -> None:
    source = (
        '"""What is here."""\nclass A:\n  """What an A is."""\n  def f(self):\n    """Whatever."""\n'
        'def g():\n  "What g does."'
    )

    assert find_what_docstrings(source) == ["line 1: What is here.", "line 2: What an A is.", "line 6: What g does."]


def test_the_first_person_is_found_in_docstrings_and_comments() -> None:
    source = '"""Ours to keep."""\n\n\ndef f():\n  """For whoever asks us."""\n  return 1  # we know; a bus, 3 µs, US\n'

    assert find_persons(source) == [
        "line 1: Ours to keep.",
        "line 4: For whoever asks us.",
        "line 4: For whoever asks us.",
        "line 6: # we know; a bus, 3 µs, ",
    ]


def test_other_strings_are_no_prose() -> None:
    assert find_persons('TEXT = "we and whoever else"\nours = 1\n') == []


@pytest.mark.parametrize(
    "source",
    [
        '_PAGE = """\nselect 1\n"""',
        '_MARK_USED = "update write.api_keys set a = 1"',
        '_SELECT_OLD = "delete from a"',
        'SELECT = "select 1"',
        '_CALLED = "select f(1) from a"',
        '_ROWS = "with wanted as (select 1) select 2"',
        '_ROWS: Final = f"insert into {TABLE} values (1)"',
        '_ROWS = "insert into a " + COLUMNS',
        'class A:\n  _ROWS = "select 1"',
        "_MOST_ENTRIES = 10",
        "EVERY_S: float = 1",
        "_LETTERS_AT_ONCE = 10",
    ],
)
def test_a_bad_constant_is_found(source: str) -> None:
    assert len(find_bad_constants(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        '_SELECT_PAGE = "select 1"\n_COUNT_EVENTS = "select count(*)"\nLOCK_ROW = "select 1 for update"',
        '_UPSERT_COUNTS = """\n  insert into a values (1)\n"""\n_DELETE_EMPTY = "with a as (select) delete from b"',
        '_HELP = "select"\n_HELP = "With all of them"\n_HELP = "Update everything"\n_HELP = "with care"',
        '_CREATE_PARTITION = "select write.create_partition($1, $2)"\n_TRY_LOCK = """\nselect pg_try_lock($1)\n"""',
        "_MAX_ENTRIES = 10\nmost = 3\n_TICK_INTERVAL_S = 1",
        'def f():\n  TEXT = "select 1"',
    ],
)
def test_a_good_constant_is_left_alone(source: str) -> None:
    assert find_bad_constants(source) == []
