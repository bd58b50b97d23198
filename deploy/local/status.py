"""The table that `make status` and the end of `make up` show."""

import json

from deploy.local import demo_partner
from deploy.local.layout import Layout
from deploy.local.programs import Program, Servers, server_programs, service_programs
from deploy.local.supervisor import Process, Supervisor


def table(layout: Layout) -> tuple[str, bool]:
    """The table, and whether everything is healthy."""
    supervisor = Supervisor(layout)
    if not supervisor.answers():
        return "nothing is running; `make up` starts everything", False
    servers = Servers.of(layout)
    processes = supervisor.processes()
    rows = [("PROCESS", "STATE", "PID", "UPTIME", "ADDRESS", "HEALTH")]
    programs = [*server_programs(servers), *service_programs(layout, servers)]
    rows += [_row(program, processes.get(program.name)) for program in programs]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines), all(row[-1] == "healthy" for row in rows[1:])


def _row(program: Program, process: Process | None) -> tuple[str, str, str, str, str, str]:
    address = f"127.0.0.1:{program.port}"
    if process is None or not process.is_up:
        return program.name, process.state if process else "UNKNOWN", "-", "-", address, "down"
    try:
        program.ping()
        health = "healthy"
    except Exception as error:  # a client of whichever server says what is wrong
        health = " ".join(str(error).split())[:80]
    return program.name, process.state, str(process.pid), _uptime(process.uptime_s), address, health


def _uptime(seconds: int) -> str:
    days, rest = divmod(seconds, 86400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days} d {clock}" if days else clock


def welcome(layout: Layout, credentials: dict[str, str]) -> str:
    """Addresses, secrets and a request that works."""
    gateway = credentials["TRACKING_GATEWAY_URL"]
    query = credentials["TRACKING_QUERY_URL"]
    event = {
        "apiKey": credentials["TRACKING_DEMO_API_KEY"],
        "eventName": demo_partner.EVENT_NAME,
        "anonymousId": "visitor-1",
        "eventProperties": demo_partner.EXAMPLE,
    }
    system = credentials["TRACKING_DEMO_SYSTEM_ID"]
    urls = {"gateway": gateway, "admin": credentials["TRACKING_ADMIN_URL"], "query": query}
    return "\n".join(
        [
            "",
            "Volcanion Tracking is up.",
            "",
            *(f"  {name:<12} {url}   documentation: {url}/scalar/v1" for name, url in urls.items()),
            "",
            f"  API key      {event['apiKey']}",
            f"  system       {system}",
            f"  admin token  {credentials['TRACKING_ADMIN_TOKEN']}",
            f"  all of it    {layout.credentials}",
            "",
            "Send an event, then ask for the statistics:",
            "",
            f"  curl -sS {gateway}/api/events/ingest -H 'Content-Type: application/json' \\",
            f"    -d '{json.dumps(event)}'",
            "",
            f"  curl -sS {query}/api/events/partner-system/{system}/statistics \\",
            f"    -H 'Authorization: Bearer {credentials['TRACKING_ADMIN_TOKEN']}'",
            "",
        ]
    )
