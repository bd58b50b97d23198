"""A secret is found by its SHA-256 or compared in constant time: `==` would tell how much of a guess is right."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECRETS = {"secret", "token", "password", "digest", "sha256", "signature", "apikey", "bearer", "hmac"}


def words(node: ast.expr) -> set[str]:
    """The words of what the expression is called: of `a.token_sha256` token and sha256, of `digest(x)` digest and x."""
    if isinstance(node, ast.Call):
        return words(node.func).union(*map(words, node.args))
    if isinstance(node, ast.Subscript):
        return words(node.value) | words(node.slice)
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    if isinstance(node, ast.Constant):
        name = str(node.value)
    return {*name.lower().split("_"), name.lower().replace("_", "")}


def comparisons(source: str) -> list[int]:
    """The lines in which a secret is compared with == or !=, or looked for in a list or text."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            compared = [node.left, *node.comparators]
            is_with_constant = any(isinstance(other, ast.Constant) for other in compared)
            is_equals = any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops)
            if is_equals and not is_with_constant and any(words(side) & SECRETS for side in compared):
                found.append(node.lineno)
    return found


@pytest.mark.parametrize("folder", ["services", "libs", "deploy"])
def test_no_secret_is_compared_with_equals(folder: str) -> None:
    found = {
        str(file.relative_to(ROOT)): lines
        for file in sorted((ROOT / folder).rglob("*.py"))
        if (lines := comparisons(file.read_text()))
    }

    assert found == {}


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("a = token == given", [1]),
        ("if entry.key_sha256 != digest(x): pass", [1]),
        ("compare_digest(token, given)", []),
        ("token == ''", []),
        ("api_key == other", [1]),
        ("name == other", []),
        ("token.name == other.name", []),
        ("row['token'] == given", [1]),
        ("sha256(given.encode()).digest() == row.kept", [1]),
    ],
)
def test_the_look_finds_what_it_should(source: str, lines: list[int]) -> None:
    assert comparisons(source) == lines
