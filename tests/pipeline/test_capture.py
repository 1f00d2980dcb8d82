"""Which pictures are taken, what time they have, and how they are made small."""

from __future__ import annotations

import itertools
import re

import cv2
import numpy as np
import pytest

from pipeline import dedup
from pipeline.capture import (
    SECOND,
    Clock,
    Pace,
    Picture,
    Rhythm,
    ahead,
    bare,
    choose,
    digest,
    fit,
    frame,
    hear,
    mark,
    needless,
    pace,
    public,
    shrink,
    take,
    tick,
)
from pipeline.messages import Camera, Frame, Source

CAMERA = Camera("door", (Source("x.mp4"),), site="plant", place=(3.0, 4.0), privacy="anonymous", width=320)


def taken(times: list[int], fps: float, keys: frozenset[int] = frozenset()) -> list[int]:
    """What a reader does, without the decoding."""
    wanted, rhythm, out = pace(fps), Rhythm(), []
    for at in times:
        rhythm = hear(rhythm, at, at in keys)
        wanted, due = take(wanted, at, rhythm, at in keys)
        if due:
            out.append(at)
    return out


def decoded(count: int, source: float, fps: float, every: int) -> tuple[int, list[int]]:
    """Pictures decoded and pictures taken, of a stream with a keyframe every so many pictures."""
    wanted, rhythm, skipping, number, out = pace(fps), Rhythm(), False, 0, []
    clock = Clock(0)
    for i in range(count):
        at, key = round(i * SECOND / source), i % every == 0
        rhythm = hear(rhythm, at, key)
        if key or not skipping:
            skipping = needless(wanted, rhythm, clock, key)
        if skipping:
            continue
        number += 1
        wanted, due = take(wanted, at, rhythm, key)
        if due:
            out.append(at)
    return number, out


def test_spacing_is_exactly_even_where_the_rates_divide() -> None:
    assert taken([i * 40_000 for i in range(26)], 5) == [0, 200_000, 400_000, 600_000, 800_000, 1_000_000]


def test_spacing_is_as_even_as_it_can_be_where_they_do_not() -> None:
    out = taken([round(i * SECOND / 30) for i in range(3000)], 4)
    assert len(out) == 400
    assert {round((b - a) * 30 / SECOND) for a, b in itertools.pairwise(out)} == {7, 8}


def test_jitter_and_a_varying_rate_do_not_add_up() -> None:
    rng = np.random.default_rng(7)
    times = sorted(int(i * 40_000 + rng.integers(-9_000, 9_000)) for i in range(1, 2500))
    out = taken(times, 5)
    assert len(out) == 500
    assert max(abs(at - (out[0] + i * 200_000)) for i, at in enumerate(out)) < 45_000


def test_a_slow_stream_is_taken_whole_and_a_pause_is_not_caught_up() -> None:
    assert taken([i * 250_000 for i in range(20)], 5) == [i * 250_000 for i in range(20)]
    assert taken([0, 40_000, 5_000_000, 5_040_000, 5_080_000, 5_200_000], 5) == [0, 5_000_000, 5_200_000]


def test_whole_groups_stay_undecoded_at_a_low_rate() -> None:
    number, out = decoded(1000, 25, 0.5, 25)  # 40 s, a picture every 2 s, a keyframe every second
    assert [b - a for a, b in itertools.pairwise(out)] == [2 * SECOND] * 19
    assert number < 100  # learns for three groups, then one picture each two seconds


def test_the_tail_of_a_group_stays_undecoded() -> None:
    number, out = decoded(1000, 25, 5, 25)
    assert out == [i * 200_000 for i in range(200)]
    assert number == 1000 - 37 * 4  # 37 groups after the three that taught the rhythm, 4 pictures each


def test_motion_jpeg_is_decoded_only_where_due() -> None:
    number, out = decoded(1000, 25, 5, 1)
    assert out == [i * 200_000 for i in range(200)]
    assert number <= 203


def test_keyframes_that_drift_against_the_grid_take_it_along() -> None:
    number, out = decoded(3000, 29.97, 1, 30)  # a keyframe every 1.001 s
    assert len(out) == 100
    assert number < 200


def test_keyframes_that_do_not_divide_keep_the_rate() -> None:
    number, out = decoded(25 * 100, 25, 0.3, 25)
    assert len(out) == 30
    assert number < 150


def test_irregular_keyframes_are_not_relied_upon() -> None:
    rhythm = Rhythm()
    for stamp in (0, 900_000, 1_500_000, 2_900_000):
        rhythm = hear(rhythm, stamp, True)
    assert rhythm.every == 0
    assert not needless(Pace(SECOND, 10 * SECOND), rhythm, Clock(0), False)


def test_a_live_clock_is_set_again_when_it_lags_and_never_runs_ahead() -> None:
    clock = tick(Clock(), 500, 10_000_000)
    assert clock.at(500) == 10_000_000
    clock = tick(clock, 1_000_500, 11_300_000)  # 0.3 s late: the network, not the clock
    assert clock.at(1_000_500) == 11_000_000
    clock = tick(clock, 2_000_500, 13_100_000)  # 1.1 s late: set again
    assert clock.at(2_000_500) == 13_100_000
    clock = tick(clock, 2_600_500, 13_200_000)  # what was held up comes in a burst
    assert clock.at(2_600_500) == 13_200_000
    clock = tick(clock, 90_000_000, 13_240_000)  # the camera restarted its count
    assert clock.at(90_000_000) == 13_240_000


