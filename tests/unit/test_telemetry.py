"""Log lines: JSON, with the correlation id of the work in hand, on the console and in a file that rolls."""

import json
import logging
from logging.handlers import TimedRotatingFileHandler
from pathlib import Path

import pytest

from tracking.infra import correlation, telemetry


@pytest.fixture(autouse=True)
def _logging_as_before() -> object:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers, root.level = handlers, level


def test_a_line_is_json_with_what_is_known_of_the_work(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "gateway.log"
    telemetry.configure_logging("gateway", "local", "INFO", str(file))
    correlation.set_current("abc-123")

    logging.getLogger("tests").warning("stored %d", 5, extra={"PartnerSystemId": "s-1"})

    line = json.loads(file.read_text())
    assert line["timestamp"].endswith("Z")
    assert (line["level"], line["message"]) == ("Warning", "stored 5")
    assert line["properties"] == {
        "Application": "VolcanionTracking",
        "Service": "gateway",
        "Environment": "local",
        "Logger": "tests",
        "CorrelationId": "abc-123",
        "PartnerSystemId": "s-1",
    }


def test_an_exception_stays_on_its_line(tmp_path: Path) -> None:
    file = tmp_path / "gateway.log"
    telemetry.configure_logging("gateway", "local", "INFO", str(file))

    try:
        raise ValueError("of\ntwo lines")
    except ValueError:
        logging.getLogger("tests").exception("failed")

    [line] = file.read_text().splitlines()
    assert "ValueError: of\ntwo lines" in json.loads(line)["exception"]


def test_the_file_rolls_every_day(tmp_path: Path) -> None:
    telemetry.configure_logging("gateway", "local", "INFO", str(tmp_path / "gateway.log"))

    [handler] = [h for h in logging.getLogger().handlers if isinstance(h, TimedRotatingFileHandler)]

    assert (handler.when, handler.backupCount, handler.utc) == ("MIDNIGHT", 14, True)


@pytest.mark.parametrize("given", ["a", "A-b_c.9", "x" * 100])
def test_a_plain_correlation_id_is_taken(given: str) -> None:
    assert correlation.accept_or_generate(given) == given


@pytest.mark.parametrize("given", [None, "", "x" * 101, "a b", "a\r\nSet-Cookie: x", "ä", "a/b", '"'])
def test_any_other_is_replaced_by_a_fresh_one(given: str | None) -> None:
    made = correlation.accept_or_generate(given)

    assert made != given
    assert correlation.accept_or_generate(made) == made


def test_only_the_owner_may_read_the_files(tmp_path: Path) -> None:
    """Also when the file was there before, and of the files that a day leaves behind."""
    file = tmp_path / "gateway.log"
    file.write_text("")
    file.chmod(0o644)
    telemetry.configure_logging("gateway", "local", "INFO", str(file))
    [handler] = [h for h in logging.getLogger().handlers if isinstance(h, TimedRotatingFileHandler)]

    logging.getLogger("tests").warning("yesterday")
    handler.doRollover()
    logging.getLogger("tests").warning("today")

    files = sorted(tmp_path.iterdir())
    assert [(path.stat().st_mode & 0o777) for path in files] == [0o600, 0o600]
    assert ["today" in path.read_text() for path in files] == [True, False]
