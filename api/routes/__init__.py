"""One noun a file, each with a `router`; `ROUTERS` is all of them."""

from litestar import Router

from api import metrics
from api.routes import (
    alerts,
    audit,
    compliance,
    deliveries,
    episodes,
    inspections,
    live,
    requests,
    rounds,
    session,
    sightings,
    statistics,
    stream,
    trajectories,
    users,
)

ROUTERS: list[Router] = [
    session.router,
    live.router,
    users.router,
    audit.router,
    inspections.router,
    rounds.router,
    requests.router,
    episodes.router,
    alerts.router,
    deliveries.router,
    stream.router,
    compliance.router,
    sightings.router,
    statistics.router,
    trajectories.router,
    metrics.router,
]
