"""`maskwatch api`: serves the API and the dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from litestar import Litestar
    from uvicorn import Config

    from pipeline.settings import Settings


def api() -> None:
    """Serve the API and the dashboard (part of `maskwatch up`).

    Example: MASKWATCH_PORT=8080 maskwatch api
    """
    import uvicorn

    from api.app import create_app
    from cli import log
    from pipeline.settings import Settings

    settings = Settings()
    log.configure(settings, process="api")
    uvicorn.Server(serving(create_app(settings), settings)).run()


def serving(app: Litestar, settings: Settings) -> Config:
    """How the app is served. Who a proxy says is asking is believed of those that a setting names, and of no other:
    anybody can write such a header."""
    from uvicorn import Config

    proxies = [each for each in map(str.strip, settings.trusted_proxies.split(",")) if each]
    return Config(
        app, host=settings.host, port=settings.port, log_config=None, access_log=False, timeout_graceful_shutdown=3,
        server_header=False, proxy_headers=bool(proxies), forwarded_allow_ips=proxies,
    )  # fmt: skip
