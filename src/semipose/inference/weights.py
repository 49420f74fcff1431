"""Weights files: safetensors files with a network and, in the metadata, everything needed to use it."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from semipose.errors import WeightsError
from semipose.inference.predictor import Precision
from semipose.losses import LossConfig
from semipose.metrics.calibration import Calibration
from semipose.metrics.instance_score import InstanceScore
from semipose.models.pose_net import ModelConfig
from semipose.ops.heatmaps import Decoder
from semipose.structures.boxes import BoxFacts
from semipose.structures.categories import PERSON, Category
from semipose.structures.skeletons import Skeleton
from semipose.utils.files import replacing
from semipose.utils.section import Section

FORMAT = 1
"""Version of the description; files of a later version are refused."""
KEY = "semipose"
"""Key of the safetensors metadata whose value is the description as JSON."""


class WeightsDescription(Section):
    """The metadata of a weights file."""

    format: int = FORMAT
    """Version of this description."""
    network: str
    """Name of the network in its method."""
    model: ModelConfig
    """Backbone and head."""
    levels: int
    """Number of heads."""
    skeleton: Skeleton
    """Names, flip pairs, OKS sigmas and limbs of the joints."""
    category: Category = PERSON
    """The category of the training data."""
    input_size: tuple[int, int]
    """Height and width of the input in pixels."""
    padding: float
    """Factor by which a box is enlarged before it is cropped."""
    loss: LossConfig
    """Training loss, which determines the conversion of outputs to heatmaps."""
    decoder: Decoder
    """Conversion of heatmaps to joints."""
    instance_score: InstanceScore = "rescored"
    """Conversion of the peaks of the joints to the score of a person."""
    unlearned_joints: tuple[str, ...] = ()
    """Joints of the skeleton that no labeled person of the training has."""
    precision: Precision = "auto"
    """Precision of predictions."""
    boxes: BoxFacts | None = None
    """How the boxes of the training were made, and their size."""
    headline_networks: tuple[str, ...] = ()
    """Networks of the run whose mean score is the score of the method; together they are the ensemble."""
    calibrations: Mapping[str, Calibration] = {}
    """By network of the run, and `ensemble`: the probability that a joint is right as a function of its peak."""
    not_calibrated: Mapping[str, str] = {}
    """By network that has none: why."""
    sha256: str = ""
    """SHA-256 of the file's tensor bytes."""


def write_weights(path: Path, description: WeightsDescription, state: Mapping[str, Tensor]) -> None:
    """Writes the tensors and their description to the .safetensors file `path`, atomically.

    Raises:
        OSError: If the file cannot be written; an older file of that name is kept.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    digest = hashlib.sha256(_tensor_bytes(save(tensors))).hexdigest()
    metadata = description.model_copy(update={"sha256": digest}).model_dump_json()
    with replacing(path) as temporary:
        # save_file would create a file that only its owner can read
        temporary.write_bytes(save(tensors, {KEY: metadata}))


def write_calibrations(
    path: Path, calibrations: Mapping[str, Calibration], not_calibrated: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Writes calibrations into the description of a weights file, atomically, unless it has them; its tensors stay.

    Args:
        path: The weights file.
        calibrations: The calibrations by network.
        not_calibrated: Why other networks have none.

    Raises:
        OSError: If the file cannot be written.
        WeightsError: If it cannot be read.
    """
    content, known = {"calibrations": {**calibrations}, "not_calibrated": {**not_calibrated}}, read_description(path)
    if {name: getattr(known, name) for name in content} == content:
        return
    description, state = read_weights(path)
    write_weights(path, description.model_copy(update=content), state)


def read_weights(path: Path) -> tuple[WeightsDescription, dict[str, Tensor]]:
    """Returns the description and the tensors of a weights file.

    Raises:
        WeightsError: If the file cannot be read, is damaged or was not written by semipose.
    """
    try:
        content = path.read_bytes()
        state = load(content)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read ({str(error)[:80]}); get another copy of the file") from None
    description = _parse(path, content[8 : 8 + _header_size(content)])
    if hashlib.sha256(_tensor_bytes(content)).hexdigest() != description.sha256:
        raise WeightsError(
            f"{path} is damaged: the SHA-256 of its tensors differs from its metadata; get another copy of the file"
        )
    return description, state


def read_description(path: Path) -> WeightsDescription:
    """Returns the description of a weights file without reading its tensors.

    Raises:
        WeightsError: If the file cannot be read or was not written by semipose.
    """
    try:
        with path.open("rb") as file:
            size = min(_header_size(file.read(8)), path.stat().st_size)
            return _parse(path, file.read(size))
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror}); get another copy of the file") from None


def _header_size(content: bytes) -> int:
    """Returns the size in bytes of the JSON header, which the first 8 bytes of a safetensors file encode."""
    return int.from_bytes(content[:8], "little")


def _tensor_bytes(content: bytes) -> memoryview:
    return memoryview(content)[8 + _header_size(content) :]


def _parse(path: Path, header: bytes) -> WeightsDescription:
    try:
        text = json.loads(header)["__metadata__"][KEY]
        version = json.loads(text)["format"]
    except (ValueError, KeyError, TypeError):
        raise WeightsError(
            f"{path} has no description of a network in its metadata; give a weights file written by semipose"
        ) from None
    if version != FORMAT:
        raise WeightsError(f"{path} has format {version}, but this version reads {FORMAT}; upgrade semipose")
    try:
        return WeightsDescription.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise WeightsError(
            f"{path} has an invalid description of its network ({where}: {first['msg']}); train again"
        ) from None
