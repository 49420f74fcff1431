"""How uncertain predictions are: low scores, disagreement, and jumps between neighboring frames."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from semipose.inference.predictor import Predictor
from semipose.structures.predictions import Prediction

ImageId = int | str


def second_opinion(predictor: Predictor, has_pairs: bool) -> Predictor | None:
    """Returns a predictor whose predictions differ where they are uncertain; None if there is none.

    Of an ensemble it is the first network. Else, with left/right pairs, it averages with the mirrored image.
    """
    if len(predictor.networks) > 1:
        return replace(predictor, networks=predictor.networks[:1])
    return replace(predictor, flip_test=not predictor.flip_test) if has_pairs else None


def uncertainty(
    predictions: Sequence[Prediction],
    opinions: Sequence[Prediction] | None = None,
    around: Mapping[ImageId, Sequence[Prediction]] | None = None,
) -> dict[ImageId, float]:
    """Returns how uncertain the predictions in each image are, the mean of up to three ranks from 0 to 1.

    The ranks are those of the lowest mean score of a person, of the largest mean distance of the joints of a person
    from those of the second opinion, and of the mean distance from the joints in the frame before or after, whichever
    is larger. Distances are relative to the side of the box. An image with several persons, or without a frame next to
    it, has no third rank.

    Args:
        predictions: The predictions. Joints whose scores are all 0 have not been learned and do not count.
        opinions: Those of `second_opinion`, in the same order.
        around: By image id, the predictions in the frames before and after, where these show one person.
    """
    by_image: dict[ImageId, list[int]] = defaultdict(list)
    for n, prediction in enumerate(predictions):
        by_image[prediction.image_id].append(n)
    scores = np.array([p.scores for p in predictions])
    learned = np.asarray(scores.any(axis=0)) if len(scores) else np.zeros(0, bool)
    learned |= not learned.any()  # where every score is 0, all joints are alike
    lowest = {i: -float(scores[own][:, learned].mean(axis=1).min()) for i, own in by_image.items()}
    signals: list[dict[ImageId, float]] = [lowest]
    if opinions is not None:
        apart = [_distance(p, q, learned) for p, q in zip(predictions, opinions, strict=True)]
        signals.append({i: max(apart[n] for n in own) for i, own in by_image.items()})
    single = {i: predictions[own[0]] for i, own in by_image.items() if len(own) == 1}
    near = {i: found for i, found in (around or {}).items() if found and i in single}
    signals.append({i: max(_distance(single[i], other, learned) for other in found) for i, found in near.items()})
    ranks = [_ranks(signal) for signal in signals]
    return {i: float(np.mean([own[i] for own in ranks if i in own])) for i in by_image}


def _distance(first: Prediction, second: Prediction, learned: np.ndarray) -> float:
    """The mean distance of the joints relative to the side of a square as large as the box."""
    side = max(float(np.sqrt(first.box[2] * first.box[3])), 1.0)
    return float(np.linalg.norm(first.joints - second.joints, axis=1)[learned].mean()) / side


def _ranks(values: Mapping[ImageId, float]) -> dict[ImageId, float]:
    """Ranks from 0 for the lowest value to 1 for the highest; equal values have equal ranks."""
    ordered = np.sort(list(values.values()))
    middle = {v: (np.searchsorted(ordered, v, "left") + np.searchsorted(ordered, v, "right") - 1) / 2 for v in ordered}
    return {i: float(middle[v]) / max(len(ordered) - 1, 1) for i, v in values.items()}
