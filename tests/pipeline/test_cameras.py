"""What a camera may be, and what is said of one that may not."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pipeline.cameras import BadCamera, alike, check, faults, load, shown, width
from pipeline.messages import Camera, Source

GOOD = Camera("door", (Source("rtsp://u:secret@10.0.0.7/main"), Source("clip.mp4", "sub", 640)))


WRONG = """
site: x
fpss: 3
cameras:
- camera: a
  sources: [{url: a.mp4}]
  fps: many
- camera: B
  sources: []
"""


def test_every_fault_is_named_and_no_password() -> None:
    bad = msgspec.structs.replace(
        GOOD,
        camera="Door 1",
        name="Door\n1",
        sources=(Source("ftp://u:secret@h/x"), Source("rtsp://u:secret@"), Source("rtsp://u:secret@h:port/x")),
        fps=0,
        width=12,
        direction=400,
    )
    said = faults(bad)
    assert [line.split(": ")[1] for line in said] == [
        "camera", "name", "sources[0].url", "sources[1].url", "sources[2].url", "fps", "width", "direction",
    ]  # fmt: skip
    assert said[5] == "Door 1: fps: expected pictures a second, 0.05..60, got 0"
    assert (
        said[2]
        == "Door 1: sources[0].url: expected rtsp://, rtmp://, http(s)://, a path or /dev/videoN, got 'ftp://h/x'"
    )
    assert "secret" not in "".join(said)
    assert faults(GOOD) == []


def test_one_id_is_one_camera() -> None:
    with pytest.raises(BadCamera, match="door: expected once, got 2 times"):
        check([GOOD, GOOD])


def test_the_example_site_loads() -> None:
    text = (Path(__file__).parents[2] / "infra" / "cameras.yaml").read_text(encoding="utf-8")
    cameras = load(text, {"CAMERA_PASSWORD": "secret"})
    assert [c.camera for c in cameras] == ["entrance", "corridor", "clean-room"]
    assert [c.privacy for c in cameras] == ["pseudonymous", "pseudonymous", "anonymous"]
    assert cameras[0].sources[0].url == "rtsp://viewer:secret@192.0.2.10:554/h264/main"
    assert {c.site for c in cameras} == {"example"}
    assert not cameras[2].running
    assert "secret" not in repr([shown(c) for c in cameras])
    with pytest.raises(BadCamera, match="expected CAMERA_PASSWORD in the environment, got nothing"):
        load(text, {})


def test_a_site_file_that_is_wrong_says_all_of_it() -> None:
    with pytest.raises(BadCamera) as said:
        load(WRONG, {})
    lines = str(said.value).splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("cameras.yaml: fpss: expected one of ")
    assert lines[1] == "cameras.yaml: cameras[0]: Expected `float`, got `str` - at `$.fps`"
    assert "B: camera: expected an id" in lines[2]
    assert "sources: expected at least one address" in lines[3]
    with pytest.raises(BadCamera, match="expected a list under `cameras:`, got list"):
        load("- a", {})


def test_a_width_is_a_number_or_auto() -> None:
    text = "cameras:\n- {camera: a, sources: [{url: a.mp4}], width: %s}"
    assert load(text % "auto", {})[0].width == load("cameras: [{camera: a, sources: [{url: a.mp4}]}]", {})[0].width == 0
    assert load("width: auto\n" + text % "1280", {})[0].width == 1280
    with pytest.raises(BadCamera, match=r"a: width: expected pixels, 64..3840, or auto, got 12"):
        load(text % "12", {})
    assert (width("auto"), width("1280")) == (0, 1280)
    for wrong in ("0", "wide", "12", "-960", "9600"):
        with pytest.raises(ValueError, match=r"expected pixels, 64\.\.3840, or auto"):
            width(wrong)


@pytest.mark.parametrize(("one", "other", "same"), [
    ("rtsp://u:s3cret@10.0.0.7/main", "rtsp://10.0.0.7:554/main/", True),
    ("rtsp://10.0.0.7/main", "RTSPS://x:y@10.0.0.7/main", True),
    ("rtsp://10.0.0.7/main", "rtsp://10.7/main?anything=1", True),
    ("rtsp://10.0.0.7/main", "rtsp://0x0a000007/%6Dain", True), ("rtsp://10.0.0.7/main", "rtsp://167772167/main", True),
    ("rtsp://10.0.0.7/main", "rtsp://[::ffff:10.0.0.7]:554/main", True),
    ("rtsp://10.0.0.7/main", "rtsp://10.0.0.7/main?x=@10.0.0.8/main", True),
    ("http://Cam.Lan./live?channel=1&user=a&pwd=b", "https://cam.lan/live?channel=1", True),
    ("rtsp://10.0.0.7/user=a_password=b_channel=1.sdp", "rtsp://10.0.0.7/user=c_password=d_channel=1.sdp", True),
    ("/data/a.mp4", "file:///data/x/../a.mp4", True), ("rtsp://10.0.0.7:[/", "rtsp://10.0.0.7:[/", True),
    ("rtsp://10.0.0.7/main", "rtsp://10.0.0.7/sub", False), ("rtsp://10.0.0.7/main", "rtsp://10.0.0.8/main", False),
    ("rtsp://10.0.0.7/main", "rtsp://10.0.0.7:8554/main", False), ("rtsp://10.0.0.7/", "http://10.0.0.7/", False),
    ("http://cam/live?channel=1", "http://cam/live?channel=2", False), ("/data/a.mp4", "/data/b.mp4", False),
    ("rtsp://10.0.0.7/user=a_password=b_channel=1.sdp", "rtsp://10.0.0.7/user=a_password=b_channel=2.sdp", False),
])
def test_addresses_of_one_picture_are_known_as_such(one: str, other: str, same: bool) -> None:
    assert alike(one, other) is alike(other, one) is same


def test_an_address_with_a_space_in_its_login_is_refused_without_showing_it() -> None:
    (fault,) = faults(Camera("door", (Source("rtsp://u:s3 cret@10.0.0.7/main"),)))
    assert "%20 stands for one" in fault
    assert "s3" not in fault
