"""The columns of `write.tracking_events` and `read.tracking_events_read_model`: COPY encoders and SELECT lists.

Both come from `tracking.domain.event_fields`, at import: statements contain names of columns and no value.
"""

from collections.abc import Iterable, Mapping

from tracking.domain.event_fields import list_fields
from tracking.domain.tracking_event import PostgresType
from tracking.infra import copy_binary
from tracking.infra.copy_binary import Encoder

_ENCODERS_BY_TYPE: Mapping[PostgresType, Encoder] = {
    "uuid": copy_binary.encode_uuids,
    "text": copy_binary.encode_texts,
    "timestamptz": copy_binary.encode_timestamps,
    "jsonb": copy_binary.encode_jsonb_values,
    "integer": copy_binary.encode_integers,
    "boolean": copy_binary.encode_booleans,
}
# in a message these are text
_TEXT_ENCODERS_BY_TYPE: Mapping[PostgresType, Encoder] = {
    **_ENCODERS_BY_TYPE,
    "uuid": copy_binary.encode_uuids_from_text,
    "timestamptz": copy_binary.encode_timestamps_from_text,
    "jsonb": copy_binary.encode_jsonb_from_text,
}

# of TrackingEvent, in the order of its fields
WRITE_ENCODERS: Mapping[str, Encoder] = {
    field.name: _ENCODERS_BY_TYPE[field.postgres_type] for field in list_fields("write table")
}
# of an event as its message has it, and of what the read model adds
READ_ENCODERS: Mapping[str, Encoder] = {
    field.name: (_TEXT_ENCODERS_BY_TYPE if "message" in field.places else _ENCODERS_BY_TYPE)[field.postgres_type]
    for field in list_fields("read table")
}


def compose_select(columns: Iterable[str], rest: str) -> str:
    """The statement `select columns`, followed by `rest`, which begins with from.

    For constants at import: all arguments are text of the program, and parameters of a statement are `$1` in `rest`.
    """
    return "\n".join(("select " + ",\n       ".join(columns), rest))
