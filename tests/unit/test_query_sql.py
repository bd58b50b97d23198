"""How statements are composed: values by name, never as text; and a condition for every filter."""

import ast
from dataclasses import fields
from pathlib import Path

import pytest

from services.query.conditions import EventFilters, compare_filters, match_filters
from services.query.sql import Fragment, Statement, match_all

QUERY = Path(__file__).parents[2] / "services" / "query"


def test_a_value_is_one_parameter_however_often_it_is_mentioned() -> None:
    statement = Fragment("select :a where :b < :a", a=1, b=2)

    assert statement.render() == Statement("select $1 where $2 < $1", [1, 2])


def test_a_value_never_becomes_text() -> None:
    hostile = "'; drop table events; -- :a $1"

    assert Fragment("select :value", value=hostile).render() == Statement("select $1", [hostile])


def test_a_cast_is_no_placeholder() -> None:
    assert Fragment("select :a::text, b::uuid", a=1).render().text == "select $1::text, b::uuid"


def test_a_fragment_inside_may_use_the_values_around_it() -> None:
    condition = Fragment(":column = :value and system = :system", column=Fragment("name"), value="x")

    statement = Fragment("select :limit where :condition", condition=condition, system="s", limit=3)

    assert statement.render() == Statement("select $1 where name = $2 and system = $3", [3, "x", "s"])


def test_equal_names_in_fragments_side_by_side_are_different_values() -> None:
    either = Fragment(":a or :b", a=Fragment("n = :n", n=1), b=Fragment("n = :n", n=1))

    assert either.render() == Statement("n = $1 or n = $2", [1, 1])


def test_the_value_of_a_fragment_hides_that_of_the_same_name_around_it() -> None:
    statement = Fragment(":inside and :n = 2", inside=Fragment(":n = 1", n=1), n=2)

    assert statement.render() == Statement("$1 = 1 and $2 = 2", [1, 2])


def test_all_conditions_are_kept_apart_and_none_are_true() -> None:
    assert match_all([Fragment("a or b"), Fragment("c")]).render().text == "(a or b)\n   and (c)"
    assert match_all([]).render().text == "true"


@pytest.mark.parametrize(
    ("fragment", "name"),
    [
        (Fragment("select :missing"), "missing"),
        (Fragment("select 1", unused=1), "unused"),
        (Fragment("select 1", unused=Fragment("2")), "unused"),
        # a fragment is given to its own text alone
        (Fragment(":a, :b", a=Fragment(":b"), b=Fragment("1")), "b"),
    ],
)
def test_a_name_without_a_value_and_a_value_without_a_name_are_errors(fragment: Fragment, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        fragment.render()


def test_each_filter_has_a_condition_with_its_value() -> None:
    for field in fields(EventFilters):
        value = f"value of {field.name}"
        filters = EventFilters(**{field.name: value})  # type: ignore[arg-type]

        for conditions in (match_filters(filters), compare_filters(filters)):
            text, arguments = Fragment(
                "select :conditions, :partner_system_id", conditions=match_all(conditions), partner_system_id=1
            ).render()
            assert field.name in text
            assert value in arguments


def test_filters_that_are_not_given_are_no_conditions() -> None:
    assert [*match_filters(EventFilters()), *compare_filters(EventFilters())] == []
    assert len([*match_filters(EventFilters(is_valid=False, is_bot=False))]) == 2


@pytest.mark.parametrize("file", sorted(QUERY.glob("*.py")), ids=lambda file: file.name)
def test_the_text_of_a_fragment_is_a_literal(file: Path) -> None:
    tree = ast.parse(file.read_text())
    literals = {
        node.targets[0].id
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.targets[0], ast.Name)
    }
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Fragment":
            text = call.args[0]
            is_literal = isinstance(text, ast.Constant) or (isinstance(text, ast.Name) and text.id in literals)
            assert is_literal or file.name == "sql.py", ast.unparse(call)
