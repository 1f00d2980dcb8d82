"""What dedup passes on, what it drops, and how it books both."""

from itertools import pairwise

import msgspec
import numpy as np

from pipeline import dedup
from pipeline.messages import Frame, Ledger
from pipeline.settings import Settings

STEP = 200_000


def frames(*pictures: np.ndarray, known: tuple = ()) -> list[Frame]:
    return [
        Frame("cam", 1_000_000 + i * STEP, jpeg=b"x", digest=p.astype(np.uint8).tobytes(), known=known,
              known_at=1_000_000 + i * STEP if known else 0)
        for i, p in enumerate(pictures)
    ]


def run(stream: list[Frame], settings: Settings) -> tuple[list[Frame], Ledger]:
    kept, passed = None, []
    for frame in stream:
        kept, out = dedup.step(kept, frame, settings)
        if out:
            passed.append(out)
    assert kept is not None
    return passed, kept.ledger


def grey(level: int = 100) -> np.ndarray:
    return np.full((36, 64), level)


def with_patch(x: int, y: int, high: int = 12, wide: int = 8, level: int = 180) -> np.ndarray:
    picture = grey()
    picture[y : y + high, x : x + wide] = level
    return picture


def test_a_still_picture_passes_once_and_then_once_a_second(plain: Settings) -> None:
    passed, ledger = run(frames(*[grey()] * 16), plain)
    assert [(f.at - 1_000_000) // STEP for f in passed] == [0, 5, 10, 15]
    assert ledger == Ledger(seen=16, kept=4, still=12)


def test_somebody_walking_in_passes_every_frame(plain: Settings) -> None:
    passed, _ = run(frames(grey(), *[with_patch(4 * i, 8) for i in range(10)]), plain)
    assert len(passed) == 11


def test_light_that_changes_everywhere_at_once_is_no_news(plain: Settings) -> None:
    _, ledger = run(frames(grey(100), grey(120), grey(90)), plain)
    assert ledger == Ledger(seen=3, kept=1, still=2)


def test_a_small_change_passes_only_where_a_face_is_known(plain: Settings) -> None:
    pictures = [grey(), with_patch(20, 8, 4, 4, 107)]
    face = ((0.3, 0.2, 0.4, 0.4),)
    assert len(run(frames(*pictures), plain)[0]) == 1
    assert len(run(frames(*pictures, known=face), plain)[0]) == 2


def test_faces_known_long_ago_are_not_there_any_more(plain: Settings) -> None:
    first, second = frames(grey(), with_patch(20, 8, 4, 4, 107), known=((0.3, 0.2, 0.4, 0.4),))
    second = msgspec.structs.replace(second, known_at=second.at - 3_000_000)
    assert len(run([first, second], plain)[0]) == 1


def test_a_lone_block_that_flickers_is_booked_as_the_same_faces(plain: Settings) -> None:
    _, ledger = run(frames(grey(), with_patch(20, 8, 4, 4)), plain)
    assert ledger == Ledger(seen=2, kept=1, same_faces=1)


def test_a_screen_that_always_moves_becomes_a_habit(plain: Settings) -> None:
    rng = np.random.default_rng(1)
    stream = []
    for _ in range(200):
        picture = grey()
        picture[4:16, 40:60] = rng.integers(60, 200, (3, 5)).repeat(4, 0).repeat(4, 1)
        stream.append(picture)
    _, ledger = run(frames(*stream), plain)
    late = run(frames(*stream[:100]), plain)[1]
    assert ledger.kept - late.kept < 50  # of the second hundred, at least half are dropped
    assert ledger.same_faces > 50


def test_a_moving_camera_is_sampled_evenly(plain: Settings) -> None:
    rng = np.random.default_rng(2)
    passed, ledger = run(frames(*[rng.integers(0, 255, (36, 64)) for _ in range(40)]), plain)
    gaps = {(b.at - a.at) // STEP for a, b in pairwise(passed[5:])}
    assert gaps == {2}
    assert ledger.seen == ledger.kept + ledger.still == 40


def test_the_audit_sample_is_drawn_by_the_seed_alone() -> None:
    settings = Settings(audit=0.25)
    stream = frames(*[grey()] * 400)
    first, ledger = run(stream, settings)
    second, _ = run(stream, settings)
    assert first == second
    audited = [f for f in first if f.audit]
    assert len(audited) == ledger.audited
    assert 0.18 < len(audited) / 320 < 0.32
    other, _ = run(stream, Settings(audit=0.25, seed=7))
    assert [f.at for f in other if f.audit] != [f.at for f in audited]
    # what is audited changes nothing about what is kept
    assert [f.at for f in first if not f.audit] == [f.at for f in run(stream, Settings(audit=0))[0]]


def test_every_frame_is_booked_once(plain: Settings) -> None:
    rng = np.random.default_rng(3)
    stream = frames(*[with_patch(int(x), 8) if x > 10 else grey() for x in rng.integers(0, 50, 300)])
    passed, ledger = run(stream, Settings(audit=0.1))
    assert ledger.seen == 300 == ledger.kept + ledger.still + ledger.same_faces + ledger.audited
    assert len(passed) == ledger.kept + ledger.audited
    assert passed[-1].ledger is not None


def test_the_end_of_a_stream_passes_and_is_forgotten(plain: Settings) -> None:
    stream = frames(grey(), grey())
    end = Frame("cam", stream[-1].at + 1, ended=True)
    again = msgspec.structs.replace(stream[0], at=end.at + STEP)
    passed, ledger = run([*stream, end, again], plain)
    assert [f.ended for f in passed] == [False, True, False]
    assert ledger.kept == 3


def test_a_frame_from_the_past_passes_as_late_and_changes_nothing(plain: Settings) -> None:
    stream = frames(*[grey()] * 4)
    kept = None
    for frame in stream:
        kept, _ = dedup.step(kept, frame, plain)
    after, out = dedup.step(kept, stream[1], plain)
    assert after == kept
    assert out is not None
    assert (out.at, out.late) == (stream[1].at, True)
    assert dedup.step(kept, stream[-1], plain) == (kept, None)


def test_a_phone_photo_is_never_dropped(plain: Settings) -> None:
    stream = [msgspec.structs.replace(f, source="inspection") for f in frames(grey(), grey(), grey())]
    assert len(run(stream, plain)[0]) == 3


def test_a_frame_without_a_digest_passes(plain: Settings) -> None:
    stream = [msgspec.structs.replace(f, digest=b"short") for f in frames(grey(), grey())]
    assert len(run(stream, plain)[0]) == 2


def test_a_probe_always_passes(plain: Settings) -> None:
    still = frames(*[grey()] * 4)
    still[2] = msgspec.structs.replace(still[2], probe=True)
    passed, ledger = run(still, plain)
    assert [frame.at for frame in passed] == [still[0].at, still[2].at]
    assert (ledger.kept, ledger.still) == (2, 2)