def test_a_paced_source_is_told_how_long_to_wait() -> None:
    clock = tick(Clock(), 0, 10_000_000)
    assert ahead(clock, 200_000, 10_050_000) == 150_000
    assert ahead(clock, 60_000_000, 10_050_000) == 0  # a jump is not a wait


def test_a_recording_keeps_its_gaps_and_never_runs_backwards() -> None:
    clock = tick(Clock(), 7_000, None, start=100)
    assert clock.at(7_000) == 100
    clock = tick(clock, 60_007_000, None)
    assert clock.at(60_007_000) == 60_000_100
    clock = tick(clock, 0, None)
    assert clock.at(0) == 60_040_100


def test_sources_are_tried_cheapest_first() -> None:
    main, small, fine, large = (
        Source("main"),
        Source("small", "sub", 352),
        Source("fine", "sub", 960),
        Source("large", "sub", 1280),
    )
    assert choose((main, small, large, fine), 960) == (fine, large, main, small)
    assert choose((main, small), 320) == (small, main)


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("rtsp://admin:p@ss/w@10.0.0.7:554/h264", "rtsp://10.0.0.7:554/h264"),
        ("rtsp://10.0.0.7/live?user=a&password=x&channel=1", "rtsp://10.0.0.7/live?user=***&password=***&channel=1"),
        ("could not open 'http://u:p@h/x?token=abc'", "could not open 'http://h/x?token=***'"),
        ("/data/clip.mp4", "/data/clip.mp4"),
    ],
)
def test_logins_are_removed(told: str, shown: str) -> None:
    assert public(told) == shown


