"""Selection: new images, apart in time, that differ from each other and from known ones."""

from collections import Counter

import numpy as np
import pytest

from semipose.data.clips import thumbnail
from semipose.data.data_errors import DataErrors
from semipose.data.images import read_image
from semipose.errors import DataError
from semipose.inference.candidates import Candidates, read_candidates
from semipose.inference.known_images import KnownImages
from semipose.inference.selection import image_features, known_features, select, shortlist
from semipose.structures.instances import Instance
from semipose.utils.hashing import content_digest
from tests.data.test_clips import write_frames


def numbers(images):
    return [int(image.stem[3:]) for image in images]


def test_the_shortlist_is_apart_in_time_and_three_times_as_long(tmp_path):
    frames = write_frames(tmp_path, range(41))
    ranked = [frames[n] for n in (20, 21, 19, 22, 23, 24, 25, 26, 0, 40, 1, 30, 12)]
    left_out = Counter()
    found = shortlist(ranked, 2, KnownImages(), left_out)  # a quarter of 40 frames / 2
    assert numbers(found) == [20, 25, 0, 40, 30, 12]
    assert not left_out
    near = shortlist([frames[n] for n in (20, 21, 22, 40)], 4, KnownImages(), left_out)
    assert numbers(near) == [20, 22, 40, 21]  # of 20 frames / 4: one and a quarter apart, then what is left


def test_known_images_and_what_looks_like_them_are_left_out(tmp_path):
    frames = write_frames(tmp_path, range(0, 40, 4))
    known = KnownImages(
        labeled={content_digest(frames[0].read_bytes())}, suggested={content_digest(frames[1].read_bytes())}
    )
    known.add(thumbnail(read_image(frames[2])).gray)
    left_out = Counter()
    found = shortlist(frames, 4, known, left_out)
    assert set(numbers(found)) <= set(numbers(frames[3:]))
    assert left_out == {"labeled already": 1, "suggested before": 1, "like a labeled or suggested image": 1}


def test_features_are_means_over_persons_of_length_one(model, tmp_path):
    frames = write_frames(tmp_path / "v", range(4))
    persons = read_candidates(model, tmp_path / "v", tmp_path, 1, []).persons
    predictor = model.predictor()
    features = image_features(predictor, persons, [frames[2], frames[0]], model.geometry)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1)
    one = image_features(predictor, persons, [frames[0]], model.geometry)
    np.testing.assert_allclose(features[1], one[0], atol=1e-6)
    assert known_features(predictor, KnownImages(), persons, model.geometry) is None
    known = KnownImages(persons=[Instance(frames[0], 0, -1, (0, 0, 64, 48))])
    np.testing.assert_allclose(known_features(predictor, known, persons, model.geometry), one, atol=1e-6)


def test_selected_images_differ_from_each_other(model, tmp_path):
    """Of two groups of images that look alike, one of each."""
    frames = write_frames(tmp_path / "v", (100, 101, 300, 301))
    candidates = read_candidates(model, tmp_path / "v", tmp_path, 2, [])
    found, left_out = select(model.predictor(), candidates, model.geometry, KnownImages(), 2, DataErrors())
    chosen = {candidates.persons.image_paths[p.image_id] for p in found}
    assert len(chosen & set(frames[:2])) == len(chosen & set(frames[2:])) == 1
    assert left_out == {}
    known = KnownImages(labeled={content_digest(image.read_bytes()) for image in frames})
    with pytest.raises(DataError, match="has no image to suggest: 4 labeled already"):
        select(model.predictor(), candidates, model.geometry, known, 2, DataErrors())


def test_frames_that_are_there_for_jumps_are_not_selected(model, tmp_path):
    frames = write_frames(tmp_path / "v", range(6))
    whole = read_candidates(model, tmp_path / "v", tmp_path, 2, [])
    candidates = Candidates(whole.persons, whole.around, frozenset(frames[1::2]))
    found, _ = select(model.predictor(), candidates, model.geometry, KnownImages(), 6, DataErrors())
    assert {candidates.persons.image_paths[p.image_id] for p in found} == set(frames[::2])
