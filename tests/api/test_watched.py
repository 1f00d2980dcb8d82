"""Somebody on a watch-list comes: through the real materialiser into one alert, for those who may see people."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import enrolled
from folding import folding, publish, until
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session, sessionmaker

from api.alerts import judge
from api.db import now
from api.messengers import note
from api.tables.alerts import Alert, AlertRule
from api.tables.deliveries import Channel, Delivery
from api.tables.offsets import Offset
from api.tables.people import Watched, WatchList
from api.tables.recognised import Recognised, forget
from pipeline.settings import Settings

S = 1_000_000


def test_one_alert_for_one_person_and_place(tables: Settings, sessions: sessionmaker[Session], as_: Any) -> None:
    records = enrolled.walk(time.time_ns() // 1000 - 30 * S)
    person = enrolled.enrol(sessions, records)
    channel = "1" * 32
    with sessions() as session, session.begin():
        session.add(Channel(id=channel, name="desk", kind="webhook", site="", language="en", options={},
                            pictures=False))
        list_ = WatchList(site="hall", name="Missing people")
        session.add(list_)
        session.flush()
        session.add(Watched(list=list_.id, person=person))
        wanted = list_.id
    manager = as_("manager", site="hall")
    wish = {"name": "watched", "kind": "person", "site": "hall", "lists": [wanted], "cooldown": 3600.0,
            "cooldown_by": "person", "steps": [{"channels": [channel]}]}
    assert manager.post("/v1/alert-rules", json=wish | {"lists": ["2" * 32]}).status_code == 422
    assert manager.post("/v1/alert-rules", json=wish | {"states": ["none"]}).status_code == 422
    assert manager.post("/v1/alert-rules", json=wish | {"site": ""}).status_code == 403
    made = manager.post("/v1/alert-rules", json=wish)
    assert made.status_code == 201, made.text
    with sessions() as session, session.begin():
        session.get_one(AlertRule, made.json()["id"]).since = now() - timedelta(hours=1)

    with folding(tables, sessions):
        publish(tables, *((r.topic, r.message) for r in records))
        until(sessions, lambda s: s.scalar(
            select(func.count()).where(Recognised.sure, func.cardinality(Recognised.lists) > 0)) == 2)
        # the silence of cameras is told only up to when the tables are known to have everything that was said of them
        begun = time.time_ns() // 1000
        until(sessions, lambda s: s.scalar(select(func.count()).where(Offset.caught >= begun)) == 8)
    for _ in range(2):
        with sessions() as session, session.begin():
            judge(session)
    with sessions() as session:
        first, second = session.scalars(select(Alert).order_by(Alert.start)).all()
        assert (first.kind, first.state, first.person, first.cameras) == ("person", "open", person, ["door"])
        assert (second.state, second.because) == ("suppressed", first.id)  # the same person, moments later, inside
        (facts,) = session.scalars(select(Delivery.facts)).all()
    assert (facts["name"], facts["lists"]) == ("Ada", ["Missing people"])
    told = note.write("d", "alert", "en", facts, "https://mw.example")
    assert told.title == "[Alert] door somebody on a watch-list"
    assert told.lines[:2] == ("Name: Ada", "List: Missing people")
    assert told.link == f"https://mw.example/people/{person}"
    assert "发现关注人员" in note.write("d", "alert", "zh-CN", facts).title

    shown = manager.get("/v1/alerts", params={"kind": "person"}).json()["items"]
    assert [(a["what"], a["person"], a["lists"]) for a in shown] == [("watched", person, ["Missing people"])] * 2
    viewer = as_("viewer", site="hall")  # may see alerts, and not who people are
    assert viewer.get("/v1/alerts").json()["items"] == []
    assert viewer.get(f"/v1/alerts/{shown[0]['id'].replace('#', '%23')}").status_code == 404
    told_ = manager.post(f"/v1/alerts/{first.id.replace('#', '%23')}/acknowledge")
    assert told_.json()["state"] == "acknowledged", told_.text
    with sessions() as session, session.begin():
        # consent taken back: nothing that names them is left, nor does it need the rows it was made of
        session.execute(delete(Recognised))
        gone = Delivery(alert=f"watch!gone|{person}", channel=channel, what="alert", due=now(), facts=facts)
        session.add(gone)
        session.flush()
        forget(session, person)
        assert session.scalars(select(Alert)).all() == session.scalars(select(Delivery)).all() == []
