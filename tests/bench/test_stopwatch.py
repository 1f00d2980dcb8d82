"""The stopwatch counts a step without what is nested in it, and finds every step that it names."""

import time
from pathlib import Path

import pytest

from bench import clips, stopwatch
from bench.percore import linked
from bench.stopwatch import Decoder, Stopwatch


def busy(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_nested_time_counts_for_the_inner_step() -> None:
    watch = Stopwatch()
    inner = watch.wrap("inner", lambda: busy(0.02))

    def work() -> None:
        busy(0.01)
        inner()
        inner()

    watch.wrap("outer", work)()
    told = watch.read()
    assert told["inner"][0] == 2
    assert told["outer"][0] == 1
    assert 0.04 <= told["inner"][1] < 0.06
    assert 0.01 <= told["outer"][1] < 0.03


def test_a_timed_decoder_is_the_decoder() -> None:
    class Context:
        skip_frame = "DEFAULT"

        def decode(self, packet: int) -> list[int]:
            return [packet]

    watch, context = Stopwatch(), Context()
    decoder = Decoder(context, watch, stopwatch.DECODE)
    decoder.skip_frame = "NONREF"
    assert decoder.decode(3) == [3]
    assert context.skip_frame == decoder.skip_frame == "NONREF"
    assert watch.read()[stopwatch.DECODE][0] == 1


def test_detections_become_tracks_of_several_looks() -> None:
    walk = [(i / 5, ((100 + 10 * i, 50, 140 + 10 * i, 100),)) for i in range(6)]
    stray = [(9.0, ((500, 50, 540, 100),))]
    assert [len(track) for track in linked([*walk, *stray])] == [6]  # type: ignore[arg-type]


def test_clips_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(clips.Missing, match="maskwatch demo render"):
        clips.demo(tmp_path)
