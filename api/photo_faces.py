"""Faces in photos of inspections that may be somebody who is to be erased.

A face in a photo is on no track and has no vector. Here the photos are looked at again, and each face is compared with
what is known of the person: portraits, and the vectors of their tracks. What is alike is erased with the rest; what may
be them, and every photo that was not compared, is listed for somebody to look at.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from api import pictures, vectors
from api.db import micros
from api.differences import iou
from api.erasure import Subject
from api.problems import Problem
from api.sight import Seen, Sight
from api.tables.inspections import Inspection, Photo, Verdict
from api.tables.people import PersonRow, Portrait
from pipeline import likeness
from pipeline.pictures import BadPicture, decode
from pipeline.settings import Settings

log = structlog.get_logger()
MOST, LONGEST = 500, 60.0  # photos, and seconds, of one search: what is older, or comes later, is listed
AROUND = 86_400_000_000  # µs before and after a visitor was seen in which they may be in a photo
PERHAPS = 0.02  # share of strangers that are listed as somebody who may be the person
LISTED = 200  # photos of a report
REFERENCES = 64  # vectors of tracks that are compared with
SAME = 0.5  # overlap by which a face is the one of the verdict


@dataclass
class Photos:
    """What was found."""

    searched: int = 0
    older: int = 0  # photos that are not even listed
    alike: set[str] = field(default_factory=set)  # faces, as their ids are
    review: list[dict[str, Any]] = field(default_factory=list)  # inspection, photo, taken, why

    def report(self) -> dict[str, Any]:
        return {"searched": self.searched, "faces": len(self.alike), "to_review": len(self.review) + self.older,
                "review": self.review[:LISTED]}

    def look_at(self, photo: Photo, why: str) -> None:
        """`why`: perhaps, unsearched, unjudged (the stage has not looked at it)."""
        self.review.append({"inspection": photo.inspection, "photo": photo.id, "taken": photo.taken, "why": why})


@dataclass(frozen=True)
class Known:
    """What is known of a person's face, in one space."""

    vectors: NDArray[np.float32]  # (N, D)
    masked: NDArray[np.bool_]  # (N,)

    def like(self, face: NDArray[np.float32], masked: bool, rate: float) -> bool:
        """Whether it is as alike as a share `rate` of strangers are."""
        kinds = self.masked.astype(int) + int(masked)
        least = np.array([likeness.threshold(max(1e-5, min(0.1, rate)), kind) for kind in range(3)])
        return bool((self.vectors @ face >= least[kinds]).any())


def find(session: Session, settings: Settings, eyes: Sight, subject: Subject) -> Photos:
    """In photos of the sites where they were seen or are enrolled, of the time since they are, or were seen. Without
    models, or without a vector of theirs that these understand, every such photo is listed."""
    found = Photos()
    those = _those(session, subject)
    rows = session.execute(those.limit(MOST + LISTED)).all()
    found.older = (session.scalar(select(func.count()).select_from(those.order_by(None).subquery())) or 0) - len(rows)
    known: Known | None = None
    if any(verdict and verdict.faces for _, verdict in rows):
        try:
            known = _known(session, settings, eyes, subject)
        except (Problem, OSError) as error:
            log.warning("photos are not searched", why=str(error)[:200])
    end = time.monotonic() + LONGEST
    for photo, verdict in rows:
        if verdict is None or verdict.refused:
            found.look_at(photo, "unjudged")
        elif known is None or found.searched >= MOST or time.monotonic() > end:
            found.look_at(photo, "unsearched")
        else:
            _search(settings, eyes, known, photo, verdict, found)
    return found


def _those(session: Session, subject: Subject) -> Any:
    """Photos, newest first, with what was seen in them. Those of an anonymous site show no face."""
    query = select(Photo, Verdict).join(Inspection, Inspection.id == Photo.inspection).outerjoin(
        Verdict, Verdict.frame == Photo.frame).where(Photo.privacy != "anonymous", or_(
            Verdict.frame.is_(None), Verdict.refused != "", func.jsonb_array_length(Verdict.faces) > 0)
        ).order_by(Photo.taken.desc(), Photo.id)
    person = session.get(PersonRow, subject.person) if subject.person else None
    sites = {site for site, _ in subject.places} | ({person.site} if person else set())
    if "" not in sites:
        query = query.where(Inspection.site.in_(sites))
    if person:
        return query.where(Photo.taken >= min(micros(person.created), subject.first or micros(person.created)) - AROUND)
    return query.where(Photo.taken >= subject.first - AROUND, Photo.taken <= subject.last + AROUND)


def _known(session: Session, settings: Settings, eyes: Sight, subject: Subject) -> Known | None:
    """None: there is no vector of theirs in the space of the models in use."""
    found: dict[str, list[tuple[NDArray[np.float32], bool]]] = {}
    for portrait in session.scalars(select(Portrait).where(Portrait.person == (subject.person or None))):
        found.setdefault(portrait.space, []).append((np.frombuffer(portrait.vector, np.float32), portrait.masked))
    for space, hit, vector in vectors.store(settings).of_tracks(sorted(subject.tracks), REFERENCES):
        found.setdefault(space, []).append((vector, hit.masked))
    for those in found.values():
        if eyes.space(len(those[0][0])) in found:
            mine = found[eyes.space(len(those[0][0]))]
            return Known(np.stack([vector for vector, _ in mine]), np.array([masked for _, masked in mine], bool))
    return None


def _search(settings: Settings, eyes: Sight, known: Known, photo: Photo, verdict: Verdict, found: Photos) -> None:
    jpeg = pictures.store(settings).get(photo.picture)
    if jpeg is None:
        return
    try:
        image = decode(jpeg)
        faces = eyes.look(image)
        looks = eyes.embed(image, faces) if faces else ()
    except (BadPicture, Problem) as error:
        log.warning("a photo is not searched", photo=photo.id, why=str(error)[:200])
        found.look_at(photo, "unsearched")
        return
    found.searched += 1
    perhaps = False
    for seen, vector in zip(faces, looks, strict=True):
        id_ = _id(verdict.faces, seen)
        if id_ and known.like(vector, seen.masked, settings.recognise):
            found.alike.add(id_)
        else:
            perhaps |= known.like(vector, seen.masked, PERHAPS)
    if perhaps:
        found.look_at(photo, "perhaps")


def _id(faces: Sequence[dict[str, Any]], seen: Seen) -> str:
    """Of the face of a verdict that this is; empty: none of them."""
    overlaps = [(iou(each["box"], seen.box), str(each["id"])) for each in faces]
    best, id_ = max(overlaps, default=(0.0, ""))
    return id_ if best >= SAME else ""
