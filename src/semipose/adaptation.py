"""Runs that start from a network, and adaptations, in which it learns from unlabeled images alone."""

import logging
from dataclasses import replace
from typing import Any

from semipose.augment.views import learned_joints
from semipose.config import RunConfig
from semipose.data.datasets import DataSplits, load_splits, load_unlabeled
from semipose.errors import ConfigError
from semipose.inference.pose_model import load_pose_model
from semipose.methods import METHODS
from semipose.structures.boxes import AUTO, WHOLE, BoxFacts

log = logging.getLogger(__name__)

NETWORK_OPTIONS = ("backbone", "stage", "head", "head_channels")
"""Options of `model` that say how a network is built."""


def is_adaptation(config: RunConfig) -> bool:
    """Returns whether a run has a network to start from and unlabeled images, but no labels."""
    return config.data.train is None and config.train.start is not None and config.data.unlabeled is not None


def load_data(config: RunConfig) -> DataSplits:
    """Returns the data sets of a run; in an adaptation they have the joints of the network at its start.

    A joint whose left or right partner alone has labels is learned from flipped views.

    Raises:
        DataError: If a data set can't be read.
        WeightsError: If `train.start` has no weights.
        ConfigError: If options contradict each other or the data.
    """
    if not is_adaptation(config):
        splits = load_splits(config.data)
        learned = learned_joints(splits.labeled.skeleton, splits.unlearned_joints, config.views)
        if learned is None:
            return replace(splits, unlearned_joints=())
        joints = enumerate(splits.labeled.skeleton.joints)
        return replace(splits, unlearned_joints=tuple(joint for k, joint in joints if k not in learned))
    start = load_pose_model(str(config.train.start))
    return load_unlabeled(config.data, start.skeleton, start.category, start.unlearned_joints)


def with_options_of_start(config: RunConfig) -> RunConfig:
    """Returns the configuration with the network and the loss function of `train.start`, where they are not given.

    An adaptation also has its input, loss and decoder; it can't learn others without labels.

    Raises:
        ConfigError: If an adaptation is given other ones, or its method needs labels.
    """
    if config.train.start is None:
        return config
    start = load_pose_model(config.train.start)
    network = start.network.config
    options: dict[str, Any] = {f"model.{name}": getattr(network, name) for name in NETWORK_OPTIONS}
    options["loss.kind"] = start.loss.kind
    if not is_adaptation(config):
        return config.with_given({key: value for key, value in options.items() if key not in config.given})
    method = METHODS[config.method.name][1]
    if method.needs_labels:
        able = ", ".join(name for name, (_, other) in METHODS.items() if not other.needs_labels)
        raise ConfigError(f"`method`: {config.method.name} needs labels; without `data.train` take {able}")
    height, width = start.geometry.input_size
    options |= {"input.height": height, "input.width": width, "input.padding": start.geometry.padding}
    options |= {f"loss.{name}": value for name, value in start.loss} | {"method.burn_in": 0.0}
    for key in options.keys() & config.given:
        section, _, name = key.partition(".")
        if getattr(getattr(config, section), name) != options[key]:
            raise ConfigError(f"`{key}`: without `data.train` it is that of the start, {options[key]}; leave it out")
    options |= {"model.frozen_stages": network.frozen_stages, "method.levels": 1}  # as measured (adaptation.md)
    options |= {"evaluation.decoder": start.decoder, "evaluation.instance_score": start.instance_score}
    changed = config.with_given({key: value for key, value in options.items() if key not in config.given})
    return changed.model_copy(update={"auto": ()})


def boxes_of_start(config: RunConfig) -> BoxFacts | None:
    """Returns how the boxes of the network at the start of an adaptation were made, if that is known.

    Those that its run found count as given ones, because an adaptation has no box network.
    """
    boxes = load_pose_model(str(config.train.start)).boxes
    return boxes and replace(boxes, kind="given" if boxes.kind == "found" else boxes.kind)


def warn_of_start_in_other_boxes(config: RunConfig, boxes: BoxFacts | None) -> None:
    """Warns, with the remedy, if `train.start` was trained in boxes that are clearly unlike those of the labels."""
    if config.train.start is None or boxes is None or is_adaptation(config):
        return
    trained = load_pose_model(config.train.start).boxes
    if trained is None or not trained.differ_from(boxes):
        return
    words = {"found": f"take `data.boxes={AUTO}`", "whole": f"take `data.boxes={WHOLE}`"}
    log.warning(
        f"{config.train.start} was trained in {trained.describe()}, and the labels are in {boxes.describe()}: it has "
        f"to learn another size first; {words.get(trained.kind, 'give labels with boxes of the same kind')}"
    )
