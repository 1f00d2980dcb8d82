"""Real sources, real protocols: what comes out of them, and what is said when nothing does."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import scenes

from agents import video
from agents.video import SourceError, utc
from models import fakes
from pipeline import capture
from pipeline.flow import TURN, Flow
from pipeline.messages import Camera, Faces, Frame, Source, decode, encode
from pipeline.settings import Settings

Clip = Callable[..., Path]
Number = Callable[[np.ndarray], int]

EVEN = [200_000] * 19


def watch(url: str | Path, seconds: float, fps: float = 5, **how: Any) -> tuple[list[int], list[np.ndarray], Any]:
    """Times and pictures of a source within so many seconds."""
    times, pictures, stop = [], [], threading.Event()
    timer = threading.Timer(seconds, stop.set)
    timer.start()
    try:
        with video.open(str(url), fps, stop=stop, **how) as opened:
            for at, picture in opened:
                times.append(at)
                pictures.append(capture.shrink(picture, 960)[1])
            return times, pictures, opened
    finally:
        timer.cancel()


def gaps(times: list[int]) -> list[int]:
    return [b - a for a, b in itertools.pairwise(times)]


# -- recordings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("plain.mp4", {}),
        ("b-frames.mp4", {"b": 3}),
        ("ten-bit.mkv", {"pixels": "yuv420p10le"}),
        ("grey.mkv", {"codec": "ffv1", "pixels": "gray"}),
        ("full-range.avi", {"codec": "mjpeg", "pixels": "yuvj422p"}),
        ("full-chroma.mkv", {"pixels": "yuv444p"}),
        ("odd.mkv", {"codec": "ffv1", "size": (321, 181)}),
        ("no-times.h264", {}),
        ("mpeg4.avi", {"codec": "mpeg4"}),
        ("stream.ts", {"b": 2}),
        ("web.webm", {"codec": "libvpx-vp9", "size": (160, 90)}),
    ],
)
def test_every_kind_of_recording_is_sampled_evenly(clip: Clip, read_number: Number, name: str, how: Any) -> None:
    times, pictures, opened = watch(clip(name, **how), 30, start=1_000_000)
    assert times[0] == 1_000_000
    assert gaps(times) == EVEN
    assert [read_number(p) for p in pictures] == list(range(0, 100, 5))
    assert opened.counts.corrupt == 0
    ground = np.median(pictures[3].reshape(-1, 3), axis=0)
    assert np.abs(ground - 90).max() <= 4  # the room is as bright as it was drawn, whatever the range of the levels


def test_a_varying_rate_is_sampled_by_its_times(clip: Clip, read_number: Number) -> None:
    shown = lambda i: i / 25 if i < 50 else 2 + (i - 50) / 10  # noqa: E731 - 25 a second, then 10
    times, pictures, _ = watch(clip("varying.mkv", times=shown), 30, start=0)
    assert [round(t / 1e6, 3) for t in times] == [round(shown(read_number(p)), 3) for p in pictures]
    assert gaps(times) == [200_000] * (len(times) - 1)
    assert len(times) == 35


def test_a_phone_clip_stands_upright(clip: Clip) -> None:
    lying = watch(clip("plain.mp4"), 30, start=0)[1][3]
    for turn, upright in ((90, cv2.ROTATE_90_COUNTERCLOCKWISE), (180, cv2.ROTATE_180), (-90, cv2.ROTATE_90_CLOCKWISE)):
        turned = watch(clip(f"turned{turn}.mp4", rotation=turn), 30, start=0)[1][3]
        assert np.abs(turned.astype(int) - cv2.rotate(lying, upright)).mean() < 1


def test_what_is_not_needed_is_not_decoded(clip: Clip) -> None:
    counts = {}
    for name, fps, how in (
        ("short-groups.mp4", 1, {"seconds": 12, "gop": 25}),
        ("long-b.mp4", 5, {"seconds": 12, "gop": 250, "b": 3}),
        ("motion.avi", 5, {"seconds": 12, "codec": "mjpeg", "pixels": "yuvj420p"}),
    ):
        times, _, opened = watch(clip(name, **how), 30, fps, start=0)
        assert len(times) == 12 * fps
        counts[name] = (opened.counts.packets, opened.counts.decoded)
    assert counts["short-groups.mp4"][1] <= 90  # three groups to learn, then a picture each
    assert counts["long-b.mp4"][1] <= 250  # many pictures are such that no other needs them
    assert counts["motion.avi"][1] <= 65
    assert {packets for packets, _ in counts.values()} == {300}


def test_two_passes_over_a_recording_say_the_same(clip: Clip) -> None:
    camera = Camera("a", (Source(str(clip("b-frames.mp4", b=3))),))
    first, second = (list(video.frames(camera, start=5)) for _ in range(2))
    assert first == second
    assert [f.ended for f in first] == [False] * 20 + [True]
    assert first[-1].at == first[-2].at + 1


def test_a_file_can_be_a_camera(clip: Clip, read_number: Number) -> None:
    path = clip("loop.mp4", seconds=1.2)
    before = utc()
    times, pictures, _ = watch(path, 3.0, loop=True)
    assert before <= times[0] <= times[-1] <= utc()
    assert 13 <= len(times) <= 16  # in real time, over and over
    assert max(gaps(times)) < 400_000
    numbers = [read_number(p) for p in pictures]
    assert numbers.count(0) >= 2


def test_a_file_ends_in_real_time_without_loop(clip: Clip) -> None:
    began = time.monotonic()
    times, _, _ = watch(clip("loop.mp4", seconds=1.2), 30)
    assert len(times) == 6
    assert 0.9 < time.monotonic() - began < 2.5


def test_a_folder_of_images(tmp_path: Path, read_number: Number, draw: Any) -> None:
    for i in (10, 2, 1):
        cv2.imwrite(str(tmp_path / f"p{i}.{'png' if i == 2 else 'jpg'}"), draw(i, 320, 180))
    (tmp_path / "p3.jpg").write_bytes(b"not a picture")
    (tmp_path / "p4.jpg").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("not looked at")
    times, pictures, opened = watch(tmp_path, 30, start=0)
    assert [read_number(p) for p in pictures] == [1, 2, 10]
    assert times == [0, 200_000, 800_000]
    assert opened.counts.corrupt == 2
    times, _, _ = watch(tmp_path, 1.5, fps=10, loop=True)
    assert 6 <= len(times) <= 10


def test_damage_is_skipped_and_counted(clip: Clip, tmp_path: Path) -> None:
    data = bytearray(clip("stream.ts", b=2).read_bytes())
    rng = np.random.default_rng(1)
    for at in rng.integers(len(data) // 4, len(data) // 2, 40):
        data[at] ^= 0xFF
    (tmp_path / "damaged.ts").write_bytes(data)
    times, _, opened = watch(tmp_path / "damaged.ts", 30, start=0)
    assert opened.counts.corrupt > 0
    assert len(times) >= 10
    assert all(gap > 0 for gap in gaps(times))
    cut = clip("plain.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(cut[: len(cut) // 2])
    assert 5 <= len(watch(tmp_path / "cut.mkv", 30, start=0)[0]) < 20


def test_times_that_jump(clip: Clip, tmp_path: Path) -> None:
    one, two = clip("plain.ts").read_bytes(), clip("short.ts", seconds=2).read_bytes()
    (tmp_path / "joined.ts").write_bytes(one + two)  # the second starts at its own nought
    times, _, _ = watch(tmp_path / "joined.ts", 30, start=0)
    assert all(0 < gap <= 400_000 for gap in gaps(times))
    assert len(times) in (29, 30, 31)


# -- what is said when nothing comes ---------------------------------------------------------------------------------


def sound(path: Path) -> Path:
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("aac", rate=44100)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), "fltp", "mono")
        silence.rate = 44100
        out.mux(stream.encode(silence))
        out.mux(stream.encode(None))
    return path


def test_what_a_source_lacks_is_said(tmp_path: Path, clip: Clip) -> None:
    garbage = tmp_path / "garbage.mp4"
    garbage.write_bytes(np.random.default_rng(1).integers(0, 256, 50_000, np.uint8).tobytes())
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(b"")
    (tmp_path / "nothing").mkdir()
    said = {}
    for url in (
        str(tmp_path / "absent.mp4"),
        str(garbage),
        str(empty),
        str(sound(tmp_path / "sound.mp4")),
        str(tmp_path / "nothing"),
        "ftp://u:secret@h/x",
        "/dev/video97",
    ):
        with pytest.raises(SourceError) as failed:
            watch(url, 20, start=0)
        said[url.rsplit("/", 1)[1]] = str(failed.value)
    assert said["absent.mp4"].endswith("absent.mp4: expected a video file, got no such file")
    assert said["garbage.mp4"].endswith("got data that is not video")
    assert said["empty.mp4"].endswith(
        ("got data that is not video", "got the end of the stream before the first picture")
    )
    assert said["sound.mp4"].endswith("expected a video stream, got audio")
    assert said["nothing"].endswith("got none in it")
    assert said["x"] == "expected rtsp://, rtmp://, http(s)://, a path or /dev/videoN, got ftp://"
    assert said["video97"] == "/dev/video97: expected a USB camera, got no such file"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def silent() -> Iterator[int]:
    """Accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    held.append(server.accept()[0])

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for one in held:
            one.close()


