import json

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from cli.models import app
from models import fakes, page, predecessor, report
from models.report import Side

BOX = ("<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>20</ymin><xmax>{}</xmax><ymax>80</ymax></bndbox>"
       "</object>")


def blind(picture):
    seen = fakes.look(picture)
    return type(seen)(*(each[:0] for each in seen))


OURS, OTHER = Side("ours", "fakes", fakes.look, fakes.embed, 0.6), Side("other", "nothing", blind, None, 0.5)


@pytest.fixture
def site(tmp_path):
    """Every format once, in one folder, drawn with faces that the fakes see."""
    boxes, pairs, clips = (tmp_path / "site" / name for name in ("boxes", "pairs", "clips"))
    for folder in (boxes / "images", boxes / "annotations", pairs / "images", pairs / "masked", clips):
        folder.mkdir(parents=True)
    picture = fakes.draw(fakes.draw(fakes.empty(), (20, 20, 80, 80), "worn"), (200, 20, 260, 80), "none")
    fakes.draw(picture, (300, 200, 360, 260), "none")
    cv2.imwrite(str(boxes / "images" / "one.png"), picture)
    objects = BOX.format("with_mask", 20, 80) + BOX.format("mask_weared_incorrect", 200, 260)
    (boxes / "annotations" / "one.xml").write_text(
        f"<annotation>{objects + BOX.format('without_mask', 400, 460)}</annotation>")
    for person in (1, 2):
        for shot in "ab":
            for folder, state in (("images", "none"), ("masked", "worn")):
                portrait = fakes.draw(fakes.empty(200, 200), (50, 50, 150, 150), state, person)
                cv2.imwrite(str(pairs / folder / f"{person}{shot}.png"), portrait)
    (pairs / "pairs.csv").write_text("a,b,same\n" + "".join(
        f"{i}a.png,{j}b.png,{int(i == j)}\n" for i in (1, 2) for j in (1, 2)))
    clip = cv2.VideoWriter(str(clips / "cam.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 4, (640, 360))
    for x in range(100, 180, 10):
        clip.write(fakes.draw(fakes.empty(), (x, 100, x + 80, 180), "worn"))
    clip.release()
    (clips / "ground_truth.json").write_text(json.dumps({"fps": 4, "size": [640, 360], "frames": {"cam": {
        str(i): [{"person": "a", "state": "mask", "box": [100 + 10 * i, 100, 180 + 10 * i, 180]}] for i in range(8)}}}))
    return tmp_path / "site"


def rows(sections):
    return {f"{s.title.split(' (')[0]} | {row.what}": row.values for s in sections for row in s.rows}


def test_every_format_is_measured_for_two_sides(site):
    told = rows(report.sections(site, [OURS, OTHER], every=1, keep=True))
    assert told["boxes: finding faces | found: all, ≥ 16 px"] == ("66.7 % [20.8–93.9] of 3", "0.0 % [0.0–56.2] of 3")
    assert told["boxes: finding faces | found: masked, 40–80 px"][0].startswith("100.0 %")
    assert told["boxes: finding faces | average precision at IoU 0.5, all faces"][0].startswith("0.667")
    assert told["boxes: finding faces | finds that are labelled faces"] == ("66.7 % [20.8–93.9] of 3", "–")
    assert told["boxes: mask state of the faces found | right: incorrect, ≥ 16 px"][0].startswith("0.0 %")
    assert told["boxes: mask state of the faces found | found and right, of all labelled"][0].startswith("33.3 %")
    assert told["clips: finding faces | found: masked, ≥ 80 px"][0] == "100.0 % [67.6–100.0] of 8"
    assert told["clips: mask state of the faces that every side found | right: all"] == ("–", "–")
    for kind in ("bare and bare", "bare and masked", "masked and masked"):
        assert told[f"pairs: one person or two | {kind}: accepted at 1 in 100 false"][0].startswith("100.0 %")
        assert told[f"pairs: one person or two | {kind}: told rightly"][1] == "–"
    at = "above the product's 0.296 for 1 in 1,000"
    for whose, share in (("one person's", "100.0 % [34.2–100.0] of 2"), ("strangers'", "0.0 % [0.0–65.8] of 2")):
        assert told[f"pairs: one person or two | bare and masked: {whose} {at}"] == (share, "–")


def test_pairs_whose_pictures_are_not_there_are_counted(site):
    (site / "pairs" / "masked" / "2b.png").unlink()
    told = rows(report.sections(site / "pairs", [OURS]))
    assert told["pairs: one person or two | bare and masked: pairs without a face found"] == ("2",)
    assert told["pairs: one person or two | bare and bare: pairs without a face found"] == ("0",)
    assert not any("masked and masked" in what for what in told)


def test_the_page_shows_the_wrong_answers_and_needs_no_other_file(site):
    made = report.sections(site, [OURS], every=4, keep=True)
    text = page.page(site, made, [OURS])
    assert "ours: incorrect called none: 1" in text
    assert "ours: not found (bare): 1" in text
    assert "ours: found where nobody is labelled: 1" in text
    assert "bare and masked: two people, most alike: 2" in text
    assert text.count("data:image/jpeg;base64,") == sum(len(m) for s in made for m in s.mistakes.values())
    assert "src='http" not in text
    assert "<script" not in text


def test_the_predecessors_anchors_cover_the_picture_as_its_outputs_do():
    boxes = predecessor.anchors()
    assert boxes.shape == (5972, 4)
    assert boxes[0].tolist() == pytest.approx([0.5 / 33, 0.5 / 33, 0.04, 0.04])
    assert boxes[-1, 3] / boxes[-1, 2] == pytest.approx(1 / 0.42)


@pytest.mark.models
def test_the_command_writes_the_page_and_says_what_it_does_not_understand(weights, site, tmp_path, monkeypatch):
    monkeypatch.setenv("MASKWATCH_DATA", str(weights.data))
    out = tmp_path / "out" / "page.html"
    done = CliRunner().invoke(app, ["eval", str(site / "boxes"), "--html", str(out)])
    assert done.exit_code == 0
    assert "average precision" in done.output
    assert "expected calibration error" in done.output
    assert out.read_text().startswith("<!doctype html>")
    refused = CliRunner().invoke(app, ["eval", str(tmp_path / "out")])
    assert refused.exit_code == 1
    assert "expected a labelled folder of one of these formats" in refused.output
    assert "it holds page.html" in refused.output
    (tmp_path / "weights.tflite").write_bytes(b"no weights")
    refused = CliRunner().invoke(app, ["eval", str(site), "--against", str(tmp_path / "weights.tflite")])
    assert refused.exit_code == 1
    assert "expected a .tflite file" in refused.output


def test_an_onnx_file_is_told_by_its_outputs(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    def made(*names):
        nodes = [helper.make_node("Relu", ["picture"], [name]) for name in names]
        shape = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8])
                 for name in ("picture", *names)}
        graph = helper.make_graph(nodes, "g", [shape["picture"]], [shape[name] for name in names])
        path = tmp_path / f"{names[0]}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8), path)
        return path

    assert report.recognised(made("537", "538", "539", "540")) == "detector"
    with pytest.raises(report.Broken, match=r"expected CenterFace \(outputs 537.*got outputs cls, box; our own models"):
        report.recognised(made("cls", "box"))


@pytest.mark.models
def test_weights_are_told_by_their_input_and_measured_beside_ours(weights, shared):
    from models.manifest import checked

    for name in ("yunet", "mask_state", "sface"):
        assert report.recognised(checked(weights.data / "models", name)[0]) == name
    lite = shared / "baseline" / "aizoo_face_mask_detection_260.tflite"
    ours, theirs = report.sides(weights, [lite])
    picture = cv2.imread(str(sorted((shared / "lfw" / "images").iterdir())[0]))
    seen = theirs.look(np.ascontiguousarray(picture))
    assert theirs.name == "predecessor"
    assert len(seen.boxes) >= 1
    assert seen.states[0].argmax() == 2
    assert report.measure.overlaps(ours.look(picture).boxes[0], seen.boxes).max() > 0.5
