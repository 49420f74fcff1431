"""The most doubtful images first, by their most doubtful person."""

import numpy as np

from semipose.inference.suggest import most_doubtful
from semipose.structures.predictions import Prediction


def prediction(image, *scores):
    return Prediction(image, None, np.zeros((len(scores), 2)), np.array(scores), 1.0, (0, 0, 9, 9))


def test_images_by_their_least_sure_person():
    sure, unsure, mixed = prediction("sure", 0.9, 0.9), prediction("unsure", 0.2, 0.4), prediction("mixed", 0.9, 0.8)
    doubtful = prediction("mixed", 0.1, 0.3)
    everyone = [mixed, sure, unsure, doubtful]
    assert most_doubtful(everyone, 1) == [mixed, doubtful]
    assert most_doubtful(everyone, 2) == [mixed, doubtful, unsure]
    assert most_doubtful(everyone, 9) == [mixed, doubtful, unsure, sure]
    assert most_doubtful([], 3) == []