@pytest.mark.parametrize("scheme", ["rtsp", "rtmp", "http"])
def test_a_dead_camera_is_told_in_time_and_without_its_password(scheme: str) -> None:
    with pytest.raises(SourceError) as refused:
        video.open(f"{scheme}://admin:secret@127.0.0.1:{free_port()}/cam", 5)
    assert "connection refused" in str(refused.value)
    with silent() as port:
        began = time.monotonic()
        with pytest.raises(SourceError) as hung:
            video.open(f"{scheme}://admin:secret@127.0.0.1:{port}/cam", 5, timeouts=(1.0, 1.0))
        assert time.monotonic() - began < 5
    assert "no answer" in str(hung.value)
    assert "secret" not in str(refused.value) + str(hung.value)


# -- streams ---------------------------------------------------------------------------------------------------------


def test_rtsp(rtsp: Any) -> None:
    server = rtsp()
    times, _, opened = watch(f"rtsp://127.0.0.1:{server.port}/cam", 5)
    assert (opened.codec, opened.width, opened.height) == ("h264", 320, 180)
    assert len(times) >= 12
    assert abs(times[-1] - utc()) < 1_500_000
    assert gaps(times)[3:] == pytest.approx([200_000] * (len(times) - 4), abs=80_000)
    with pytest.raises(SourceError, match="404: no such stream there"):
        video.open(f"rtsp://127.0.0.1:{server.port}/other", 5)


