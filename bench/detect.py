"""Detector and mask state of one analysed picture against the predecessor's network, with what each of them finds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bench import machine, sides
from bench.clips import Clip
from bench.figures import Figure, Section, Table
from models import measure
from models.labelled import Labelled, Truth
from models.runtime import chosen
from pipeline.mask import Looks
from pipeline.settings import Settings

SIZE = (640, 360)
EVERY = 0.8  # seconds of a clip between two pictures
TIMED = 40  # pictures of a round: as many of each clip, with and without faces, as they come
WANTED = "≤ 0.5"
OURS, ALONE, AUTO, THEIRS = "ours", "ours, detector alone", "ours, MASKWATCH_RUNTIME=auto", "predecessor"
SURE = 0.5  # the score from which the predecessor called it a face


def measured(settings: Settings, clips: Sequence[Clip], predecessor: Path, repeats: int, say: Callable[[str], None]
             ) -> Section:
    section = Section(
        "detect", "Detector and mask state of a picture of 640×360", "python -m bench detect",
        notes=[
            f"Processor time of a process of its own on one core and one thread, for {TIMED} pictures of the clips in "
            "the table, from the picture to boxes and states; the sides take turns, a ratio is taken within its round. "
            "*Ours*: both passes of the detector and the mask state of each face, as the `mask` stage runs them. "
            "*Predecessor*: its network as a frozen TensorFlow graph in a session, with its resizing to 260×260 and "
            "its suppression.",
            "Found: labelled faces that are found at each side's own score (ours 0.6, predecessor 0.5), at IoU 0.4. "
            "Faces below 16 pixels are not counted; frames of a clip are alike.",
        ],
    )  # fmt: skip
    names = [OURS, ALONE, AUTO, THEIRS]
    if (quicker := chosen("auto")).runtime == "litert" or settings.runtime != "litert":
        names.remove(AUTO)
    else:
        section.notes.append(f"*MASKWATCH_RUNTIME=auto* is {quicker.runtime} {quicker.precision} here: an extra "
                             "package, not the default (docs/models.md).")
    if not predecessor.is_file():
        names.remove(THEIRS)
        section.notes.append(f"The predecessor's graph is no part of the project and was not there ({predecessor.name}"
                             "): ours is measured alone.")
    pictures = {clip.name: list(labelled(clip)) for clip in clips}
    whole = [each.picture for clip in pictures.values() for each in clip]
    timed = whole[::max(1, len(whole) // TIMED)][:TIMED]
    with sides.opened(tuple(names), settings, machine.core(0), partial(serve, predecessor=predecessor)) as opened:
        cost: dict[str, list[float]] = {name: [] for name in names}
        for number in range(-1, repeats):
            for name in names:
                say(f"{'warming' if number < 0 else f'round {number + 1} of {repeats}'}, {name}")
                seconds = opened[name].run("time", timed)
                if number >= 0:
                    cost[name].append(seconds * 1000 / len(timed))
        if THEIRS in names:
            for name in names[:-1]:
                ratio = [a / b for a, b in zip(cost[name], cost[THEIRS], strict=True)]
                section.figures.append(Figure(f"{name}, times the predecessor", ratio, "×",
                                              WANTED if name == OURS else ""))
        section.figures += [Figure(f"{name}, a picture", cost[name], "ms") for name in names]
        both = {name: opened[name] for name in names if name in (OURS, THEIRS)}
        section.tables = [_found(pictures, both, settings, say)]
    return section


def labelled(clip: Clip) -> Iterator[Labelled]:
    """Pictures of a clip with a truth, made as small as they are analysed, with their faces."""
    truth = clip.faces()
    assert truth is not None
    capture, step = cv2.VideoCapture(str(clip.path)), max(1, round(clip.rate * EVERY))
    number, ratio = -1, np.float32(SIZE[0] / truth.width)
    while capture.grab():
        number += 1
        if number % step:
            continue
        there, picture = capture.retrieve()
        if not there:
            break
        frame = round(number * truth.fps / clip.rate)
        faces = tuple(Truth(face.state, np.array(face.box, np.float32) * ratio, face.visible and not face.changing)
                      for face in truth.frames[clip.camera].get(frame, ()))
        small: NDArray[np.uint8] = cv2.resize(picture, SIZE, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        yield Labelled(f"{clip.name} {number}", clip.name, small, faces)
    capture.release()


def serve(name: str, settings: Settings, predecessor: Path) -> Callable[..., Any]:
    """A side's process: ("time", pictures) -> seconds, ("look", pictures) -> their Looks."""
    look: Callable[[Any], Any]
    if name == THEIRS:
        from models.predecessor import Predecessor

        look = Predecessor(predecessor, SURE)
    elif name == ALONE:
        from models.face import Finder
        from models.manifest import checked
        from models.registry import detector

        look = Finder(detector(checked(settings.data / "models", "yunet")[0], chosen(settings.runtime)),
                      settings.face_score / 2)
    else:
        from models import registry

        look = registry.load(settings.model_copy(update={"runtime": "auto"}) if name == AUTO else settings).look

    def run(what: str, pictures: list[NDArray[np.uint8]]) -> Any:
        if what == "look":
            return [tuple(look(each)) for each in pictures]
        began = time.process_time()
        for each in pictures:
            look(each)
        return time.process_time() - began

    return run


def _found(pictures: dict[str, list[Labelled]], opened: dict[str, sides.Side], settings: Settings,
           say: Callable[[str], None]) -> Table:
    """Recall and rightness of both sides on every clip, and on all."""
    sure = {OURS: settings.face_score, THEIRS: SURE}
    whole = {name: measure.Gathered(sure[name]) for name in opened}
    rows = []

    def row(clip: str, count: int, of: dict[str, measure.Gathered]) -> list[str]:
        out = [clip, str(count)]
        for share in (measure.recall, measure.whole):
            out += [str(share(each.faces)) for each in of.values()]
        return out

    for clip, each in pictures.items():
        say(f"what is found in {clip}")
        mine = {name: measure.Gathered(sure[name]) for name in opened}
        for name, side in opened.items():
            for of, seen in zip(each, side.run("look", [one.picture for one in each]), strict=True):
                for into in (mine[name], whole[name]):
                    into.take(Looks(*seen), of)
        rows.append(row(clip, len(each), mine))
    rows.append(row("all", sum(map(len, pictures.values())), whole))
    head = ["clip", "pictures", *(f"found: {name}" for name in opened),
            *(f"found, and state right: {name}" for name in opened)]
    return Table("Labelled faces from 16 pixels", head, rows)
