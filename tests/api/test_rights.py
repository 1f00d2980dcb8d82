"""Every route against every role: who may not is told so before anything is looked at, and nothing falls over."""

from __future__ import annotations

import ast
import re
import uuid
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from alembic import command
from litestar import Litestar
from litestar.exceptions import WebSocketDisconnect
from litestar.handlers import HTTPRouteHandler, WebsocketRouteHandler
from litestar.testing import TestClient
from sqlalchemy import NullPool, create_engine, text

from api import auth, live, migrations
from api.permissions import PERMISSIONS, ROLES, Given, Who
from infra.local.postgres import Postgres

# What stands in a path so that the route is found; no such thing exists.
VALUES = {"str": "nothing-there", "int": "1", "uuid": "00000000-0000-4000-8000-000000000000", "path": "nothing", }
OF = {"room": "site:nowhere"}


def routes(app: Litestar) -> list[tuple[str, str, str]]:
    """(method, path with something in it, what it needs) of every route with a guard; WS for sockets."""
    found = []
    for route in app.routes:
        path = re.sub(r"\{(\w+):(\w+)\}", lambda m: OF.get(m[1], VALUES[m[2]]), route.path)
        for handler in route.route_handlers if hasattr(route, "route_handlers") else [route.route_handler]:
            wanted = handler.opt.get("needs")
            if wanted == auth.PUBLIC or wanted is None:
                continue  # that None is no route of ours: test_auth.py
            if isinstance(handler, WebsocketRouteHandler):
                found.append(("WS", path, wanted))
            elif isinstance(handler, HTTPRouteHandler):
                found += [(method, path, wanted) for method in sorted(handler.http_methods) if method != "OPTIONS"]
    return sorted(found)


def of_no_site(app: Litestar) -> set[tuple[str, str]]:
    """(method, path) of those for which a right at one site is not enough."""
    return {(method, re.sub(r"\{(\w+):(\w+)\}", lambda m: OF.get(m[1], VALUES[m[2]]), route.path))
            for route in app.routes for handler in getattr(route, "route_handlers", ())
            if isinstance(handler, HTTPRouteHandler) and handler.opt.get("everywhere")
            for method in handler.http_methods}


def test_nobody_comes_in_without_a_login(app: TestClient[Any]) -> None:
    open_ = []
    for method, path, wanted in routes(app.app):
        if method == "WS":
            with pytest.raises(WebSocketDisconnect), app.websocket_connect(path) as socket:
                socket.receive_text(timeout=5)
        elif app.request(method, path, json={} if method != "GET" else None).status_code != 401:
            open_.append(f"{method} {path} needs {wanted}")
    assert open_ == []


@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_role_may_what_it_holds_and_nothing_else(as_: Any, role: str) -> None:
    client, holds = as_(role, site="hall"), ROLES[role][2]
    wrong, closed = [], of_no_site(client.app)
    for method, path, wanted in routes(client.app):
        if method == "WS" or path in STREAMS:
            continue
        answer = client.request(method, path, json={} if method not in ("GET", "DELETE") else None,
                                follow_redirects=False)
        refused = answer.status_code == 403 and "expected the permission" in answer.text
        may = wanted == auth.ANYBODY or (wanted in holds and (method, path) not in closed)
        if refused == may or answer.status_code >= 500:
            wrong.append(f"{method} {path} needs {wanted}: {answer.status_code} {answer.text[:120]}")
        if path == "/v1/logout":
            client = as_(role, site="hall")
    assert wrong == []


def test_what_is_of_a_camera_whose_site_nobody_knows_is_told_to_nobody_of_a_site() -> None:
    def who(site: str) -> Who:
        return Who("u", "n", "l", (Given("viewer", site, "", frozenset({"cameras.view"})),))

    event = live.Event("camera.status", {"id": "ghost"}, "", "ghost", "cameras.view")
    assert live.known(who("hall"), event) is None
    assert live.known(who(""), event) is event


STREAMS = {"/v1/live"}  # does not end by itself; test_live.py


def test_every_permission_gates_something(app: TestClient[Any]) -> None:
    """Of a route or socket, or in the code that one runs: what can be given is worth something."""
    gated = {wanted for _, _, wanted in routes(app.app)}
    nodes = [node for file in Path(auth.__file__).parent.rglob("*.py")
             for node in ast.walk(ast.parse(file.read_text("utf-8")))]
    asks = {"may", "scope", *(node.name for node in nodes if isinstance(node, ast.FunctionDef)
                              and "permission" in {each.arg for each in node.args.args})}
    for node in nodes:
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in asks - {"needs"}:
            gated |= {each.value for arg in node.args for each in ast.walk(arg) if isinstance(each, ast.Constant)}
    assert sorted(PERMISSIONS - gated) == []
    for role, (_, _, holds) in ROLES.items():
        assert holds <= PERMISSIONS, role