def test_rtsp_with_a_password(rtsp: Any) -> None:
    server = rtsp(password="secret")
    with pytest.raises(SourceError, match="401: user name or password") as refused:
        video.open(f"rtsp://viewer:wrong@127.0.0.1:{server.port}/cam", 5)
    assert "wrong" not in str(refused.value).replace("user name or password", "")
    assert len(watch(f"rtsp://viewer:secret@127.0.0.1:{server.port}/cam", 3)[0]) >= 3


def test_rtsp_that_dies(rtsp: Any) -> None:
    server = rtsp()
    with video.open(f"rtsp://127.0.0.1:{server.port}/cam", 5, timeouts=(5.0, 3.0)) as opened:
        pictures = iter(opened)
        for _ in range(4):
            next(pictures)
        server.kill()
        with pytest.raises(SourceError, match=r"to go on, got its end|broke off|no answer"):
            list(pictures)


def test_rtmp(rtmp: int, clip: Clip) -> None:
    path = clip("push.flv", seconds=12)
    push = f"""
import av, time
with av.open({str(path)!r}) as clip, av.open("rtmp://127.0.0.1:{rtmp}/live/cam", "w", format="flv") as out:
    stream = out.add_stream_from_template(clip.streams.video[0])
    began = time.monotonic()
    for packet in clip.demux(video=0):
        if packet.dts is None:
            continue
        time.sleep(max(0, float(packet.dts * packet.time_base) - (time.monotonic() - began)))
        packet.stream = stream
        out.mux(packet)
"""
    sender = subprocess.Popen([sys.executable, "-c", push], stderr=subprocess.DEVNULL)
    try:
        time.sleep(1.0)
        times, _, opened = watch(f"rtmp://127.0.0.1:{rtmp}/live/cam", 8)
    finally:
        sender.kill()
        sender.wait()
    assert opened.codec == "h264"
    assert len(times) >= 8
    assert all(0 < gap < 1_000_000 for gap in gaps(times))