# as cameras and recorders of many makers have them; s3cret and adm1n must not be left
ADDRESSES = [
    "rtsp://adm1n:s3cret@10.0.0.5/Streaming/Channels/101", "rtsp://adm1n:s3cr/s3cret@cam-5.ward.lan:554/h264",
    "rtsp://adm1n:s3cret@s3cret@10.0.0.5/1", "rtsp://adm1n:'s3cret'@10.0.0.5/1", "rtsps://[fd00::5]:322/a?token=s3cret",
    "rtsp://10.0.0.5:554/user=adm1n_password=s3cret_channel=1_stream=0.sdp",
    "rtsp://10.0.0.5:554/user=adm1n&password=s3cret&channel=1&stream=0.sdp",
    "rtmp://10.0.0.5/bcs/channel0_main.bcs?channel=0&stream=0&user=adm1n&password=s3cret",
    "http://10.0.0.5/videostream.cgi?loginuse=adm1n&loginpas=s3cret", "http://10.0.0.5/mjpeg?usr=adm1n&pwd=s3cret",
    "http://10.0.0.5/cgi-bin/CGIStream.cgi?cmd=GetMJStream&usr=adm1n&pw=s3cret",
    "http://10.0.0.5/live?access_token=s3cret", "http://10.0.0.5/live.m3u8?X-Amz-Signature=s3cret&x=1",
    "http://10.0.0.5/11?psw=s3cret", "http://10.0.0.5/11?user_psw=s3cret", "http://10.0.0.5/live?api-key=s3cret",
    "http://10.0.0.5/snap.jpg?u=adm1n&p=s3cret", "http://10.0.0.5/a;jsessionid=s3cret", "adm1n:s3cret@10.0.0.5:554",
    "http://10.0.0.5/live?auth=s3cret#main", "http://10.0.0.5/live?sessionkey=s3cret",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_login_of_an_address_is_shown_and_to_most_people_no_address(address: str) -> None:
    for said in (address, f"expected an RTSP stream at {address}, got a refusal (401)",
                 f"SourceError: '{address}': expected a camera", f"{address}: expected video, got H.265; {address}"):
        for shown in (public(said), bare(said)):
            assert "s3cret" not in shown
            assert "adm1n" not in shown
        assert not {"10.0.0.5", "fd00", "ward", "554", "Streaming", "live"} & set(re.findall(r"[\w.]+", bare(said)))
    assert bare(f"{address}: expected a camera that takes this login, got a refusal (401)") == (
        "…: expected a camera that takes this login, got a refusal (401)")


@pytest.mark.parametrize(("said", "shown"), [
    ("/data/clips/gate.mp4: expected a file, got no such file", "…: expected a file, got no such file"),
    ("rtsp://cam/1: expected a stream, got no answer for 6.5 s", "…: expected a stream, got no answer for 6.5 s"),
    ("got Failed to resolve hostname nvr3: Name or service not known",
     "got Failed to resolve hostname … Name or service not known"),
    ("connect to [fd00::5]:554 10.0.0.5 failed", "connect to … failed"), ("", ""),
])
def test_what_is_left_of_a_reason_without_its_address(said: str, shown: str) -> None:
    assert bare(said) == shown


def planes(image: np.ndarray, width: int, height: int) -> tuple[np.ndarray, ...]:
    flat = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420).reshape(-1)
    size, quarter = width * height, width * height // 4
    parts = flat[:size], flat[size : size + quarter], flat[size + quarter :]
    return parts[0].reshape(height, width), *(p.reshape(height // 2, width // 2) for p in parts[1:])


def test_a_picture_is_scaled_in_its_planes_and_looks_the_same() -> None:
    image = np.zeros((360, 640, 3), np.uint8)
    image[:] = (40, 120, 200)
    image[100:200, 100:300] = (200, 60, 30)
    luma, bgr = shrink(Picture(640, 360, planes(image, 640, 360)), 320)
    wanted = cv2.resize(image, (320, 180), interpolation=cv2.INTER_AREA)
    assert bgr.shape == (180, 320, 3)
    assert np.abs(bgr.astype(int) - wanted).mean() < 2
    assert len(digest(luma)) == 64 * 36


def test_full_range_and_grey_keep_their_brightness() -> None:
    grey = np.full((180, 320), 200, np.uint8)
    half = np.full((90, 160), 128, np.uint8)
    for parts in ((grey,), (grey, half, half), (grey, np.full((180, 320), 128, np.uint8), half)):
        luma, bgr = shrink(Picture(320, 180, parts, full=True), 320)
        assert abs(int(bgr[90, 160].mean()) - 200) <= 1
        assert abs(int(luma[90, 160]) - (16 + 200 * 219 / 255)) <= 1


@pytest.mark.parametrize(
    ("picture", "size"),
    [
        (Picture(1920, 1080, ()), (960, 540)),
        (Picture(640, 360, ()), (640, 360)),
        (Picture(641, 361, ()), (640, 360)),
        (Picture(1920, 1080, (), turn=90), (960, 1706)),
        (Picture(704, 576, (), aspect=16 / 11), (704, 396)),
        (Picture(720, 480, (), aspect=8 / 9), (640, 480)),
        (Picture(1, 1, ()), (2, 2)),
    ],
)
def test_the_small_size_is_upright_even_and_never_larger(picture: Picture, size: tuple[int, int]) -> None:
    assert fit(picture, 960) == size


@pytest.mark.parametrize(
    ("turn", "corner"), [(0, (0, 0)), (90, (-1, 0)), (180, (-1, -1)), (270, (0, -1))]
)  # where the upper left corner goes when turned counter-clockwise
def test_a_turned_picture_stands_upright(turn: int, corner: tuple[int, int]) -> None:
    image = np.zeros((96, 160, 3), np.uint8)
    image[:32, :32] = 255
    for parts in ((image,), planes(image, 160, 96)):
        luma, bgr = shrink(Picture(160, 96, parts, turn=turn), 960)  # type: ignore[arg-type]
        white = np.argwhere(bgr[..., 0] > 200).mean(axis=0) / bgr.shape[:2]
        assert [round(float(v)) for v in white] == [0 if c == 0 else 1 for c in corner]
        assert luma.shape == bgr.shape[:2]


def test_a_frame_carries_the_camera_and_what_is_known() -> None:
    image = np.full((360, 640, 3), 128, np.uint8)
    one = frame(CAMERA, 1_000_000, Picture(640, 360, (image,)), 85, known=((0.1, 0.2, 0.3, 0.4),), known_at=900_000)
    assert (one.id, one.site, one.place, one.privacy) == ("door@1000000", "plant", (3.0, 4.0), "anonymous")
    assert (one.width, one.height, one.source_width, one.source_height) == (320, 180, 640, 360)
    assert cv2.imdecode(np.frombuffer(one.jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (180, 320, 3)
    assert (one.known, one.known_at, one.ended) == (((0.1, 0.2, 0.3, 0.4),), 900_000, False)
    assert mark(CAMERA, 5, ended=True) == Frame(
        "door", 5, site="plant", privacy="anonymous", place=(3.0, 4.0), ended=True
    )


def test_the_digest_hardly_depends_on_the_width() -> None:
    noise = np.random.default_rng(1)
    image = cv2.resize(noise.integers(0, 255, (27, 48, 3), np.uint8), (1920, 1080), interpolation=cv2.INTER_CUBIC)
    image = cv2.add(image, noise.integers(0, 12, image.shape, np.uint8))
    camera = Camera("door", (Source("x.mp4"),))
    picture = Picture(1920, 1080, planes(image, 1920, 1080))
    made = {width: frame(camera, 1, picture, 85, width=width, probe=width == 1920) for width in (640, 960, 1280, 1920)}
    assert [(f.width, f.height, f.probe) for f in made.values()] == [
        (640, 360, False), (960, 540, False), (1280, 720, False), (1920, 1080, True),
    ]  # fmt: skip
    whole = dedup.blocks(made[960].digest)
    for other in made.values():
        assert np.abs(dedup.blocks(other.digest) - whole).max() < 1  # a face that changes is 5 levels
    assert frame(camera, 1, picture, 85).width == 960  # left open, and nobody chose
