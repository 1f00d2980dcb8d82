"""Figures for Prometheus: requests by route, what the live feed carries, how far the tables are behind the topics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from litestar import Litestar, Response, Router, get
from litestar.plugins.prometheus import PrometheusConfig
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from api.auth import needs
from api.db import now
from api.live import Hub
from api.publish import Producer
from api.tables.outbox import Outgoing
from api.watch import Watch

# by route, not by path: a path holds ids, and each would be a series of its own
CONFIG = PrometheusConfig(app_name="maskwatch", prefix="maskwatch", group_path=True, exclude=["/metrics"],
                          buckets=[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10])


@get("/metrics", opt=needs("system.view", everywhere=True), sync_to_thread=True, media_type=CONTENT_TYPE_LATEST,
     summary="Figures for Prometheus")
def metrics() -> Response[bytes]:
    """Needs a login: give Prometheus a token (`authorization` in its scrape configuration)."""
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)


class Stream(Collector):
    """What the app knows of the stream, read when somebody asks."""

    def __init__(self, app: Litestar) -> None:
        self.app = app

    def collect(self) -> Iterator[Metric]:
        hub: Hub = self.app.state.hub
        watch: Watch = self.app.state.watch
        report = watch.report()
        yield _gauge("maskwatch_live_listeners", "Open live feeds", len(hub.listeners))
        yield _gauge("maskwatch_live_events", "Events heard since the start", hub.heard)
        yield _gauge("maskwatch_broker_up", "1 when the broker answers", int(report.broker))
        yield _gauge("maskwatch_dead_letters", "Records on dead.letters", report.dead_letters)
        yield from self._outbox()
        waiting = GaugeMetricFamily("maskwatch_waiting", "Records a stage has not read yet", labels=["stage"])
        for stage in report.stages:
            waiting.add_metric([stage.stage], stage.waiting)
        if watch.unfolded is not None:
            waiting.add_metric(["materialiser"], sum(watch.unfolded.values()))
        yield waiting
        yield _gauge("maskwatch_tables_astray", "Partitions in which the tables are not where the topic is: it was "
                     "made again, has lost its end, or expired before it was folded", len(watch.astray))
        up = GaugeMetricFamily("maskwatch_camera_up", "1 when the camera delivers", labels=["camera"])
        rate = GaugeMetricFamily("maskwatch_camera_analysed", "Pictures analysed a second", labels=["camera"])
        for camera in report.cameras:
            up.add_metric([camera.camera], int(camera.state == "up"))
            rate.add_metric([camera.camera], camera.fps_analysed)
        yield up
        yield rate


    def _outbox(self) -> Iterator[Metric]:
        producer: Producer = self.app.state.producer
        yield _gauge("maskwatch_outbox_up", "0 when what people decided cannot be sent to the stream",
                     int(not producer.fault))
        try:
            with producer.sessions() as session:
                count, oldest = session.execute(select(func.count(), func.min(Outgoing.created))).one()
        except SQLAlchemyError:
            return  # how much waits is not known; /ready says that the database is away
        yield _gauge("maskwatch_outbox_waiting", "Records decided and not sent yet", count)
        yield _gauge("maskwatch_outbox_age_seconds", "How long the oldest of them has waited",
                     (now() - oldest).total_seconds() if oldest else 0.0)


def _gauge(name: str, about: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, about)
    family.add_metric([], value)
    return family


def register(app: Litestar) -> Collector:
    """Until `unregister`: one app a process, but tests make several."""
    collector = Stream(app)
    REGISTRY.register(collector)
    return collector


def unregister(collector: Any) -> None:
    REGISTRY.unregister(collector)


router = Router("/", route_handlers=[metrics], tags=["stream"])
