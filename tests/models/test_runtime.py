import subprocess
import sys

import numpy as np
import pytest

from models import compare, measure, runtime
from models.face import Finder
from models.manifest import Broken, checked
from models.registry import load
from models.runtime import Choice, Network, OpenVino
from pipeline.settings import Settings


def test_the_runtime_follows_from_the_processor_and_what_is_installed(monkeypatch):
    monkeypatch.setattr(runtime, "bfloat16", lambda: True)
    assert runtime.chosen("litert")[:2] == ("litert", "f32")
    assert runtime.chosen("auto")[:2] == ("openvino", "bf16")
    assert runtime.chosen("openvino")[:2] == ("openvino", "bf16")
    monkeypatch.setattr(runtime, "bfloat16", lambda: False)
    assert runtime.chosen("auto") == Choice("litert", "f32", "MASKWATCH_RUNTIME=auto: this processor has no bfloat16, "
                                                             "without it OpenVINO gains little")
    assert runtime.chosen("openvino")[:2] == ("openvino", "f32")
    monkeypatch.setattr(runtime.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(runtime, "bfloat16", lambda: True)
    assert runtime.chosen("auto")[:2] == ("litert", "f32")
    with pytest.raises(Broken, match=r"expected the package openvino, found none: pip install 'maskwatch\[openvino\]'"):
        runtime.chosen("openvino")


@pytest.mark.models
def test_openvino_finds_the_same_faces(weights):
    path = checked(weights.data / "models", "yunet")[0]
    picture = compare.drawing(640, 360)
    lite = Finder(Network(path), 0.3)(picture)
    for precision, pixels in (("f32", 0.05), ("bf16", 4.0)):
        found = Finder(OpenVino(path, precision), 0.3)(picture)
        assert len(found.boxes) == len(lite.boxes) == 3
        for box, score in zip(lite.boxes, lite.scores, strict=True):
            like = measure.overlaps(box, found.boxes)
            assert np.abs(found.boxes[like.argmax()] - box).max() < pixels
            assert found.scores[like.argmax()] == pytest.approx(score, abs=0.03)


@pytest.mark.models
def test_messages_name_the_precision_that_computed(weights, monkeypatch):
    plain = load(weights).names["yunet"]
    for short, name in ((True, f"{plain}-bf16"), (False, plain)):
        monkeypatch.setattr(runtime, "bfloat16", lambda short=short: short)
        asked = Settings(data=weights.data, runtime="openvino", face_score=0.61 if short else 0.62)
        assert load(asked).names["yunet"] == name


@pytest.mark.models
def test_openvino_asks_for_no_address(weights):
    code = """
import sys
asked = []
sys.addaudithook(lambda event, given: asked.append(event) if event.startswith(("socket.", "urllib.")) else None)
from pathlib import Path
import numpy as np
from models.runtime import OpenVino
OpenVino(Path(sys.argv[1]), "f32")((1, 64, 64, 3), lambda into: into.fill(0))
import time; time.sleep(0.5)
print(asked)
"""
    done = subprocess.run([sys.executable, "-c", code, str(checked(weights.data / "models", "yunet")[0])],
                          capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
