"""Predictions in DeepLabCut's tables, of DeepLabCut itself, Lightning Pose or `predict`, for images with labels."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from semipose.data.formats.image_folder import IMAGE_SUFFIXES
from semipose.data.formats.image_names import ImageIndex, ImageReference
from semipose.data.formats.pose_tables import PoseTable, read_csv_table, read_h5_table
from semipose.errors import DataError
from semipose.structures.instances import PoseDataset
from semipose.structures.joint_names import matching_keys
from semipose.structures.predictions import Prediction

TABLE_SUFFIXES = (".csv", ".h5")


def load_table_predictions(
    path: Path, truth: PoseDataset, problems: list[str] | None = None, left_out: Counter[str] | None = None
) -> tuple[list[Prediction], tuple[str, ...]]:
    """Reads the predictions of a table whose rows are images.

    The score of an animal is the mean likelihood of its joints, 1 in a table without likelihoods. An animal without any
    joint in an image has no prediction there; of one with some, the others lie in their middle and have score 0. Names
    of images and joints may differ from those of the labels as in `ImageIndex` and `matching_keys`.

    Args:
        path: The csv or h5 file.
        truth: The labels that the predictions are for; predictions for other images are left out.
        problems: Collects one line for each broken row, which is then left out.
        left_out: A counter to which the number of predictions for other images is added.

    Returns:
        The predictions with the joints of `truth`, and the names of the joints that the table lacks.

    Raises:
        DataError: If the file is no such table, its rows are frames of a video, it has no joint of `truth`, or no row
            is for an image of `truth`.
    """
    table = read_h5_table(path) if path.suffix.lower() == ".h5" else read_csv_table(path, problems)
    if strange := [str(name) for name in table.names if not str(name).lower().endswith(tuple(IMAGE_SUFFIXES))]:
        raise DataError(
            f"{path}: row {strange[0][:80]!r} is no image, as in a table for a video; give predictions for the "
            "labeled images (DeepLabCut: analyze_time_lapse_frames, or the h5 file in evaluation-results)"
        )
    keys, theirs = matching_keys(truth.skeleton.joints), matching_keys(table.joints)
    missing = tuple(joint for joint, key in zip(truth.skeleton.joints, keys, strict=True) if key not in theirs)
    if len(missing) == len(keys):
        raise DataError(f"{path} predicts {', '.join(table.joints[:4])}, …, no joint of {truth.source}")
    found = list(_predictions(table, keys, truth.category.parts[0].id))
    references = [ImageReference(None, str(p.image_id)) for p in found]
    ids = ImageIndex.of_dataset(truth).locate(references, path, "prediction", truth.source, problems)
    if left_out is not None:
        left_out["predictions for other images"] += ids.count(None)
    return [replace(p, image_id=i) for p, i in zip(found, ids, strict=True) if i is not None], missing


def _predictions(table: PoseTable, keys: tuple[str, ...], category_id: int | str) -> Iterator[Prediction]:
    """The animals of all rows with the joints `keys`; their image ids are the names of the images."""
    values = table.values
    if values.shape[2] == 2:
        values = np.concatenate([values, np.isfinite(values[..., :1])], axis=2)
    of_joint = dict(zip(matching_keys(table.joints), table.joints, strict=True))
    column = {pair: c for c, pair in enumerate(table.columns)}
    for individual in table.individuals:
        columns = [column.get((individual, of_joint.get(key, ""))) for key in keys]
        for name, row in zip(table.names, values, strict=True):
            pose = np.array([(np.nan,) * 3 if c is None else row[c] for c in columns])
            known = np.isfinite(pose[:, :2]).all(axis=1)
            if not known.any():
                continue
            joints = np.where(known[:, None], pose[:, :2], pose[known, :2].mean(axis=0))
            scores = np.where(known, np.nan_to_num(pose[:, 2]), 0.0)
            low, high = joints.min(axis=0).tolist(), joints.max(axis=0).tolist()
            yield Prediction(
                image_id=name,
                annotation_id=None,
                joints=joints,
                scores=scores,
                score=float(scores[known].mean()),
                box=(low[0], low[1], high[0] - low[0], high[1] - low[1]),
                category_id=category_id,
                individual=individual,
            )
