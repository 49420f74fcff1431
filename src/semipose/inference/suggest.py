"""Which predictions to correct first: those whose joints have the lowest scores."""

from collections.abc import Sequence

from semipose.structures.predictions import Prediction


def most_doubtful(predictions: Sequence[Prediction], images: int) -> list[Prediction]:
    """The predictions of the `images` most doubtful images, the most doubtful image first.

    A person is as doubtful as the mean of its joints' scores is low, an image as its most doubtful person. On LSP
    Extended this told errors as well as how far a network disagrees with its mirror image, or with another network,
    which take a second look (docs/using.md).
    """
    lowest: dict[int | str, float] = {}
    for prediction in predictions:
        score = float(prediction.scores.mean())
        lowest[prediction.image_id] = min(score, lowest.get(prediction.image_id, score))
    rank = {image: place for place, image in enumerate(sorted(lowest, key=lambda image: lowest[image])[:images])}
    return sorted((p for p in predictions if p.image_id in rank), key=lambda p: rank[p.image_id])
