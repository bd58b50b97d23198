"""docker-compose.yml is checked as text, so that the checks run on a machine without a container engine too."""

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from pydantic_settings import BaseSettings

from services.admin.settings import AdminSettings
from services.cli.settings import CliSettings
from services.gateway.settings import GatewaySettings
from services.query.settings import QuerySettings
from services.relay.settings import RelaySettings
from services.statistics.settings import StatisticsSettings
from tracking.migrations.settings import MigrationSettings
from tracking.worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, Any] = COMPOSE["services"]
EXAMPLE = (ROOT / ".env.example").read_text()
SETTINGS: dict[str, type[BaseSettings]] = {
    "migrate": MigrationSettings,
    "gateway": GatewaySettings,
    "relay": RelaySettings,
    "projector": WorkerSettings,
    "statistics": StatisticsSettings,
    "admin": AdminSettings,
    "query": QuerySettings,
    "operate": CliSettings,
}
ONE_SHOTS = {"migrate", "edge-data", "operate"}
SECRET = re.compile(r"PASSWORD|TOKEN|PASS$|AUTH$|_URL$")


def test_it_suits_both_generations_of_compose() -> None:
    assert "version" not in COMPOSE
    assert "name" not in COMPOSE
    assert not [name for name, service in SERVICES.items() if "container_name" in service]


def test_only_the_five_official_images_and_our_own_are_named() -> None:
    images = {service["image"] for service in SERVICES.values()}

    assert images == {
        "postgres:18.6",
        "redis:7.4.9",
        "rabbitmq:4.3.5-management",
        "caddy:2.11.7",
        "${TRACKING_IMAGE:-volcanion-tracking:local}",
    }
    # a new version of a server comes with a commit, after its changes were read, and never with a restart
    servers = images - {"${TRACKING_IMAGE:-volcanion-tracking:local}"}
    assert all(re.fullmatch(r"[a-z]+:\d+\.\d+(\.\d+)?(-[a-z]+)?", image) for image in servers)
    bases = re.findall(r"^FROM (\S+)", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE)
    assert set(bases) == {"python:3.13-slim"}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_service_is_told_only_what_it_reads_and_all_that_it_needs(name: str) -> None:
    given = set(SERVICES[name]["environment"])
    fields = SETTINGS[name].model_fields

    assert given <= {f"TRACKING_{field.upper()}" for field in fields}
    assert given >= {f"TRACKING_{field.upper()}" for field, info in fields.items() if info.is_required()}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_service_listens_where_its_settings_say(name: str) -> None:
    default = SETTINGS[name].model_fields.get("port")

    assert SERVICES[name]["environment"].get("TRACKING_PORT") == (str(default.default) if default else None)


def test_no_secret_has_a_value_or_a_default() -> None:
    secrets = {
        f"{service}.{name}": value
        for service, described in SERVICES.items()
        for name, value in described.get("environment", {}).items()
        if SECRET.search(name)
    }
    without = {name: value for name, value in secrets.items() if not re.search(r"\$\{\w+:\?[^}]*\}", value)}

    assert len(secrets) > 20
    assert without == {}
    assert not re.findall(r"\$\{\w*(?:PASSWORD|TOKEN)\w*(?:\}|:?-)", TEXT)


def test_every_variable_is_explained_in_the_example() -> None:
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", TEXT))
    passed_on = set(re.findall(r"^\s+(TRACKING_\w+):$", TEXT, re.MULTILINE))
    explained = set(re.findall(r"^#?(\w+)=", EXAMPLE, re.MULTILINE))

    assert (used | passed_on) - {"TRACKING_IMAGE"} == explained


def test_everything_that_stays_has_a_health_check_and_a_log_that_ends() -> None:
    for name, service in SERVICES.items():
        is_checked = not service["healthcheck"].get("disable", False)
        assert is_checked is (name not in ONE_SHOTS), name
        assert service["logging"]["options"]["max-size"], name
        assert service["restart"] == ("no" if name in ONE_SHOTS else "unless-stopped"), name


def test_only_the_edge_can_be_reached_from_outside() -> None:
    published = {name for name, service in SERVICES.items() if "ports" in service}
    stores = {name for name in ("postgres", "redis", "rabbitmq") if SERVICES[name]["networks"] != ["data"]}

    assert published == {"edge"}
    assert stores == set()
    assert "data" not in SERVICES["edge"]["networks"]
    assert COMPOSE["networks"]["data"]["internal"] is COMPOSE["networks"]["services"]["internal"] is True


def test_our_processes_have_no_rights_and_nothing_to_write_on() -> None:
    assert "\nUSER 10001:10001\n" in (ROOT / "deploy/Dockerfile").read_text()
    for name, service in SERVICES.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
    for name in [*SETTINGS, "edge"]:
        assert service_user(name) == "10001:10001", name
        assert SERVICES[name]["read_only"] is True, name


def service_user(name: str) -> str:
    return str(SERVICES[name].get("user", "10001:10001" if name in SETTINGS else "0:0"))


def test_a_service_may_finish_what_it_has_in_hand() -> None:
    for name, described in SETTINGS.items():
        fields = described.model_fields
        if "shutdown_grace_s" in fields:
            takes_s = fields["shutdown_grace_s"].default + fields["drain_delay_s"].default
            assert takes_s < int(SERVICES[name]["stop_grace_period"].removesuffix("s")), name


def test_the_edge_rejects_a_body_only_after_the_gateway_would() -> None:
    caddyfile = (ROOT / "deploy/compose/Caddyfile").read_text()
    limits = [int(size) * 1_000_000 for size in re.findall(r"max_size (\d+)MB", caddyfile)]

    assert max(limits) > GatewaySettings.model_fields["body_bytes"].default


def test_the_build_installs_nothing_without_a_hash() -> None:
    dockerfile = (ROOT / "deploy/Dockerfile").read_text()
    locked = (ROOT / "requirements-dev.lock").read_text()
    wanted = re.search(r"\^\(([\w|-]+)\)==", dockerfile)

    installs = re.findall(r"pip install ([^\n\\]+)", dockerfile)
    assert [line for line in installs if "--require-hashes" not in line and "--no-index" not in line] == []
    assert wanted is not None
    assert [name for name in wanted[1].split("|") if f"\n{name}==" not in locked] == []


def make_env(folder: Path) -> "subprocess.CompletedProcess[str]":
    script = folder / "deploy/compose/make-env"
    script.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "deploy/compose/make-env", script)
    shutil.copy(ROOT / ".env.example", folder)
    return subprocess.run([script], capture_output=True, text=True, timeout=20, env={"PATH": os.environ["PATH"]})


def test_make_env_fills_every_secret_for_nobody_else_to_read(tmp_path: Path) -> None:
    made = make_env(tmp_path)

    assert made.returncode == 0, made.stderr
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    values = dict(re.findall(r"^(\w+)=(.*)$", (tmp_path / ".env").read_text(), re.MULTILINE))
    secrets = [value for name, value in values.items() if SECRET.search(name)]
    assert all(re.fullmatch(r"[A-Za-z0-9]{40}", value) for value in secrets)
    assert len(set(secrets)) == len(secrets) == 11
    assert sorted(path.name for path in tmp_path.iterdir()) == [".env", ".env.example", "deploy"]


def test_make_env_leaves_an_env_alone(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("POSTGRES_PASSWORD=precious\n")

    made = make_env(tmp_path)

    assert made.returncode == 1
    assert (tmp_path / ".env").read_text() == "POSTGRES_PASSWORD=precious\n"
