"""Settings of the statistics worker, read from the environment."""

from tracking.infra.settings import Port
from tracking.worker.settings import WorkerSettings


class StatisticsSettings(WorkerSettings):
    """Settings of the statistics worker: those of any consumer, with a different default port."""

    port: Port = 9103