def with_sound(path: Path, silent: int = 0) -> Path:
    """Two seconds at 25 a second, pictures beginning `silent` pictures after the sound."""
    with av.open(str(path), "w") as out:
        sound: Any = out.add_stream("aac", rate=44_100)
        film: Any = out.add_stream("libx264", rate=25)
        sound.layout, film.width, film.height, film.pix_fmt = "mono", 320, 180, "yuv420p"
        packets = []
        for number in range(160):
            heard = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            heard.sample_rate, heard.pts = 44_100, number * 1024
            packets += sound.encode(heard)
        for number in range(50):
            seen = av.VideoFrame.from_ndarray(np.full((180, 320, 3), number, np.uint8), "bgr24")
            seen.pts = silent + number
            packets += film.encode(seen)
        for packet in sorted(packets + film.encode(None) + sound.encode(None), key=lambda p: p.dts * p.time_base):
            out.mux(packet)
    return path


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts", "clip.flv"])
def test_sound_beside_the_pictures_is_left_out(name: str, web: tuple[str, Path]) -> None:
    address, folder = web
    file = with_sound(folder / name)
    for source in (str(file), *([f"{address}/{name}"] if file.suffix != ".ts" else [])):  # which has no end over HTTP
        times, pictures, opened = watch(source, 30, start=0)
        assert (opened.codec, len(times), len(pictures)) == ("h264", 10, 10)


def test_flv_that_begins_with_sound_alone(web: tuple[str, Path]) -> None:
    """Half a second of it says nothing of the pictures: then more is looked at."""
    address, folder = web
    with_sound(folder / "late.flv", silent=30)
    with av.open(str(folder / "late.flv"), options={"analyzeduration": video.FLV_LOOK}) as half:
        assert half.streams.video[0].width == 0
    times, pictures, opened = watch(f"{address}/late.flv", 30, start=0)
    assert (opened.width, opened.height, len(times)) == (320, 180, 10)
    assert pictures[0].shape[:2] == (180, 320)


def test_http_file_hls_and_mjpeg(web: tuple[str, Path], clip: Clip, read_number: Number) -> None:
    address, folder = web
    shutil.copy(clip("plain.mp4"), folder / "clip.mp4")
    times, pictures, _ = watch(f"{address}/clip.mp4", 30, start=0)
    assert [read_number(p) for p in pictures] == list(range(0, 100, 5))

    with av.open(str(clip("plain.mp4"))) as source, av.open(str(folder / "live.m3u8"), "w", format="hls") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    times, _, _ = watch(f"{address}/live.m3u8", 30, start=0)
    assert gaps(times) == EVEN
    began = time.monotonic()
    assert len(watch(f"{address}/live.m3u8", 2.5)[0]) >= 5  # as a camera, a playlist is played at its own speed
    assert time.monotonic() - began >= 2.4

    times, pictures, _ = watch(f"{address}/mjpeg", 4)
    assert 12 <= len(times) <= 21
    assert abs(times[-1] - utc()) < 500_000  # the times of arrival, though FFmpeg takes it for 25 a second
    numbers = [read_number(p) for p in pictures]
    assert set(gaps(numbers)[2:]) <= {1, 2, 3}

    with pytest.raises(SourceError, match="404: no such stream there"):
        video.open(f"{address}/absent.m3u8", 5)
    with pytest.raises(SourceError, match="401: user name or password"):
        video.open(f"{address}/private", 5)


