"""Pictures are kept under names made from ids, in a folder nobody else may look into; a full disk is an OSError."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from litestar.testing import RequestFactory

from api import pictures
from pipeline.settings import Settings


def test_kept_found_listed_and_gone(tmp_path: Path) -> None:
    kept = pictures.store(Settings(data=tmp_path))
    name = pictures.name("faces/gate/2026-11-23", "gate@1#0")
    assert kept.get(name) is None
    kept.put(name, b"one")
    kept.put(name, b"two")
    assert kept.get(name) == b"two"
    assert list(kept.names("faces/gate")) == [name]
    kept.delete([name, "faces/never/was.jpg"])
    assert kept.get(name) is None
    assert (tmp_path / "pictures").stat().st_mode & 0o077 == 0


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    kept = pictures.store(Settings(data=tmp_path))
    os.rmdir(tmp_path / "pictures")
    (tmp_path / "pictures").write_text("in the way")
    with pytest.raises(OSError, match="pictures"):
        kept.put("faces/a.jpg", b"x")


def test_an_address_that_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected s3://bucket/path or nothing, got 'ftp://x'"):
        pictures.store(Settings(data=tmp_path, pictures="ftp://x"))


def test_a_browser_asks_before_it_shows_a_picture_again() -> None:
    shown = pictures.answer(RequestFactory().get("/"), b"a face")
    again = pictures.answer(RequestFactory().get("/", headers={"if-none-match": shown.headers["etag"]}), b"a face")
    other = pictures.answer(RequestFactory().get("/", headers={"if-none-match": shown.headers["etag"]}), b"blurred")
    assert [(each.status_code or 200, each.content) for each in (shown, again, other)] == [
        (200, b"a face"), (304, b""), (200, b"blurred")]
    for each in (shown, again, other):
        assert (each.headers["cache-control"], each.headers["vary"]) == ("private, no-cache", "cookie, authorization")
