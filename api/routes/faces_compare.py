"""Are two pictures of one person? Nothing is kept."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Router, post
from litestar.datastructures import UploadFile
from litestar.params import JSONBody, MultipartBody

from api import sight, uploads
from api.auth import needs
from api.dependencies import By, Db
from api.permissions import Who
from api.routes.search import Index, Picture
from api.sight import FoundFaces, Sight
from api.tables import audit
from api.waiting import waits
from pipeline import likeness


class Two(msgspec.Struct):
    """Two pictures as base64; of one with several faces, which one is meant."""

    first: Picture
    second: Picture
    first_face: Index | None = None
    second_face: Index | None = None


class TwoFiles(msgspec.Struct):
    """The same as files of a form."""

    first: UploadFile
    second: UploadFile
    first_face: Index | None = None
    second_face: Index | None = None


class FacesCompared(msgspec.Struct):
    """How alike two faces are."""

    chance: float  # that it is one person, were it as likely as not beforehand
    false_matches: float  # share of the pairs of strangers that are at least as alike
    cosine: float
    masked: int  # how many of the two wear a mask: each number has a measure of its own
    first: FoundFaces
    second: FoundFaces
    first_face: int
    second_face: int
    models: dict[str, str]


@post("/compare", opt=needs("people.run", kept=False), status_code=200,
      request_max_body_size=2 * uploads.MOST_BYTES * 4 // 3 + (64 << 10), summary="Compare two pictures in base64")
@waits
def compare(request: Request[Any, Any, Any], db: Db, who: By, data: JSONBody[Two]) -> FacesCompared:
    """Of a picture with several faces, `first_face` or `second_face` says which; without it the answer is 422 with all
    of them."""
    return _compare(db, who, sight.of(request.app.state), (data.first, data.second),
                    (data.first_face, data.second_face))


@post("/compare/upload", opt=needs("people.run", kept=False), status_code=200,
      request_max_body_size=2 * uploads.MOST_BYTES + (64 << 10), summary="Compare two pictures as files")
@waits
def upload(request: Request[Any, Any, Any], db: Db, who: By, data: MultipartBody[TwoFiles]) -> FacesCompared:
    """As POST /v1/faces/compare, as a form."""
    contents = (data.first.file.read(uploads.MOST_BYTES + 1), data.second.file.read(uploads.MOST_BYTES + 1))
    return _compare(db, who, sight.of(request.app.state), contents, (data.first_face, data.second_face))


def _compare(db: Db, who: Who, eyes: Sight, contents: tuple[bytes, bytes], wanted: tuple[int | None, int | None]
             ) -> FacesCompared:
    views, chosen, vectors, masked = [], [], [], 0
    for content, index in zip(contents, wanted, strict=True):
        image = eyes.read(content)
        faces = eyes.look(image)
        which = sight.choose(faces, index)
        views.append(sight.view(image, faces))
        chosen.append(which)
        vectors.append(eyes.embed(image, [faces[which]])[0])
        masked += faces[which].masked
    cosine = float(vectors[0] @ vectors[1])
    audit.write(db, who.id, "faces.compare", address=who.address, cosine=round(cosine, 4))
    return FacesCompared(
        round(likeness.chance(cosine, masked), 4), float(f"{likeness.false_matches(cosine, masked):.3g}"),
        round(cosine, 4), masked, views[0], views[1], chosen[0], chosen[1], eyes.names)


router = Router("/v1/faces", route_handlers=[compare, upload], tags=["search"])