def test_a_playlist_cannot_name_a_local_file(web: tuple[str, Path], clip: Clip) -> None:
    address, folder = web
    (folder / "trap.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nfile://{clip('plain.ts')}\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(SourceError):
        watch(f"{address}/trap.m3u8", 15, start=0)


def test_no_due_picture_is_missed_before_a_keyframe_where_pictures_are_stored_out_of_order(clip: Clip) -> None:
    path = clip("b10.mp4", seconds=20, fps=10, gop=24, b=3)
    times = [at for at, _ in video.open(str(path), 5, start=1)]
    assert {round((b - a) / 1000) for a, b in itertools.pairwise(times)} == {200}
    assert len(times) == 100


@pytest.mark.parametrize("how", [{}, {"b": 3}, {"rotation": 90}, {"codec": "libx265"}, {"form": "mpegts"}])
def test_decoding_follows_a_change_of_width_at_a_keyframe_and_misses_nothing(
    clip: Clip, read_number: Number, how: Any
) -> None:
    """Narrow pictures are decoded without the loop filter, wide ones with it; both ways, in the middle of a stream."""
    name = f"width-{'-'.join(str(v) for v in how.values())}.{'ts' if 'form' in how else 'mp4'}"
    # the quickest preset, that of the other clips, has no loop filter to leave out
    path = clip(name, seconds=6, size=(640, 360), options={"x264-params": "deblock=1,1"}, **how)
    turned = "rotation" in how

    def read(*changes: tuple[int, int], width: int) -> tuple[list[int], list[np.ndarray]]:
        times, pictures = [], []
        with video.open(str(path), 5, width=width, start=0) as opened:
            for at, picture in opened:
                times.append(at)
                pictures.append(capture.shrink(picture, 640)[1])
                for number, other in changes:
                    if len(times) == number:
                        opened.analysed(other)
        return times, pictures

    times, fine = read(width=640)
    _, rough = read(width=320)
    again, mixed = read((7, 640), (17, 320), width=320)
    assert times == again
    assert gaps(times) == [200_000] * 29
    upright = [cv2.rotate(p, cv2.ROTATE_90_CLOCKWISE) if turned else p for p in mixed]
    assert [read_number(p) for p in upright] == list(range(0, 150, 5))
    like = [
        "both" if np.array_equal(f, r) else "fine" if np.array_equal(m, f) else "rough" if np.array_equal(m, r) else "?"
        for f, r, m in zip(fine, rough, mixed, strict=True)
    ]
    assert set(like[:7]) <= {"rough", "both"}
    assert set(like[11:17]) <= {"fine", "both"}  # a keyframe a second
    assert set(like[21:]) <= {"rough", "both"}
    assert {"rough", "fine"} <= set(like)


def test_a_recording_chooses_its_width_and_a_replay_of_its_frames_says_the_same(tmp_path: Path) -> None:
    """Faces of 28 pixels in pictures of 1920, in memory: found at 14 pixels, then looked at as they need it."""
    for i in range(40):
        picture = fakes.empty(1920, 1080)
        if i >= 10:
            fakes.draw(picture, (400 + 5 * i, 500, 428 + 5 * i, 528), "worn", 1)
        cv2.imwrite(str(tmp_path / f"{i}.png"), picture)
    camera = Camera("hall", (Source(str(tmp_path)),))

    def run() -> tuple[list[Frame], list[bytes]]:
        flow, frames, told = Flow(Settings(audit=0), scenes.Models()), [], []
        stream = video.frames(camera, start=1_000_000, quality=95, looks=lambda: flow.seen_in("hall"))
        while turn := list(itertools.islice(stream, TURN)):
            frames += turn
            told += [encode(record.message) for record in flow.turn(turn, fill_known=True)]
        return frames, told

    frames, told = run()
    assert run() == (frames, told)
    again = Flow(Settings(audit=0), scenes.Models()).run(frames, fill_known=True)
    assert [encode(record.message) for record in again] == told

    plain = [f.width for f in frames if not f.ended and not f.probe]
    assert [w for i, w in enumerate(plain) if not i or plain[i - 1] != w] == [960, 1920]
    assert 15 <= plain.index(1920) <= 30
    assert {f.width for f in frames if f.probe} == {1920}
    faces = [decode(each, Faces) for each in told if b'"frame":' in each and b'"faces":[{' in each]
    tracks = {face.track for message in faces for face in message.faces}
    assert {message.width for message in faces} == {960, 1920}
    assert len(tracks) == 1  # through every change of width
    assert next(video.frames(camera, start=1)).width == 960  # where nobody says what was seen


@pytest.mark.parametrize("name", ["joined.mp4", "folder"])
def test_who_follows_another_player_of_a_recording_is_where_that_one_is(
    clip: Clip, draw: Any, read_number: Number, tmp_path: Path, name: str
) -> None:
    """The second begins a second later, in the middle, and comes round with the first."""
    source = clip(name, seconds=2, gop=10) if name != "folder" else tmp_path
    if name == "folder":
        for i in range(10):
            cv2.imwrite(str(tmp_path / f"{i}.png"), draw(i, 320, 180))
    seen: list[list[tuple[int, int]]] = [[], []]
    stop = threading.Event()

    def play(which: int, opened: Any) -> None:
        with opened:
            for at, picture in opened:
                seen[which].append((at, read_number(capture.shrink(picture, 960)[1])))

    first = video.open(str(source), 5, loop=True, stop=stop)
    threads = [threading.Thread(target=play, args=(0, first))]
    threads[0].start()
    time.sleep(1)
    second = video.open(str(source), 5, loop=True, stop=stop, follow=lambda: first.begun)
    threads.append(threading.Thread(target=play, args=(1, second)))
    threads[1].start()
    time.sleep(2.6)
    stop.set()
    for thread in threads:
        thread.join()
    assert seen[1][0][1] > 0  # not from the beginning
    assert len(seen[1]) > 10
    each = 40_000 if name != "folder" else 200_000  # µs from one number to the next
    for at, number in seen[1]:
        near = min(seen[0], key=lambda other: abs(other[0] - at))
        assert abs((number - near[1]) * each - (at - near[0])) <= 40_000 or abs(number - near[1]) > 8  # round the end
