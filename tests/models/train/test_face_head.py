import numpy as np

from models.train import face_head
from models.train.face_head import Faces


def people(count=60, seed=0):
    """Vectors of people whose masked pictures all lie moved in one direction, and of whom one axis is only noise."""
    chance = np.random.default_rng(seed)
    rows, kinds, names = [], [], []
    for i in range(count):
        own = chance.normal(size=16)
        for shot in range(3):
            for kind in ("bare", "far", "worn", "incorrect"):
                vector = own + chance.normal(size=16) * 0.15
                vector[1] = chance.normal() * 3
                vector[0] += 3 * (kind == "worn") * chance.random()
                rows.append(vector / np.linalg.norm(vector))
                kinds.append(kind)
                names.append(f"person{i}_{shot:04}.jpg")
    return Faces(np.array(rows), np.array(kinds), np.array(names))


def test_the_step_tells_people_apart_better_whom_it_has_not_seen():
    head, others = face_head.fit(people()), people(seed=1)

    def accepted(faces):
        mine, strangers = face_head.cosines(faces, ("bare",), ("worn",))
        return (mine > np.quantile(strangers, 0.99)).mean()

    assert accepted(others._replace(vectors=head(others.vectors))) > accepted(others) + 0.1


def test_a_pair_is_never_two_looks_at_one_picture():
    faces = people(count=4)
    mine, strangers = face_head.cosines(faces, ("bare",), ("worn",))
    assert (len(mine), len(strangers)) == (4 * 3 * 2, 4 * 3 * 9)
    mine, strangers = face_head.cosines(faces, ("bare",), ("bare",))
    assert len(mine) == 4 * 3


def test_the_line_of_the_log_odds_lies_between_the_two():
    chance = np.random.default_rng(0)
    steep, even = face_head.line(chance.normal(0.6, 0.1, 4000), chance.normal(0.0, 0.1, 9000))
    assert abs(even - 0.3) < 0.02
    assert abs(steep - 60) < 8
