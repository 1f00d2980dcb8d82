"""Frame -> Frame, or nothing when it would say what the last one said.

The decision needs only the frame's luma digest and the faces last known when it was taken (both are in the frame),
so a replay decides as the live stream did. A picture is cut into blocks of 4 × 4 digest pixels; a block counts as
changed against the last frame that was passed on. What no rule keeps is dropped and booked in the ledger; a seeded
sample of what is dropped is passed on all the same, so that the price of dropping is a measured figure.
"""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.messages import Box, Frame, Ledger
from pipeline.settings import Settings

WIDE, HIGH, BLOCK = 64, 36, 4  # digest, pixels
ROWS, COLUMNS = HIGH // BLOCK, WIDE // BLOCK

# A camera counts as moving when this share of its blocks changes from frame to frame, three frames running: then every
# block test loses to plain even sampling (measured), so even sampling it is, at MOVING_GAP.
MOVING_SHARE, MOVING_FRAMES, MOVING_GAP = 0.6, 3, 0.4
# Blocks that change all the time (a screen, leaves, a fan) learn how much of it is their habit: mean change over
# about 30 frames; a change has to be HABIT times that to count.
HABIT, HABIT_RATE = 3.0, 1 / 30
# A person who walks in changes several blocks side by side; sensor noise and compression change lone ones.
PATCH = 2
# A face that has come, or turned, is looked at for FOLLOW seconds more though it stands still again: a mask state needs
# several looks. Without it people who come and stand had their state told late; with it states are as right as when
# every picture is analysed, for 3 % more pictures (`python -m bench dedup`).
FOLLOW = 0.45
# Faces older than this are no longer where they were.
KNOWN_FOR = 2_000_000  # µs


class Kept(msgspec.Struct, frozen=True):
    """What dedup remembers of a camera."""

    version: int = -1  # offset of the last frame folded in
    at: int = 0  # time of the last frame that arrived, µs
    passed_at: int = 0  # time of the last frame passed on, µs
    passed: bytes = b""  # its digest
    last: bytes = b""  # digest of the last frame that arrived
    habit: bytes = b""  # ROWS × COLUMNS float16: mean change of a block from frame to frame
    moving: int = 0  # frames in a row in which nearly everything changed
    changed_at: int = 0  # time of the last frame in which something changed that counts, µs
    ledger: Ledger = Ledger()


def blocks(digest: bytes) -> NDArray[np.float32]:
    """(ROWS, COLUMNS): mean luma of each block, 0..255."""
    luma = np.frombuffer(digest, np.uint8).reshape(ROWS, BLOCK, COLUMNS, BLOCK)
    return luma.mean(axis=(1, 3), dtype=np.float32)  # type: ignore[no-any-return]


def change(now: NDArray[np.float32], then: NDArray[np.float32]) -> NDArray[np.float32]:
    """(ROWS, COLUMNS): by how much each block differs, less what the whole picture brightened or darkened."""
    step = now - then
    return np.abs(step - np.median(step))  # type: ignore[no-any-return]


def near(faces: tuple[Box, ...]) -> NDArray[np.bool_]:
    """(ROWS, COLUMNS): blocks that show a face or what it may move into; `faces` are 0..1 of the picture."""
    mask = np.zeros((ROWS, COLUMNS), bool)
    for x0, y0, x1, y1 in faces:
        dx, dy = (x1 - x0) / 2, (y1 - y0) / 2
        left, right = int((x0 - dx) * COLUMNS), int(np.ceil((x1 + dx) * COLUMNS))
        top, bottom = int((y0 - dy) * ROWS), int(np.ceil((y1 + dy) * ROWS))
        mask[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = True
    return mask


def sampled(frame: Frame, settings: Settings) -> bool:
    """Whether this dropped frame belongs to the audit sample: by its id and the seed, not by chance."""
    drawn = hashlib.blake2b(f"{settings.seed}:{frame.id}".encode(), digest_size=8).digest()
    return int.from_bytes(drawn, "big") < settings.audit * 2**64


def step(kept: Kept | None, frame: Frame, settings: Settings) -> tuple[Kept, Frame | None]:
    """One frame of one camera.

    A phone photo is always news and changes nothing; nor does a frame that comes after younger ones (a worker that was
    stalled), which passes marked `late`. The last frame again is no frame at all."""
    kept = kept or Kept()
    tell = msgspec.structs.replace
    if frame.source == "inspection":
        return kept, frame
    if frame.at < kept.at or frame.late:
        return kept, tell(frame, late=True, ledger=kept.ledger)
    if frame.at == kept.at:
        return kept, None
    ledger = tell(kept.ledger, seen=kept.ledger.seen + 1)
    if frame.ended:
        ledger = tell(ledger, kept=ledger.kept + 1)
        return Kept(version=kept.version, at=frame.at, ledger=ledger), tell(frame, ledger=ledger)
    if len(frame.digest) != WIDE * HIGH:
        ledger = tell(ledger, kept=ledger.kept + 1)
        return tell(kept, at=frame.at, ledger=ledger), tell(frame, ledger=ledger)

    now = blocks(frame.digest)
    habit = np.frombuffer(kept.habit or bytes(2 * ROWS * COLUMNS), np.float16).astype(np.float32).reshape(ROWS, COLUMNS)
    flow = change(now, blocks(kept.last)) if kept.last else np.zeros_like(now)
    moving = kept.moving + 1 if (flow > settings.block_change).mean() > MOVING_SHARE else 0

    why, changed = _judge(kept, frame, now, habit, moving, settings)
    habit += (flow - habit) * HABIT_RATE
    state = tell(kept, at=frame.at, last=frame.digest, moving=moving, habit=habit.astype(np.float16).tobytes(),
                 changed_at=frame.at if changed else kept.changed_at)
    if why is None:
        ledger = tell(ledger, kept=ledger.kept + 1)
        state = tell(state, passed_at=frame.at, passed=frame.digest, ledger=ledger)
        return state, tell(frame, ledger=ledger)
    if sampled(frame, settings):
        ledger = tell(ledger, audited=ledger.audited + 1)
        return tell(state, ledger=ledger), tell(frame, audit=True, ledger=ledger)
    ledger = tell(ledger, **{why: getattr(ledger, why) + 1})
    return tell(state, ledger=ledger), None


def _judge(
    kept: Kept, frame: Frame, now: NDArray[np.float32], habit: NDArray[np.float32], moving: int, settings: Settings
) -> tuple[str | None, bool]:
    """The ledger's column a frame is dropped under, or None when it is kept; and whether it shows a change."""
    if not kept.passed:
        return None, True
    if frame.probe:
        return None, False
    waited = (frame.at - kept.passed_at) / 1e6
    if moving >= MOVING_FRAMES:
        return (None if waited >= min(MOVING_GAP, settings.heartbeat_frame) - 1e-3 else "still"), False
    differs = change(now, blocks(kept.passed))
    known = bool(frame.known) and frame.at - frame.known_at <= KNOWN_FOR
    if known and (differs[near(frame.known)] > settings.face_change).any():
        return None, True
    moved = differs > settings.block_change
    if moved.any():
        patches, count = ndimage.label(moved & (differs > HABIT * habit))
        if count and np.bincount(patches.ravel())[1:].max() >= PATCH:
            return None, True
    followed = known and (frame.at - kept.changed_at) / 1e6 <= FOLLOW
    if followed or waited >= settings.heartbeat_frame - 1e-3:
        return None, False
    return ("same_faces" if moved.any() else "still"), False
