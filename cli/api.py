"""`maskwatch api`: serves the API and the dashboard."""

from __future__ import annotations


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
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=3,
        server_header=False,
    )
