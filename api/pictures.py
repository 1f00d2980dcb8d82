"""Kept pictures: a folder, or an S3-compatible store by the same calls. Names come from ids: twice is once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import obstore
from litestar import Request, Response
from obstore.store import LocalStore, ObjectStore, S3Store

from pipeline.settings import Settings

# A browser may keep a face, no proxy may; and it shows it only after we have said that it may, to this user: since
# then a grant may have ended, somebody may have been erased, or somebody else may sit there.
KEPT = {"cache-control": "private, no-cache", "vary": "cookie, authorization"}


class Pictures:
    """`store(settings)` gives the process's one. Raises OSError when the store is away or full."""

    def __init__(self, settings: Settings) -> None:
        self.store: ObjectStore = _open(settings)

    def put(self, name: str, picture: bytes) -> None:
        """Whole or not at all: a reader never sees part of it."""
        with _as_os_error():
            obstore.put(self.store, name, picture)

    def get(self, name: str) -> bytes | None:
        """None: there is no such picture (any more)."""
        try:
            with _as_os_error():
                return bytes(obstore.get(self.store, name).bytes())
        except FileNotFoundError:
            return None

    def delete(self, names: Iterable[str]) -> None:
        """Those that are not there are no fault."""
        for name in names:
            try:
                with _as_os_error():
                    obstore.delete(self.store, name)
            except FileNotFoundError:
                continue

    def names(self, prefix: str) -> Iterator[str]:
        """Every name that begins with the folder `prefix`."""
        yield from (name for name, _ in self.listed(prefix))

    def listed(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        """The same, with when each was put there last."""
        with _as_os_error():
            for batch in obstore.list(self.store, prefix):
                yield from ((each["path"], each["last_modified"]) for each in batch)

    def folders(self, prefix: str) -> list[str]:
        """Those below a folder that have pictures in them and no folders."""
        with _as_os_error():
            found = obstore.list_with_delimiter(self.store, prefix)
        inside = [each for below in found["common_prefixes"] for each in self.folders(below)]
        return inside or ([prefix] if found["objects"] else [])

    def written(self, name: str) -> datetime | None:
        """When it was put there last; None: there is no such picture."""
        try:
            with _as_os_error():
                return obstore.head(self.store, name)["last_modified"]
        except FileNotFoundError:
            return None


class _as_os_error:
    """obstore's own errors become OSError: a store that is away is as bad as a disk that is away."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, _trace: Any) -> None:
        if error is not None and not isinstance(error, OSError) and isinstance(error, obstore.exceptions.BaseError):
            raise OSError(f"picture store: {str(error).splitlines()[0]}") from error


def _open(settings: Settings) -> ObjectStore:
    if not settings.pictures:
        folder = settings.data.resolve() / "pictures"
        folder.mkdir(parents=True, exist_ok=True)
        os.chmod(folder, 0o700)
        return LocalStore(folder, mkdir=True)
    if not settings.pictures.startswith("s3://"):
        raise ValueError(f"MASKWATCH_PICTURES: expected s3://bucket/path or nothing, got {settings.pictures!r}")
    # AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT, AWS_REGION: what every S3 client takes
    return S3Store.from_url(settings.pictures, client_options={"allow_http": True})


_pictures: dict[tuple[str, str], Pictures] = {}


def store(settings: Settings) -> Pictures:
    key = str(settings.data.resolve()), settings.pictures
    if key not in _pictures:
        _pictures[key] = Pictures(settings)
    return _pictures[key]


def name(folder: str, id: str) -> str:
    """`faces/gate/2026-11-23` and a face id -> where its picture is."""
    return f"{folder}/{hashlib.sha256(id.encode()).hexdigest()[:32]}.jpg"


def answer(request: Request[Any, Any, Any], picture: bytes) -> Response[bytes]:
    """A picture for a browser: with an ETag, and 304 when it has it. Ask for the right, and write the audit row,
    before: what a browser is allowed to show again is a look, too."""
    tag = f'"{hashlib.sha256(picture).hexdigest()[:32]}"'
    headers = {"etag": tag, **KEPT}
    if tag in request.headers.get("if-none-match", ""):
        return Response(b"", status_code=304, headers=headers, media_type="image/jpeg")
    return Response(picture, headers=headers, media_type="image/jpeg")
