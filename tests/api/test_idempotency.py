"""A write under a key is done once, whoever sends it how often."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, sessionmaker

from api.tables.idempotency import Answered
from api.tables.users import User


def count(sessions: sessionmaker[Session], name: str) -> int:
    with sessions() as session:
        return session.scalar(select(func.count()).select_from(User).where(User.name == name)) or 0


def test_sent_again_it_gets_the_same_answer(as_: Any, sessions: sessionmaker[Session]) -> None:
    admin, key = as_("admin"), {"idempotency-key": "one"}
    first = admin.post("/v1/users", json={"name": "Wu"}, headers=key)
    again = admin.post("/v1/users", json={"name": "Wu"}, headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert (first.headers.get("idempotent-replayed"), again.headers["idempotent-replayed"]) == (None, "true")
    assert admin.post("/v1/users", json={"name": "Xu"}, headers=key).status_code == 422
    assert admin.post("/v1/users", json={"name": "Wu"}).status_code == 409  # without the key it is another one
    # the key belongs to the user: another's request under it is another's
    assert as_("admin").post("/v1/users", json={"name": "Zu"}, headers=key).status_code == 201
    refused = admin.post("/v1/users", json={"name": ""}, headers={"idempotency-key": "two"})
    assert refused.status_code == 422
    assert admin.post("/v1/users", json={"name": ""}, headers={"idempotency-key": "two"}).json() == refused.json()
    assert count(sessions, "Wu") == 1


def test_one_at_a_time_and_free_again_after_a_death(as_: Any, sessions: sessionmaker[Session]) -> None:
    admin, key = as_("admin"), {"idempotency-key": "three"}
    assert admin.post("/v1/users", json={"name": "Li"}, headers=key).status_code == 201
    with sessions() as session, session.begin():  # as if the process had died before it kept the answer
        session.execute(update(Answered).values(status=0))
    assert admin.post("/v1/users", json={"name": "Li"}, headers=key).status_code == 409
    with sessions() as session, session.begin():
        session.execute(update(Answered).values(at=func.now() - func.make_interval(0, 0, 0, 0, 0, 2)))
    assert admin.post("/v1/users", json={"name": "Li"}, headers=key).json()["title"] == "name taken"


def test_without_a_login_a_key_is_worth_nothing(app: Any) -> None:
    assert app.post("/v1/users", json={"name": "Wu"}, headers={"idempotency-key": "k"}).status_code == 401
