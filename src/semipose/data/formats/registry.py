"""One door to all readers: an annotation file is read by what it is, not by what it is called."""

from pathlib import Path

import msgspec

from semipose.data.formats.ai_challenger import read_ai_challenger
from semipose.data.formats.coco import read_coco
from semipose.data.formats.json_files import each, read_json
from semipose.data.formats.lsp import read_lsp
from semipose.data.formats.mpii import read_mpii
from semipose.errors import DataError
from semipose.structures.instances import PoseDataset
from semipose.structures.skeletons import Skeleton


def read_annotations(
    path: Path,
    images: str | Path | None = None,
    *,
    labels: bool = True,
    skeleton: Skeleton | None = None,
    problems: list[str] | None = None,
) -> PoseDataset:
    """Persons of a COCO container, an MPII list, an AI Challenger list or an LSP `joints.mat`.

    `images` is the image folder; found beside the file when not given. `labels=False` leaves joints out; `skeleton` is
    then the one of a COCO container that lists none. Raises DataError with file and remedy; broken records are left
    out instead where `problems` is a list to note them in.
    """
    folder = Path(images) if images else None
    if folder is not None and not folder.is_dir():
        raise DataError(f"image folder {folder} is not there; check --images")
    if path.suffix == ".mat":
        persons = read_lsp(path, folder, problems)
    elif _starts_with_bracket(path):
        reader = read_ai_challenger if _is_ai_challenger(path) else read_mpii
        persons = reader(path, folder, problems)
    else:
        return read_coco(path, folder, labels=labels, skeleton=skeleton, problems=problems)
    return persons if labels else persons.without_labels()


def _starts_with_bracket(path: Path) -> bool:
    """Whether the file holds a JSON list; a file that can't be read is left to the COCO reader's message."""
    try:
        with path.open("rb") as file:
            return file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"["
    except OSError:
        return False


def _is_ai_challenger(path: Path) -> bool:
    records = read_json(path, "annotation list", list[msgspec.Raw])
    first = next(each(records, path), None) if isinstance(records, list) else None
    if not isinstance(first, dict) or not ({"keypoint_annotations", "image"} & set(first)):
        raise DataError(
            f"annotation file {path} is a list, but neither MPII's (image, center, scale, joints) nor AI Challenger's "
            "(image_id, human_annotations, keypoint_annotations); detections go to --boxes"
        )
    return "keypoint_annotations" in first