def test_there_are_routes_of_every_module(app: TestClient[Any]) -> None:
    modules = {wanted.split(".")[0] for _, _, wanted in routes(app.app)}
    assert {"cameras", "compliance", "people", "inspections", "requests", "users", "chat", "system"} <= modules
    assert len(routes(app.app)) > 100




def test_what_a_query_or_a_path_may_hold_is_said_where_it_is_checked(app: TestClient[Any]) -> None:
    """Litestar drops msgspec's Meta beside its own marks of a parameter: such a bound would stand there unchecked."""
    lost = []
    for route in app.app.routes:
        for handler in route.route_handlers if hasattr(route, "route_handlers") else [route.route_handler]:
            fn = getattr(handler.fn, "func", handler.fn)  # of one that runs in a thread, what it runs
            if not fn.__module__.startswith("api."):
                continue
            hints = get_type_hints(fn, include_extras=True)
            lost += [f"{route.path} {name}" for name, hint in hints.items()
                     if name not in ("data", "return") and "msgspec.Meta" in repr(hint)]
    assert lost == []


def test_bounds_of_lists_and_names_hold(as_: Any) -> None:
    admin = as_("admin")
    admin.post("/v1/sites", json={"id": "hall", "name": "Hall"})
    room = "/v1/chat/rooms/site:hall"
    for path in ("/v1/users", "/v1/sites", "/v1/cameras", "/v1/inspections", "/v1/rounds", f"{room}/messages"):
        for limit in (0, 501):
            assert admin.get(path, params={"limit": limit}).status_code == 422, (path, limit)
    for path in (f"{room}/messages?since=-1", f"{room}/pictures/%2e%2e", "/v1/chat/rooms/hall/messages",
                 "/v1/inspections?since=-1", "/v1/inspections?site=A%20B", "/v1/rounds?site=A%20B"):
        assert admin.get(path).status_code in (404, 422), path
    user, wish = admin.get("/v1/me").json()["id"], {"address": "rtsp://10.0.0.9/1"}
    for name in ("North\ngate", "North gate\n", "\rNorth", "North\x85gate", "North\u2028gate"):
        for path, body in (
            ("/v1/sites", {"id": "yard", "name": name}), ("/v1/users", {"name": name}),
            ("/v1/cameras", {"id": "north", "site": "hall", "name": name, "sources": [{"url": "rtsp://10.0.0.9/1"}]}),
            ("/v1/requests", {"kind": "camera", "site": "hall", "reason": "dark there", "wish": wish | {"name": name}}),
            ("/v1/channels", {"name": name, "options": {"kind": "webhook", "url": "https://example.org/"}}),
            (f"/v1/users/{user}/grants", {"role": "viewer", "site": f"hall{name[-1:]}" if name[-1:] == "\n" else name}),
        ):
            answer = admin.post(path, json=body)
            assert answer.status_code == 422, (path, name, answer.text)
    for name in ("Bad%20Name", "x" * 41):
        assert admin.put(f"/v1/roles/{name}", json={"permissions": []}).status_code == 422


def test_roles_that_are_there_keep_what_they_could_do(postgres: Postgres) -> None:
    """A database of before: what gated nothing goes, and the report of an inspection is as it was for who saw one."""
    name = f"t{uuid.uuid4().hex[:12]}"
    with create_engine(postgres.url, isolation_level="AUTOCOMMIT", poolclass=NullPool).connect() as server:
        server.execute(text(f"create database {name}"))
        engine = create_engine(f"{postgres.url.rsplit('/', 1)[0]}/{name}", poolclass=NullPool)
        with engine.begin() as connection:
            command.upgrade(migrations.config(connection), "0006")
            connection.execute(text("insert into roles (name, about, built_in) values ('night', '', false)"))
            connection.execute(text("insert into role_permissions values ('night', 'inspections.view'), "
                                    "('night', 'system.export'), ('night', 'chat.add')"))
        migrations.upgrade(engine)
        with engine.connect() as connection:
            held = set(connection.scalars(text("select permission from role_permissions")))
        assert held == {"inspections.view", "inspections.export", "chat.add"}
        assert migrations.differences(engine) == []
        engine.dispose()
        server.execute(text(f"drop database {name}"))
