"""A name that begins with an underscore belongs to its module: nothing in services or libs uses another module's.

Found are `from a import _b`, `from a import b` with `b._c` (`b` is a module, a class or an object) and `import a.b`
with `a.b._c`, for modules of this project. Private names of other libraries are not looked for.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = ("services", "tracking", "tracking_client")
# the public interface of a NamedTuple, which begins with an underscore so that no field is hidden by it
NAMED_TUPLE = frozenset({"_asdict", "_field_defaults", "_fields", "_make", "_replace"})


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in NAMED_TUPLE


def is_of_project(module: str | None) -> bool:
    return module is not None and module.split(".")[0] in PROJECT


def find_private_names(source: str) -> list[str]:
    """Each use of another module's private name, in the order of lines."""
    tree = ast.parse(source)
    imported: set[str] = set()
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level or is_of_project(node.module)):
            imported.update(alias.asname or alias.name for alias in node.names)
            found.extend((node.lineno, alias.name) for alias in node.names if is_private(alias.name))
        elif isinstance(node, ast.Import):
            imported.update(alias.asname or alias.name for alias in node.names if is_of_project(alias.name))
    found.extend(
        (node.lineno, ast.unparse(node))
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and is_private(node.attr) and ast.unparse(node.value) in imported
    )
    return [f"line {line}: {name}" for line, name in sorted(found)]


def test_no_module_uses_a_private_name_of_another() -> None:
    files = sorted(file for folder in ("services", "libs") for file in (ROOT / folder).rglob("*.py"))
    assert len(files) > 100

    problems = [
        f"{file.relative_to(ROOT)}: {problem}" for file in files for problem in find_private_names(file.read_text())
    ]

    assert problems == []


@pytest.mark.parametrize(
    ("source", "problems"),
    [
        ("from services.gateway.http.clock import _clock, get_receive_time", ["line 1: _clock"]),
        ("from tracking.infra import postgres as database\ndatabase._connect()", ["line 2: database._connect"]),
        ("from tracking.domain.partner import Partner\ndef f():\n  return Partner._new", ["line 3: Partner._new"]),
        ("import services.query.cursor\nservices.query.cursor._LIMIT", ["line 2: services.query.cursor._LIMIT"]),
        ("import tracking.domain.ids as ids\nids._build", ["line 2: ids._build"]),
        ("def f():\n  from . import a\n  return a._b", ["line 3: a._b"]),
    ],
)
def test_a_private_name_of_another_module_is_found(source: str, problems: list[str]) -> None:
    assert find_private_names(source) == problems


@pytest.mark.parametrize(
    "source",
    [
        "from tracking.domain.tracking_event import TrackingEvent\nTrackingEvent._fields",
        "from services.gateway import __main__",
        "from argparse import ArgumentParser, _SubParsersAction\nimport sys\nsys._getframe()",
        "class A:\n  def f(self):\n    return self._a, _b",
        "from tracking.infra.postgres import connect as _connect\n_connect()",
    ],
)
def test_other_names_are_left_alone(source: str) -> None:
    assert find_private_names(source) == []
