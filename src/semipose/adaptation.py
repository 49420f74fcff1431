"""Adaptation: a run without labels, in which a network that knows its joints learns from unlabeled images alone."""

from dataclasses import replace

from semipose.config import RunConfig
from semipose.data.datasets import DataSplits, load_splits, load_unlabeled
from semipose.errors import ConfigError
from semipose.inference.pose_model import load_pose_model
from semipose.methods import METHODS
from semipose.structures.boxes import BoxFacts


def is_adaptation(config: RunConfig) -> bool:
    """Returns whether a run has a network to start from and unlabeled images, but no labels."""
    return config.data.train is None and config.train.start is not None and config.data.unlabeled is not None


def load_data(config: RunConfig) -> DataSplits:
    """Returns the data sets of a run; in an adaptation they have the joints of the network at its start.

    Raises:
        DataError: If a data set can't be read.
        WeightsError: If `train.start` has no weights.
        ConfigError: If options contradict each other or the data.
    """
    if not is_adaptation(config):
        return load_splits(config.data)
    start = load_pose_model(str(config.train.start))
    return load_unlabeled(config.data, start.skeleton, start.category, start.unlearned_joints)


def with_network_of_start(config: RunConfig) -> RunConfig:
    """Returns the configuration of an adaptation with the network, input, loss and decoder of the network at its start.

    Raises:
        ConfigError: If the method needs labels.
    """
    method = METHODS[config.method.name][1]
    if method.needs_labels:
        able = ", ".join(name for name, (_, other) in METHODS.items() if not other.needs_labels)
        raise ConfigError(f"`method`: {config.method.name} needs labels; without `data.train` take {able}")
    start = load_pose_model(str(config.train.start))
    height, width = start.geometry.input_size
    own = {"height": height, "width": width, "padding": start.geometry.padding}
    evaluation = {"decoder": start.decoder, "instance_score": start.instance_score}
    return config.model_copy(
        update={
            "model": start.network.config,
            "input": config.input.model_copy(update=own),
            "loss": start.loss,
            "evaluation": config.evaluation.model_copy(update=evaluation),
            "method": config.method.model_copy(update={"burn_in": 0.0}),
            "auto": (),
        }
    )


def boxes_of_start(config: RunConfig) -> BoxFacts | None:
    """Returns how the boxes of the network at the start of an adaptation were made, if that is known.

    Those that its run found count as given ones, because an adaptation has no box network.
    """
    boxes = load_pose_model(str(config.train.start)).boxes
    return boxes and replace(boxes, kind="given" if boxes.kind == "found" else boxes.kind)
