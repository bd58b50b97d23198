"""`python -m services.projector`: wires the projector and runs it until SIGTERM."""

from services.projector import SERVICE
from services.projector.project import project
from tracking.http.server import ServerOptions
from tracking.infra import process
from tracking.worker.main import run_worker
from tracking.worker.settings import WorkerSettings


async def main() -> None:
    """Read the settings and run the worker."""
    settings = WorkerSettings()
    await run_worker(SERVICE, settings, ServerOptions.from_settings(settings), apply=project)


if __name__ == "__main__":
    process.run(main)
