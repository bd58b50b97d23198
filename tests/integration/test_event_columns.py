"""Each declared field of an event is a column of both tables, of the declared type, and nothing else is."""

import pytest

from tests.support.stack import Stack
from tracking.domain.event_fields import list_fields
from tracking.domain.tracking_event import Place

_SELECT_COLUMNS = """
select column_name, udt_name, is_nullable = 'YES' or column_default is not null as may_be_left_out
  from information_schema.columns
 where table_schema = $1
   and table_name = $2
"""
# as information_schema calls them
_UDT_NAMES = {"integer": "int4", "boolean": "bool"}


@pytest.mark.parametrize(
    ("place", "schema", "table"),
    [("write table", "write", "tracking_events"), ("read table", "read", "tracking_events_read_model")],
)
async def test_the_fields_of_an_event_are_the_columns_of_its_table(
    stack: Stack, place: Place, schema: str, table: str
) -> None:
    owner = await (stack.write() if schema == "write" else stack.read())

    columns = {row["column_name"]: row for row in await owner.fetch(_SELECT_COLUMNS, schema, table)}

    declared = {field.name: _UDT_NAMES.get(field.postgres_type, field.postgres_type) for field in list_fields(place)}
    assert {name: row["udt_name"] for name, row in columns.items()} == declared
    # processes of the previous version insert rows without a new field
    assert {name for name, row in columns.items() if row["may_be_left_out"]} <= {
        field.name for field in list_fields(place) if field.is_optional
    }
