"""`python -m services.statistics`: wires the statistics worker and runs it until SIGTERM."""

from services.statistics import SERVICE
from services.statistics.aggregate import aggregate
from services.statistics.settings import StatisticsSettings
from tracking.http.server import ServerOptions
from tracking.infra import process
from tracking.worker.main import run_worker


async def main() -> None:
    """Read the settings and run the worker."""
    settings = StatisticsSettings()
    await run_worker(SERVICE, settings, ServerOptions.from_settings(settings), apply=aggregate)


if __name__ == "__main__":
    process.run(main)
