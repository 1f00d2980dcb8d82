import pytest

from models import compare
from models.manifest import Broken, converted

pytestmark = pytest.mark.models


@pytest.mark.parametrize("form", ["f32", "int8"])
@pytest.mark.parametrize("name", ["yunet", "sface"])
def test_a_converted_model_does_what_opencv_does_with_the_original(weights, name, form):
    folder = weights.data / "models"
    compare.same(name, form, folder / f"{name}.onnx", converted(folder, name, form))


def test_another_network_is_told_from_the_right_one(weights):
    folder = weights.data / "models"
    with pytest.raises(Broken, match="sface f32"):  # int8 is not within the tolerance of f32
        compare.same("sface", "f32", folder / "sface.onnx", converted(folder, "sface", "int8"))
