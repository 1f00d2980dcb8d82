import cv2
import numpy as np
import pytest

from models import labelled
from models.labelled import Wrong

LABEL = ("<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>20</ymin><xmax>{}</xmax><ymax>80</ymax></bndbox>"
         "</object>")


@pytest.fixture
def boxes(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "annotations").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "one.png"), np.zeros((90, 120, 3), np.uint8))
    write(tmp_path, "one", LABEL.format("with_mask", 20, 80) + LABEL.format("mask_weared_incorrect", 85, 115))
    return tmp_path


def write(folder, name, objects):
    (folder / "annotations" / f"{name}.xml").write_text(f"<annotation>{objects}</annotation>")


def test_boxes_are_read_and_labels_without_a_picture_left_out(boxes):
    write(boxes, "two", LABEL.format("without_mask", 1, 9))
    left = []
    [one] = labelled.boxes(boxes, left=left)
    assert [face.state for face in one.faces] == ["worn", "incorrect"]
    assert [face.box.tolist() for face in one.faces] == [[20, 20, 80, 80], [85, 20, 115, 80]]
    assert one.picture.shape == (90, 120, 3)
    assert left == ["two.xml"]


@pytest.mark.parametrize(("objects", "said"), [
    (LABEL.format("helmet", 1, 9), "expected one of with_mask.*'helmet'"),
    (LABEL.format("with_mask", "left", 9), "expected a bndbox"),
    ("<object>", "expected a Pascal VOC file, got bad XML"),
])
def test_what_is_wrong_with_a_label_file_is_said(boxes, objects, said):
    write(boxes, "one", objects)
    with pytest.raises(Wrong, match=said):
        list(labelled.boxes(boxes))


def test_class_folders_are_framed(tmp_path):
    for name in ("with_mask", "without_mask"):
        (tmp_path / name).mkdir()
    cv2.imwrite(str(tmp_path / "without_mask" / "a.jpg"), np.full((60, 60, 3), 90, np.uint8))
    (tmp_path / "with_mask" / "b.jpg").write_text("no picture")
    left = []
    [one] = labelled.classes(tmp_path, left=left)
    assert one.picture.shape == (100, 100, 3)
    assert one.faces == (labelled.Truth("none", None),)
    assert left == ["with_mask/b.jpg"]


def test_pairs_are_read_and_others_refused(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "pairs.csv").write_text("a,b,same\nx.jpg,y.jpg,1\nx.jpg,z.jpg,0\n")
    assert labelled.pairs(tmp_path) == [("x.jpg", "y.jpg", True), ("x.jpg", "z.jpg", False)]
    (tmp_path / "pairs.csv").write_text("a,b,same\nx.jpg,y.jpg,1\n")
    with pytest.raises(Wrong, match="only one of these"):
        labelled.pairs(tmp_path)
    (tmp_path / "pairs.csv").write_text("a,b,same\nx.jpg,y.jpg,1\nx.jpg,z.jpg,maybe\n")
    with pytest.raises(Wrong, match="expected same to be 1 or 0, line 3 has 'maybe'"):
        labelled.pairs(tmp_path)
    (tmp_path / "pairs.csv").write_text("left,right\n")
    with pytest.raises(Wrong, match="columns a, b, same, got left, right"):
        labelled.pairs(tmp_path)


def test_a_folder_is_told_by_what_it_holds_or_refused_with_the_formats(boxes, tmp_path):
    assert labelled.parts(boxes) == [("boxes", boxes)]
    outer = tmp_path / "outer"
    (outer / "faces" / "with_mask").mkdir(parents=True)
    (outer / "other").mkdir()
    assert labelled.parts(outer) == [("classes", outer / "faces")]
    with pytest.raises(Wrong, match=r"(?s)expected a labelled folder.*pairs\.csv.*holds nothing"):
        labelled.parts(outer / "other")
