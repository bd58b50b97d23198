"""`python -m services.gateway`: opens the resources of the gateway and serves until SIGTERM."""

from contextlib import AsyncExitStack
from ipaddress import ip_network

from services.gateway import SERVICE, wiring
from services.gateway.commit.store import EventStore
from services.gateway.http.client_address import ClientAddressFinder
from services.gateway.http.request import RequestLimits
from services.gateway.settings import GatewaySettings
from services.gateway.wiring import GatewayClients, GatewayOptions
from tracking.http.server import ServerOptions
from tracking.infra import postgres, process, telemetry
from tracking.infra.rabbitmq import Publisher
from tracking.infra.redis import open_redis
from tracking.tables.credential_changes import CredentialChanges


async def main() -> None:
    """Open the clients, run the gateway, and close them in reverse order."""
    settings = GatewaySettings()
    telemetry.configure_logging(SERVICE, settings.environment, settings.log_level, settings.log_file)
    database_url = settings.write_database_url.get_secret_value()
    async with AsyncExitStack() as resources:
        telemetry.configure_tracing(SERVICE, settings.otlp_endpoint, settings.trace_sample_ratio, resources)
        pool = await postgres.open_pool(
            database_url,
            service=SERVICE,
            connect_timeout_s=settings.connect_timeout_s,
            query_timeout_s=settings.query_timeout_s,
            size=4,
        )
        resources.push_async_callback(postgres.close_pool, pool)
        redis = open_redis(settings.redis_url.get_secret_value(), timeout_s=settings.redis_timeout_s)
        resources.push_async_callback(redis.aclose)
        broker_url = settings.rabbitmq_url.get_secret_value()
        broker = Publisher(broker_url, name="tracking-gateway", timeout_s=settings.publish_timeout_s)
        resources.push_async_callback(broker.close)
        store = EventStore(database_url, connect_timeout_s=settings.connect_timeout_s)
        resources.callback(store.close)
        await wiring.run(
            GatewayClients(pool, store, CredentialChanges(database_url, service=SERVICE), redis, broker),
            GatewayOptions(**settings.model_dump(include=set(GatewayOptions.__dataclass_fields__))),
            RequestLimits(**settings.model_dump(include=set(RequestLimits.__dataclass_fields__))),
            ClientAddressFinder(
                [ip_network(part.strip()) for part in settings.trusted_proxies.split(",")],
                settings.client_address_header,
            ),
            ServerOptions.from_settings(settings),
        )


if __name__ == "__main__":
    process.run(main)
