"""The files that hold predictions: COCO results, DeepLabCut's tables, and SLEAP's labels."""

import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from semipose.data.formats.coco_results import is_prediction_file, save_predictions
from semipose.data.formats.deeplabcut import SCORER, individual_names
from semipose.data.formats.pose_tables import PoseTable, has_likelihoods, write_csv_table, write_h5_table
from semipose.data.formats.sleap import has_predictions_only, save_slp, sleap_skeleton
from semipose.errors import ConfigError
from semipose.structures.categories import Category
from semipose.structures.predictions import Prediction
from semipose.structures.skeletons import Skeleton
from semipose.utils.extras import import_extra
from semipose.utils.files import is_file
from semipose.utils.text import some_of

log = logging.getLogger(__name__)

OUTPUT_FORMATS = {"coco": (".json",), "csv": (".csv",), "dlc": (".csv", ".h5"), "slp": (".slp",)}
"""The suffixes of the files of each format; `dlc` is the pair of files that DeepLabCut's analysis writes."""

FILE_SUFFIX = re.compile(r"\.(?!v\d)[a-z][a-z0-9]{0,4}")
"""A suffix of a file, in small letters; names of folders may end in .2024 or .v2."""


def output_files(out: str | os.PathLike[str], format: str | None = None) -> tuple[Path, list[Path]]:
    """Returns the folder of all output and the files of the predictions.

    Args:
        out: A folder, or a file whose suffix is one of `OUTPUT_FORMATS`. The name of a new folder has no `FILE_SUFFIX`.
        format: A name of `OUTPUT_FORMATS`; that of the suffix, or coco in a folder, if not given.

    Raises:
        ConfigError: If the format is unknown or has no file with this suffix, or the suffix is that of another file.
    """
    out = Path(out)
    if format is not None and format not in OUTPUT_FORMATS:
        raise ConfigError(f"`format`: {format!r} is unknown; use {', '.join(OUTPUT_FORMATS)}")
    suffix = out.suffix.lower()
    known = dict.fromkeys(suffix for suffixes in OUTPUT_FORMATS.values() for suffix in suffixes)
    if FILE_SUFFIX.fullmatch(suffix) and suffix not in known and not out.is_dir():
        raise ConfigError(f"`out`: {out.name} has no known suffix; use {', '.join(known)}, or give a folder")
    if suffix not in known or out.is_dir():
        return out, [out / f"predictions{end}" for end in OUTPUT_FORMATS[format or "coco"]]
    if format is not None and suffix not in OUTPUT_FORMATS[format]:
        raise ConfigError(
            f"`out`: the format {format} has files {' and '.join(OUTPUT_FORMATS[format])}, and {out.name} is none; "
            "give one of them or a folder"
        )
    return out.parent, [out]


def require_writers(files: Sequence[Path]) -> None:
    """Raises ConfigError if a package is missing that one of the files needs, before anything is predicted."""
    for path in files:
        for module in {".h5": ("pandas", "tables"), ".slp": ("sleap_io",)}.get(path.suffix.lower(), ()):
            import_extra(module, "formats", f"writing {path.name}")


def refuse_labels(files: Iterable[Path]) -> None:
    """Logs which of the files are earlier predictions, which will be replaced.

    Raises:
        ConfigError: If one of the files exists and holds something else than predictions, such as labels.
    """
    earlier = [path for path in files if is_file(path) and path.stat().st_size]
    for path in earlier:
        if not _holds_predictions(path):
            raise ConfigError(f"`out`: {path} holds labels or other data, not earlier predictions; choose another file")
    if earlier:
        log.warning("%s: earlier predictions are replaced", some_of([*map(str, earlier)]))


