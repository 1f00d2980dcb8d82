"""Users, roles and grants: nobody gives more than they have, rights end by themselves, nobody locks everybody out."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from api import db
from api.permissions import PERMISSIONS

PASSWORD = "a long enough one"


def test_a_user_is_made_given_a_role_for_a_while_and_taken_off(as_: Any, app: Any) -> None:
    admin = as_("admin")
    made = admin.post("/v1/users", json={"name": "Chen", "password": PASSWORD, "full_name": "陈静"})
    assert made.status_code == 201
    chen = made.json()
    assert (chen["has_password"], chen["grants"]) == (True, [])
    assert "password" not in chen
    assert admin.post("/v1/users", json={"name": "chen"}).status_code == 409
    until = (db.now() + timedelta(hours=1)).isoformat()
    grant = admin.post(f"/v1/users/{chen['id']}/grants", json={"role": "reviewer", "site": "hall", "until": until})
    assert grant.status_code == 201
    assert app.post("/v1/login", json={"name": "chen", "password": PASSWORD}).status_code == 200
    assert app.get("/v1/me").json()["rights"][0]["site"] == "hall"
    late = {"role": "viewer", "until": (db.now() - timedelta(hours=1)).isoformat()}
    assert admin.post(f"/v1/users/{chen['id']}/grants", json=late).status_code == 422
    assert admin.delete(f"/v1/users/{chen['id']}/grants/{grant.json()['id']}").status_code == 204
    assert app.get("/v1/me").json()["rights"] == []
    assert admin.patch(f"/v1/users/{chen['id']}", json={"active": False}).json()["active"] is False
    assert app.get("/v1/me").status_code == 401
    log = admin.get("/v1/audit", params={"noun": chen["id"]}).json()["items"]
    assert [entry["action"] for entry in log] == ["user.edit", "grant.take", "grant.give", "user.add"]
    edited, _, given, _ = (round(datetime.fromisoformat(entry["at"]).timestamp() * 1e6) for entry in log)
    stretch = {"noun": chen["id"], "since": given, "until": edited}
    some = admin.get("/v1/audit", params=stretch).json()["items"]
    assert [entry["action"] for entry in some] == ["grant.take", "grant.give"]
    assert admin.get("/v1/audit", params={"until": "0.5"}).status_code == 422


def test_nobody_gives_what_they_do_not_have(as_: Any) -> None:
    admin, manager = as_("admin"), as_("manager", site="hall")
    user = admin.post("/v1/users", json={"name": "Gao"}).json()["id"]
    give = f"/v1/users/{user}/grants"
    assert manager.post(give, json={"role": "reviewer", "site": "hall"}).status_code == 201
    other = manager.post(give, json={"role": "reviewer", "site": "dock"})
    assert other.status_code == 403
    assert "dock" in other.json()["detail"]
    assert manager.post(give, json={"role": "viewer"}).status_code == 403
    assert manager.post(give, json={"role": "admin", "site": "hall"}).status_code == 403
    assert manager.put("/v1/roles/own", json={"permissions": ["people.view"]}).status_code == 403
    assert as_("viewer").get("/v1/users").status_code == 403
    # nobody is taken over by giving them a new password: neither who has more rights, nor who has none and may get some
    boss = admin.get("/v1/me").json()["id"]
    fresh = admin.post("/v1/users", json={"name": "Fan"}).json()["id"]
    far = admin.post("/v1/users", json={"name": "Wu"}).json()["id"]
    admin.post(f"/v1/users/{far}/grants", json={"role": "viewer", "site": "dock"})
    admin.put("/v1/roles/removes", json={"permissions": ["users.view", "users.remove"]})
    remover = as_("removes", site="hall")
    for id in (boss, fresh, far, user):
        assert manager.patch(f"/v1/users/{id}", json={"password": PASSWORD}).status_code == 403
        assert manager.patch(f"/v1/users/{id}", json={"active": False}).status_code == 403
        assert remover.delete(f"/v1/users/{id}").status_code == 403
        assert admin.get(f"/v1/users/{id}").json()["has_password"] is False
    assert admin.patch(f"/v1/users/{fresh}", json={"password": PASSWORD}).json()["has_password"] is True
    assert manager.put("/v1/roles/own", json={"permissions": []}).status_code == 403


def test_roles_are_data(as_: Any) -> None:
    admin = as_("admin")
    assert {r["name"] for r in admin.get("/v1/roles").json()} == {"admin", "manager", "reviewer", "inspector", "viewer"}
    role = {"permissions": ["cameras.view", "inspections.add"], "about": "夜班", "patrol_radius": 80}
    assert admin.put("/v1/roles/night", json=role).json()["permissions"] == ["cameras.view", "inspections.add"]
    assert admin.put("/v1/roles/night", json={"permissions": ["cameras.fly"]}).status_code == 422
    assert admin.put("/v1/roles/admin", json={"permissions": []}).status_code == 409
    user = admin.post("/v1/users", json={"name": "Night"}).json()["id"]
    grant = admin.post(f"/v1/users/{user}/grants", json={"role": "night"}).json()["id"]
    assert admin.delete("/v1/roles/night").status_code == 409
    admin.delete(f"/v1/users/{user}/grants/{grant}")
    assert admin.delete("/v1/roles/night").status_code == 204
    assert admin.delete("/v1/roles/viewer").status_code == 409
    assert sum(len(m["actions"]) for m in admin.get("/v1/permissions").json()) == len(PERMISSIONS)


def test_nobody_locks_themselves_out(as_: Any) -> None:
    admin = as_("admin")
    me = admin.get("/v1/me").json()["id"]
    assert admin.patch(f"/v1/users/{me}", json={"active": False}).status_code == 409
    assert admin.delete(f"/v1/users/{me}").status_code == 409


def test_pages_of_users_and_a_cursor_that_no_page_gave(as_: Any) -> None:
    admin = as_("admin", name="aa-admin")
    for i in range(5):
        admin.post("/v1/users", json={"name": f"u{i}"})
    names, cursor = [], None
    while True:
        page = admin.get("/v1/users", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        names += [user["name"] for user in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert names == ["aa-admin", "u0", "u1", "u2", "u3", "u4"]
    for bad in ("x", "W10", "WzEsMl0"):
        assert admin.get("/v1/users", params={"cursor": bad}).status_code == 400
