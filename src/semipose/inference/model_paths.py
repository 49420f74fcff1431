"""Paths that are given as a model and are none: what they are, and what to give instead."""

import difflib
from pathlib import Path

from semipose.data.formats.image_folder import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from semipose.errors import WeightsError
from semipose.utils.files import BOX_FINDER, is_run_folder
from semipose.utils.text import some_of

EXPECTED = "give a run folder or a .safetensors file written by semipose"


def require_model_path(path: Path) -> None:
    """Refuses images, videos, ONNX files, folders without weights, and what does not exist.

    Raises:
        WeightsError: With one line that says what the path is, and what to give instead.
    """
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES | VIDEO_SUFFIXES and not path.is_dir():
        kind = "a video" if suffix in VIDEO_SUFFIXES else "an image"
        raise WeightsError(f"{path} is {kind} and no model; the run folder or weights file comes first, then {kind}")
    if suffix == ".onnx" and not path.is_dir():
        raise WeightsError(
            f"{path} is an ONNX file, which is for other programs; give the run folder that it was exported from, or "
            "its .safetensors file"
        )
    if suffix in (".csv", ".h5", ".slp") and path.is_file():
        raise WeightsError(
            f"{path} is a table of predictions and no model; evaluate takes a csv or h5 whose rows are images, or COCO "
            "results (`format=coco`)"
        )
    if not path.exists():
        near = _similar(path)
        raise WeightsError(
            f"there is no folder or file {path}; " + (f"did you mean {some_of(near, 'or')}?" if near else EXPECTED)
        )
    if path.is_dir() and not any((path / name).exists() for name in ("best.safetensors", "last/state.pt", "weights")):
        if (path / BOX_FINDER).is_dir():
            raise WeightsError(f"{path} was stopped while its box network was trained; resume the training")
        runs = _runs_in(path)
        remedy = f"give one of the runs in it: {some_of(runs)}" if runs else EXPECTED
        if not runs and any(entry.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES for entry in path.iterdir()):
            remedy = "the run folder or weights file comes first, then the images or videos"
        raise WeightsError(f"folder {path} is no run, it has no best.safetensors; {remedy}")


def _similar(path: Path) -> list[str]:
    """The entries beside a path that have similar names, the most similar one first."""
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return []
    return [str(path.parent / name) for name in difflib.get_close_matches(path.name, names)]


def _runs_in(folder: Path) -> list[str]:
    """The run folders in a folder, or else those in its subfolders, as a study has them."""
    for pattern in ("*/config.yaml", "*/*/config.yaml"):
        if found := sorted(str(p.parent) for p in folder.glob(pattern) if is_run_folder(p.parent)):
            return found
    return []
