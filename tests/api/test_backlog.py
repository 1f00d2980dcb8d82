"""How old the oldest record is that waits for a stage, from what had been written when."""

from __future__ import annotations

from api.backlog import KEPT, STEP, Backlog, Count

S = 1_000_000  # µs


def test_the_age_of_what_waits_is_read_from_what_had_been_written() -> None:
    backlog = Backlog()
    assert backlog.seconds() == {}
    backlog.add(0, {"mask": Count(100, 0)})
    assert backlog.seconds() == {"mask": 0.0}
    backlog.add(10 * S, {"mask": Count(200, 100)})  # nothing done for ten seconds: the oldest came right after the look
    assert backlog.seconds() == {"mask": 10.0}
    backlog.add(20 * S, {"mask": Count(300, 50)})  # done: 250, of which the last was written at 15 s
    assert backlog.seconds() == {"mask": 5.0}
    backlog.add(30 * S, {"mask": Count(300, 50)})
    assert backlog.seconds() == {"mask": 15.0}
    backlog.add(31 * S, {"mask": Count(2, 2)})  # made anew: what is known begins here
    assert backlog.seconds() == {"mask": 0.0}


def test_what_is_older_than_the_first_look_is_at_least_as_old() -> None:
    backlog = Backlog()
    backlog.add(0, {"mask": Count(100, 80)})
    backlog.add(4 * S, {"mask": Count(100, 60)})
    assert backlog.seconds() == {"mask": 4.0}


def test_an_hour_is_told_with_the_most_of_every_quarter_of_a_minute() -> None:
    backlog = Backlog()
    for at in range(0, int(2 * KEPT) + 1, 3):
        backlog.add(at * S, {"mask": Count(at, 7 if at == 2 * KEPT - 15 else 1), "embed": Count(at, 0)})
    told = backlog.moments()
    assert len(told) == KEPT / STEP + 1
    assert told[0].at >= KEPT * S
    assert [moment.waiting["mask"] for moment in told[-3:]] == [1, 7, 1]
    assert told[-1].waiting["embed"] == 0
