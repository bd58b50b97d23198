"""The libraries of which private members are used are as they were tested; if they are not, that is found."""

import pytest
from asyncpg import Connection
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tracking.http.protocol import HTTPTOOLS, UVICORN
from tracking.infra.copy_binary import ASYNCPG
from tracking.infra.private_members import PrivateMembers

ADVICE = {
    "asyncpg": "Set ASYNCPG of libs/tracking/infra/copy_binary.py to the new version, run "
    "tests/integration/test_copy_binary.py and test_row_errors.py, and measure the gain again "
    '(docs/benchmarks.md, "Private members").',
    "uvicorn": "Compare uvicorn/protocols/http/httptools_impl.py with the tested version, set UVICORN of "
    "libs/tracking/http/protocol.py to the new one, and run tests/integration/test_gateway_fast_path.py, "
    "test_slow_clients.py, test_hostile_input.py and test_plain_libraries.py.",
    "httptools": "Set HTTPTOOLS of libs/tracking/http/protocol.py to the new version and run "
    "tests/integration/test_slow_clients.py, test_hostile_input.py and test_sdks_captured.py.",
}


@pytest.mark.parametrize(
    ("library", "members"), [("asyncpg", ASYNCPG), ("uvicorn", UVICORN), ("httptools", HTTPTOOLS)], ids=ADVICE
)
def test_the_installed_library_is_as_it_was_tested(library: str, members: PrivateMembers) -> None:
    assert members.find_differences() == [], f"Until then the public way is used. {ADVICE[library]}"


def test_another_version_and_a_missing_member_are_found() -> None:
    members = PrivateMembers(
        "uvicorn", "0.1", {HttpToolsProtocol: ("cycle", "no_such_member"), Connection: ("_transport",)}
    )

    version, member = members.find_differences()

    assert version.startswith("uvicorn is 0.")
    assert version.endswith("tested was 0.1")
    assert member == "uvicorn: HttpToolsProtocol has no no_such_member"


def test_a_difference_is_logged_once_and_forbids_the_use(caplog: pytest.LogCaptureFixture) -> None:
    members = PrivateMembers("uvicorn", "0.1", {})

    assert not members.is_usable()
    assert not members.is_usable()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
