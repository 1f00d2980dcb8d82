"""The whole system in memory, with models that need no weights."""

from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
import scenes

from pipeline import messages
from pipeline.flow import Flow, Record
from pipeline.messages import DeadLetter, Episode, Faces, Frame, Trajectory
from pipeline.settings import Settings


@pytest.fixture
def site() -> list[Frame]:
    return scenes.visit()


def run(frames: list[Frame], settings: Settings, **more: object) -> list[Record]:
    return list(Flow(settings, scenes.Models(), **more).run(frames, fill_known=True))  # type: ignore[arg-type]


def test_frames_in_routes_and_episodes_out(site: list[Frame], plain: Settings) -> None:
    records = run(site, plain)
    routes = {r.message.id: r.message for r in records if isinstance(r.message, Trajectory)}
    assert sorted(tuple(leg.camera for leg in route.legs) for route in routes.values()) == [("door",), ("door", "hall")]
    episodes = {r.message.id: r.message for r in records if isinstance(r.message, Episode)}
    (episode,) = episodes.values()
    assert (episode.status, episode.reason, episode.cameras) == ("closed", "mask on", ("door", "hall"))
    unique = [r.message for r in records if r.topic == "frames.unique"]
    faces = [r.message for r in records if r.topic == "faces"]
    embedded = [r.message for r in records if r.topic == "faces.embedded"]
    assert [f.id for f in unique] == [m.frame for m in faces] == [m.frame for m in embedded]
    assert len(unique) < len(site)
    assert all(r.key == (r.message.site if r.topic in ("faces.embedded", "trajectories", "episodes")
                         else r.message.camera) for r in records)


def test_the_same_frames_give_the_same_bytes_with_any_number_of_threads(site: list[Frame], plain: Settings) -> None:
    def written(records: list[Record]) -> list[tuple[str, str, bytes]]:
        return [(r.topic, r.key, messages.encode(r.message)) for r in records]

    alone = written(run(site, plain))
    with ThreadPoolExecutor(4) as pool:
        assert written(run(site, plain, threads=pool)) == alone


def test_what_is_recorded_replays_to_the_same_bytes(site: list[Frame], plain: Settings) -> None:
    """The faces known are in the frame: once recorded, nothing has to be fed back."""
    first = Flow(plain, scenes.Models())
    recorded: list[Frame] = []

    def record() -> list[Record]:
        out = []
        for i in range(0, len(site), 8):
            turn = [msgspec.structs.replace(f, known=first.known[f.camera][0], known_at=first.known[f.camera][1])
                    if f.camera in first.known else f for f in site[i : i + 8]]
            recorded.extend(turn)
            out += list(first.turn(turn))
        return out

    live = record()
    assert list(Flow(plain, scenes.Models()).run(recorded)) == live


def test_two_sites_do_not_see_each_other(site: list[Frame], plain: Settings) -> None:
    both = [*site, *(msgspec.structs.replace(f, camera=f"other-{f.camera}", site="other") for f in site)]
    both.sort(key=lambda f: (f.at, f.camera))
    records = run(both, plain)
    routes = {r.message.id: r.message for r in records if isinstance(r.message, Trajectory)}
    assert sorted((route.site, len(route.legs)) for route in routes.values()) == [
        ("other", 1), ("other", 2), ("site", 1), ("site", 2)]


def test_a_picture_that_is_none_becomes_a_dead_letter_and_the_flow_goes_on(site: list[Frame], plain: Settings) -> None:
    bad = Frame("door", site[0].at - 1, jpeg=b"GIF89a")
    records = run([bad, *site], plain)
    (letter,) = [r.message for r in records if isinstance(r.message, DeadLetter)]
    assert (letter.stage, letter.payload, letter.key) == ("mask", b"GIF89a", "door")
    assert letter.reason.startswith("BadPicture: expected a JPEG")
    assert {r.message.id for r in records if r.topic == "episodes"} == {
        r.message.id for r in run(site, plain) if r.topic == "episodes"}


def test_every_look_names_its_models(site: list[Frame], plain: Settings) -> None:
    for record in run(site, plain):
        if isinstance(record.message, Faces):
            assert record.message.models["look"] == "000000000000"
            embedded = any(face.embedding for face in record.message.faces)
            assert ("embed" in record.message.models) == embedded
