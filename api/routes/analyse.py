"""Pictures in, faces and mask states out: nothing is kept, no address is fetched."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Request, Router, post
from litestar.datastructures import UploadFile
from litestar.params import JSONBody, MultipartBody
from msgspec import Meta

from api import sight, uploads
from api.auth import needs
from api.problems import Problem
from api.sight import FoundFace, Sight
from api.waiting import waits

MOST = 16  # pictures of a request
TOTAL = 64 << 20  # bytes of all of them
Picture = Annotated[bytes, Meta(max_length=uploads.MOST_BYTES)]


class Pictures(msgspec.Struct):
    """Pictures as base64: JPEG, PNG or WebP, up to 16 MiB each."""

    pictures: Annotated[list[Picture], Meta(min_length=1, max_length=MOST)]


class Files(msgspec.Struct):
    """The same as files of a form."""

    pictures: Annotated[list[UploadFile], Meta(max_length=MOST)]


class Analysed(msgspec.Struct):
    """One picture."""

    width: int  # after it was turned upright and made no larger than 1920 pixels
    height: int
    faces: list[FoundFace]
    error: str = ""  # why it was not looked at; empty: it was


class Analysis(msgspec.Struct):
    """Every picture, in the order in which they came."""

    pictures: list[Analysed]
    models: dict[str, str]  # model -> first 12 hex digits of its SHA-256


@post("/", opt=needs("compliance.view", kept=False), status_code=200,
      request_max_body_size=TOTAL * 4 // 3 + (64 << 10), summary="Faces and mask states in pictures in base64")
@waits
def analyse(request: Request[Any, Any, Any], data: JSONBody[Pictures]) -> Analysis:
    """Calibrated: of the looks that are given 0.9, nine in ten are right. `unknown` is an answer, never compliance."""
    return _all(sight.of(request.app.state), data.pictures)


@post("/upload", opt=needs("compliance.view", kept=False), status_code=200,
      request_max_body_size=TOTAL + (64 << 10), summary="Faces and mask states in pictures as files")
@waits
def upload(request: Request[Any, Any, Any], data: MultipartBody[Files]) -> Analysis:
    """As POST /v1/analyse; the field `pictures` once a file."""
    if not data.pictures:
        raise Problem(422, "no picture", "expected at least one file in the field `pictures`")
    return _all(sight.of(request.app.state), [each.file.read(uploads.MOST_BYTES + 1) for each in data.pictures])


def _all(eyes: Sight, contents: list[bytes]) -> Analysis:
    """One picture that cannot be read does not spoil the others; a single one is refused."""
    done: list[Analysed] = []
    for content in contents:
        try:
            image = eyes.read(content)
        except Problem as problem:
            if len(contents) == 1 or problem.status_code not in (413, 422):
                raise
            done.append(Analysed(0, 0, [], problem.detail))
            continue
        seen = sight.view(image, eyes.look(image))
        done.append(Analysed(seen.width, seen.height, seen.faces))
    return Analysis(done, eyes.names)


router = Router("/v1/analyse", route_handlers=[analyse, upload], tags=["search"])
