"""The OpenAPI document against the running API: schemathesis sends what it allows and what it forbids, and checks every
answer. Once as somebody who may do everything, once as a viewer of one site. `make fuzz` gives it longer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from world import GATE, HALL, World

# Not sent, and why.
LEFT_OUT = {
    "/schema": "the framework's own", "/schema/{path}": "the framework's own",
    "/v1/live": "does not end by itself: test_matrix.py, bench load",
    "/v1/login": "its limit on failures would lock everybody out: test_auth.py",
    "/v1/logout": "ends the login that is used here",
    "/v1/me/password": "as /v1/login, by one's own hand",
    "/v1/me/sessions/{id}": "may end the login that is used here",
    "/v1/login/oidc": "leads to a provider: test_identities.py",
    "/v1/login/oidc/callback": "a browser comes back to it: test_identities.py",
    "/v1/me/oidc": "leads to a provider: test_identities.py",
    "/v1/cameras/test": "opens whatever address it is given: test_cameras.py",
    "/v1/cameras/{camera}/test": "opens addresses, seconds each: test_cameras.py",
    "/v1/cameras/{camera}/snapshot": "opens addresses, seconds each: test_cameras.py",
}
# Not checked, and why.
NOT_CHECKED = {
    # rules between fields (steps in order, since before until, ids that exist) are no part of a JSON schema
    "positive_data_acceptance",
    # it spoils the cookie while the token that every request bears goes on being valid: test_rights.py asks every route
    # without a login
    "ignored_auth",
}
# path -> parameters and the noun of the world that stands there in all but DELETE: else every answer would be a 404
REAL = {
    "/v1/sites/{site}": {"site": "site"}, "/v1/plans/{plan}": {"plan": "plan"},
    "/v1/policies/{policy}": {"policy": "policy"}, "/v1/cameras/{camera}": {"camera": "camera"},
    "/v1/episodes/{id}": {"id": "episode", "key": "evidence"}, "/v1/alerts/{id}": {"id": "alert"},
    "/v1/alert-rules/{id}": {"id": "rule"}, "/v1/channels/{id}": {"id": "channel"},
    "/v1/deliveries/{id}": {"id": "delivery"}, "/v1/sightings/{id}": {"id": "sighting"},
    "/v1/faces/{id}": {"id": "face"}, "/v1/trajectories/{id}": {"id": "trajectory"},
    "/v1/visitors/{id}": {"id": "visitor"}, "/v1/people/{id}": {"id": "person", "portrait": "portrait"},
    "/v1/watch-lists/{id}": {"id": "watch_list", "person_id": "person"}, "/v1/erasures/{id}": {"id": "erasure"},
    "/v1/inspections/{id}": {"id": "inspection", "photo": "photo"}, "/v1/rounds/{id}": {"id": "round"},
    "/v1/requests/{id}": {"id": "request"}, "/v1/chat/rooms/{room}": {"room": "room", "name": "chat_picture"},
}
SECONDS = int(os.environ.get("FUZZ_SECONDS", "40"))  # of each run


@pytest.mark.parametrize("role", ["admin", "viewer"])
@pytest.mark.timeout(20 * SECONDS)
def test_every_answer_is_as_the_document_says(world: World, served: str, tmp_path: Path, role: str) -> None:
    user = world.user(role, "" if role == "admin" else "hallsite")
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(tmp_path / "with.toml"),
        "run", f"{served}/schema/openapi.json",
        "--header", f"Authorization: {user.client.headers['authorization']}",
        "--exclude-checks", ",".join(sorted(NOT_CHECKED)), "--phases", "examples,coverage,fuzzing",
        # one worker: two threads that parse Python at a time end in `SystemError: AST constructor recursion depth
        # mismatch` now and then (CPython 3.11, python/cpython#106905), and Hypothesis parses what it shows
        "--max-time", str(SECONDS), "--seed", "1", "--generation-database", "none", "--workers", "1",
        "--suppress-health-check", "all", "--continue-on-failure", "--no-color",
        *(word for path in LEFT_OUT for word in ("--exclude-path", path)),
    ]  # fmt: skip
    (tmp_path / "with.toml").write_text("\n".join(real(world)))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=15 * SECONDS)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]


def real(world: World) -> list[str]:
    """Of the configuration: every check, and what stands in which path. A path that it would have made wrong goes out
    right and is answered as one: there, whether what is wrong is refused is not asked."""
    here = world.things[HALL] | world.things[GATE]
    paths = world.admin.get("/schema/openapi.json").json()["paths"]
    lines = ["[checks]", "enabled = true"]  # on the command line, `--checks all` would win over an operation's own
    for path, operations in paths.items():
        prefix = max((each for each in REAL if path == each or path.startswith(each + "/")), key=len, default="")
        names = {name: quote(here[noun], safe="") for name, noun in REAL.get(prefix, {}).items()
                 if f"{{{name}}}" in path}
        for method in operations:
            if names and method != "delete":
                told = ", ".join(f'"path.{name}" = "{value}"' for name, value in names.items())
                lines += ["[[operations]]", f'include-name = "{method.upper()} {path}"', f"parameters = {{ {told} }}",
                          "checks = { negative_data_rejection = { enabled = false } }"]
    return lines
