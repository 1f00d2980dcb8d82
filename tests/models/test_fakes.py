import cv2
import numpy as np

from models import fakes
from pipeline.messages import STATES


def test_a_face_is_found_where_it_was_drawn_with_the_state_it_was_drawn_with():
    picture = fakes.empty()
    for i, state in enumerate(STATES):
        fakes.draw(picture, (20 + 150 * i, 40, 80 + 150 * i, 110), state, person=i)
    seen = fakes.look(cv2.imdecode(cv2.imencode(".jpg", picture)[1], cv2.IMREAD_COLOR))
    assert [STATES[i] for i in seen.states.argmax(axis=1)] == list(STATES)
    assert np.abs(seen.boxes - [(20 + 150 * i, 40, 80 + 150 * i, 110) for i in range(4)]).max() <= 2
    assert seen.landmarks.shape == (4, 5, 2)
    assert seen.boxes.dtype == seen.scores.dtype == seen.landmarks.dtype == seen.states.dtype == np.float32


def test_an_empty_picture_has_no_faces():
    seen = fakes.look(fakes.empty(320, 180))
    assert (seen.boxes.shape, seen.scores.shape, seen.landmarks.shape, seen.states.shape) == (
        (0, 4), (0,), (0, 5, 2), (0, 4))


def test_a_person_is_recognised_with_and_without_a_mask_and_not_taken_for_another():
    def face(person, state):
        picture = fakes.draw(fakes.empty(112, 112), (0, 0, 112, 112), state, person)
        return cv2.imdecode(cv2.imencode(".jpg", picture)[1], cv2.IMREAD_COLOR)

    vectors = fakes.embed(np.stack([face(1, "worn"), face(1, "none"), face(2, "worn"), face(3, "none")]))
    like = vectors @ vectors.T
    assert np.allclose(np.diag(like), 1, atol=1e-5)
    assert like[0, 1] > 0.9
    assert max(like[0, 2], like[0, 3], like[2, 3]) < 0.6