def _holds_predictions(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix == ".json":
        return is_prediction_file(path)
    return has_predictions_only(path) if suffix == ".slp" else has_likelihoods(path)


def write_prediction_files(
    predictions: Sequence[Prediction],
    files: Sequence[Path],
    skeleton: Skeleton,
    rows: Mapping[int | str, str | int],
    source: Path | Sequence[Path],
    category: Category,
) -> None:
    """Writes predictions, each file in the format of its suffix.

    Args:
        predictions: The predictions.
        files: The files to write.
        skeleton: The joints.
        rows: By image id, the name of the image or the number of the frame; a table has a row for each, empty where
            nothing was predicted.
        source: The video, or the images in the order of `rows`.
        category: The category of the subjects.
    """
    for path in files:
        suffix = path.suffix.lower()
        if suffix == ".json":
            names = {image_id: name for image_id, name in rows.items() if isinstance(name, str)}
            save_predictions(predictions, path, files=names)
        elif suffix == ".slp":
            _write_slp(predictions, path, sleap_skeleton(skeleton, category), rows, source)
        else:
            table = prediction_table(predictions, skeleton, rows)
            (write_h5_table if suffix == ".h5" else write_csv_table)(table, path)


def prediction_table(
    predictions: Sequence[Prediction], skeleton: Skeleton, rows: Mapping[int | str, str | int]
) -> PoseTable:
    """Returns the table of predictions with x, y and likelihood of each joint.

    The likelihood is that of `likelihoods`. The animals have the names of the labels whose boxes were used. Others, if
    there are several in an image, are individual1, individual2, … by their tracks or in the order of the predictions.
    """
    found = _by_image(predictions, rows)
    names = individual_names([_names(own) for own in found])
    individuals = list(dict.fromkeys(name for own in names for name in own)) or [None]
    values = np.full((len(rows), len(individuals), len(skeleton), 3), np.nan)
    for row, (own, called) in enumerate(zip(found, names, strict=True)):
        for prediction, name in zip(own, called, strict=True):
            values[row, individuals.index(name)] = np.column_stack([prediction.joints, likelihoods(prediction)])
    columns = tuple((individual, joint) for individual in individuals for joint in skeleton.joints)
    return PoseTable(SCORER, list(rows.values()), columns, values.reshape(len(rows), len(columns), 3))


def likelihoods(prediction: Prediction) -> np.ndarray:
    """Returns the scores of the joints, (K,), within 0…1: the probability that each is right, if it is known.

    Else a score is the peak of the heatmap, and every loss scales heatmaps so that the target of the training has
    peak 1. A regressed heatmap may exceed 1 or be negative by noise, and a distribution over cells exceeds 1 where it
    is narrower than the target; both then count as certain, or as nothing.
    """
    return np.asarray(np.clip(prediction.confidences, 0.0, 1.0))


def _by_image(predictions: Sequence[Prediction], rows: Mapping[int | str, str | int]) -> list[list[Prediction]]:
    """The predictions of each row."""
    found: dict[int | str, list[Prediction]] = {image_id: [] for image_id in rows}
    for prediction in predictions:
        found[prediction.image_id].append(prediction)
    return list(found.values())


def _names(predictions: Iterable[Prediction]) -> list[str | None]:
    """The names of animals: that of the label whose box was used, or individual and the number of the track."""
    return [p.individual or (None if p.track is None else f"individual{p.track}") for p in predictions]


def _write_slp(
    predictions: Sequence[Prediction],
    path: Path,
    skeleton: Any,
    rows: Mapping[int | str, str | int],
    source: Path | Sequence[Path],
) -> None:
    sleap_io = import_extra("sleap_io", "formats", f"writing {path.name}")
    tracks: dict[str | None, Any] = {name: name and sleap_io.Track(name) for name in dict.fromkeys(_names(predictions))}
    frames = [
        [
            sleap_io.PredictedInstance.from_numpy(
                p.joints, skeleton, point_scores=likelihoods(p), score=float(p.score), track=tracks[name]
            )
            for p, name in zip(found, _names(found), strict=True)
        ]
        for found in _by_image(predictions, rows)
    ]
    video = str(source.absolute()) if isinstance(source, Path) else [str(image.absolute()) for image in source]
    save_slp(video, frames, skeleton, path)
