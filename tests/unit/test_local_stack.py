"""The local stack's decisions: ports, counts, and the environment of each service."""

from pathlib import Path

import pytest

from deploy.local import LocalStackError
from deploy.local.layout import Layout, ports_from
from deploy.local.services import MAX_PROCESSES, SERVICES, make_environment
from deploy.local.supervisor import HEAD, keep_logs_private


def layout(processes: int = 1) -> Layout:
    return Layout(ports_from({}, {}), dict.fromkeys(SERVICES, processes), {}, {})


class Addresses:
    redis_url = "redis://cache"
    rabbitmq_url = "amqp://broker"

    def write_url(self, role: str) -> str:
        return f"postgresql://tracking_{role}@write"

    def read_url(self, role: str) -> str:
        return f"postgresql://tracking_{role}@read"


def test_no_two_processes_share_a_port_when_every_service_is_scaled_up() -> None:
    full = layout(MAX_PROCESSES)

    ports = [full.service_port(service, index) for service in SERVICES for index in range(MAX_PROCESSES)]

    assert len(set(ports)) == len(SERVICES) * MAX_PROCESSES
    assert not set(ports) & {full.ports[name] for name in ("postgres", "redis", "rabbitmq", "epmd")}


def test_a_name_moves_one_port_and_the_offset_all_others() -> None:
    ports = ports_from({}, {"TRACKING_LOCAL_PORT_OFFSET": "1000", "TRACKING_LOCAL_REDIS_PORT": "7000"})

    assert ports["redis"] == 7000
    assert ports["postgres"] == 16432
    assert ports["gateway"] == 9001


def test_ports_of_the_last_start_stay_until_the_environment_moves_them() -> None:
    moved = ports_from({"gateway": 9001}, {})
    moved_again = ports_from({"gateway": 9001}, {"TRACKING_LOCAL_GATEWAY_PORT": "9500"})

    assert moved["gateway"] == 9001
    assert moved_again["gateway"] == 9500


@pytest.mark.parametrize("value", ["", "x", "0", "65536", "-1"])
def test_what_is_no_port_is_rejected_with_the_variables_name(value: str) -> None:
    with pytest.raises(LocalStackError, match="TRACKING_LOCAL_REDIS_PORT"):
        ports_from({}, {"TRACKING_LOCAL_REDIS_PORT": value})


@pytest.mark.parametrize("count", ["", "0", "x", "-1", str(MAX_PROCESSES + 1), "²"])
def test_a_count_that_cannot_be_is_rejected(count: str) -> None:
    with pytest.raises(LocalStackError, match="N is"):
        layout().scale("gateway", count)


def test_an_unknown_service_is_rejected_with_the_names_there_are() -> None:
    with pytest.raises(LocalStackError, match="gateway, admin, query, projector, statistics, relay"):
        layout().scale("gatway", "2")


def test_each_service_is_told_what_it_may_open_and_nothing_else() -> None:
    told = {name: make_environment(name, Addresses(), 1, "tk_secret") for name in SERVICES}

    assert {name for name in SERVICES if "TRACKING_WRITE_DATABASE_URL" in told[name]} == {
        "gateway",
        "relay",
        "admin",
        "query",
    }
    assert {name for name in SERVICES if "TRACKING_READ_DATABASE_URL" in told[name]} == {
        "relay",
        "projector",
        "statistics",
        "query",
    }
    assert {name for name in SERVICES if "tk_secret" in told[name].values()} == {"admin"}


def test_each_service_enters_the_databases_in_its_own_role() -> None:
    for name in SERVICES:
        urls = [value for key, value in make_environment(name, Addresses(), 1, "").items() if "DATABASE" in key]

        assert urls
        assert all(f"tracking_{name}@" in url for url in urls)


def test_only_the_owner_may_read_the_logs_also_those_of_an_earlier_start(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir(mode=0o755)
    (logs / "query.log").write_text("")
    (logs / "query.log").chmod(0o644)

    keep_logs_private(logs)

    assert [path.stat().st_mode & 0o777 for path in (logs, logs / "query.log")] == [0o700, 0o600]
    assert "umask=077" in HEAD
