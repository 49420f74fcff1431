"""Builds what a configuration describes: the device and open options, the method with its networks, and the engine."""

import logging

import torch

from semipose.augment.views import ViewSampler, learned_joints
from semipose.auto import choose_options
from semipose.config import RunConfig
from semipose.data.crops import CropGeometry
from semipose.data.datasets import DataSplits
from semipose.errors import ConfigError
from semipose.inference.pose_model import PoseModel, load_pose_model
from semipose.methods import METHODS, build_method
from semipose.methods.base import Method, MethodContext
from semipose.methods.weight_averaging import WithAverages
from semipose.models.pose_net import PoseNet
from semipose.structures.skeletons import Skeleton
from semipose.training.distributed import process_device, world_size
from semipose.training.dry_run import dry_run_training
from semipose.training.engine import Engine
from semipose.training.optim import build_optimizer
from semipose.training.precision import cpu_precision, gpu_precision
from semipose.utils.device import has_apple_gpu
from semipose.utils.text import first_line

log = logging.getLogger(__name__)

MEASURED_FROM = 200
"""Smallest number of steps for which `train.precision: auto` measures a CPU; shorter trainings use fp32."""


def choose(config: RunConfig, splits: DataSplits) -> tuple[RunConfig, torch.device, list[str]]:
    """Chooses the device and the options that the configuration leaves open.

    `auto` is the first CUDA GPU, else Apple's if a dry run of the training runs there, else the CPU.

    Returns:
        The complete configuration, the device, and the reasons of the choices, one line each.

    Raises:
        ConfigError: If untrained stages would be frozen, or the network that learns from the labels alone would learn
            nothing.
    """
    if config.model.frozen_stages and config.model.weights == "none" and config.train.start is None:
        raise ConfigError("`model.frozen_stages`: untrained stages can't be frozen; give `model.weights` or use 0")
    has_baseline = METHODS[config.method.name][1].baseline_network is not None
    if has_baseline and getattr(config.method, "burn_in", None) == 0 and config.train.start is None:
        raise ConfigError(
            "`method.burn_in`: with 0 no network learns from the labels alone, over which the gain is measured; give a "
            "fraction above 0, or take another method"
        )
    device = process_device(config.train.device, config.train.devices)
    if config.train.device == "auto" and device.type == "cpu" and has_apple_gpu() and world_size() == 1:
        apple = torch.device("mps")
        try:
            chosen, reasons = choose_options(config, splits, apple, lambda found: dry_run(found, splits, apple))
            dry_run(chosen, splits, apple)
            return chosen, apple, reasons
        except Exception as error:  # torch raises errors of several types where it lacks an operation
            log.warning(f"`train.device`: cpu, because {config.method.name} fails on Apple's GPU: {first_line(error)}")
    chosen, reasons = choose_options(config, splits, device, lambda found: dry_run(found, splits, device))
    return chosen, device, reasons


def dry_run(config: RunConfig, splits: DataSplits, device: torch.device) -> None:
    """Computes steps of a training on blank images with random weights; raises what they raise."""
    model = config.model.model_copy(update={"weights": "none"})
    plain = config.model_copy(update={"model": model, "train": config.train.model_copy(update={"start": None})})
    plain = with_precision(plain, splits.labeled.skeleton, device)
    engine = build_engine(plain, splits, device, torch.Generator(device))
    geometry = CropGeometry((config.input.height, config.input.width), config.input.padding)
    dry_run_training(engine, geometry, plain.train, len(splits.labeled.skeleton), len(splits.labeled))


def make_method(
    config: RunConfig,
    skeleton: Skeleton,
    generator: torch.Generator,
    learned_joints: tuple[int, ...] | None = None,
) -> Method:
    """Returns the configured method with new networks for a skeleton.

    Args:
        config: The configuration.
        skeleton: The joints of the networks.
        generator: Draws views and augmentations.
        learned_joints: Indices of the joints that are learned from labels; None for all.

    Raises:
        ConfigError: If `train.start` or another weights file does not fit the configuration.
    """
    start = _start(config, skeleton)

    def build_network(backbone: str | None, levels: int) -> PoseNet:
        model = config.model
        if backbone is not None and backbone != model.backbone:
            # A weights file is for the main backbone; other backbones use their automatic weights.
            weights = "none" if model.weights == "none" else "auto"
            model = model.model_copy(update={"backbone": backbone, "weights": weights})
        new = start is None or start.network.config.backbone != model.backbone
        network = PoseNet(model, len(skeleton), levels, pretrained=new)
        network.backbone.check_size((config.input.height, config.input.width))
        if new:
            return network
        assert start is not None and isinstance(start.network, PoseNet)
        alike = (start.loss.kind, start.network.config.stage) == (config.loss.kind, model.stage)
        network.copy_weights_from(start.network, _shared_joints(skeleton, start.skeleton) if alike else [])
        return network

    def load_network(path: str) -> PoseNet:
        model = load_pose_model(path)
        if model.skeleton.keys != skeleton.keys:
            raise ConfigError(f"{path} has other joints than the data; take a network trained on this data")
        if model.loss.kind != config.loss.kind:
            raise ConfigError(
                f"`loss.kind`: {path} was trained with {model.loss.kind}, this training has {config.loss.kind}; set it "
                f"to {model.loss.kind}"
            )
        return model.network

    size = (config.input.height, config.input.width)
    views = ViewSampler(config.views, skeleton, size, config.loss.sigma, generator)
    context = MethodContext(views, config.loss.build(), build_network, load_network, learned_joints)
    return build_method(config.method, context)


def _start(config: RunConfig, skeleton: Skeleton) -> PoseModel | None:
    """Returns the model that `train.start` names; raises ConfigError if it has another backbone."""
    if config.train.start is None:
        return None
    start = load_pose_model(config.train.start)
    theirs, ours = start.network.config, config.model
    if theirs.backbone != ours.backbone:
        raise ConfigError(
            f"`train.start`: {config.train.start} has the backbone {theirs.backbone}, `model.backbone` is "
            f"{ours.backbone}; set model.backbone={theirs.backbone} model.head={theirs.head}"
        )
    shared = len(_shared_joints(skeleton, start.skeleton))
    heads = f"and the heads of {'all' if shared == len(skeleton) else shared} of {len(skeleton)} joints"
    if not shared:
        heads = f"(heads are new: none of its {len(start.skeleton)} joints is one of the data)"
    elif start.loss.kind != config.loss.kind:
        heads = f"(heads are new: its own need loss.kind={start.loss.kind})"
    elif theirs.stage != ours.stage:
        heads = f"(heads are new: its own need model.stage={theirs.stage})"
    elif theirs.head != ours.head or (ours.head == "deconvolution" and theirs.head_channels != ours.head_channels):
        heads = f"(heads are new: its own need model.head={theirs.head} model.head_channels={theirs.head_channels})"
    log.info(f"networks start with the backbone {heads} of {config.train.start}")
    return start


def _shared_joints(ours: Skeleton, theirs: Skeleton) -> list[tuple[int, int]]:
    """Returns the indices of the joints that two skeletons have by name, in each of them."""
    return [(i, theirs.keys.index(key)) for i, key in enumerate(ours.keys) if key in theirs.keys]


def build_engine(config: RunConfig, splits: DataSplits, device: torch.device, generator: torch.Generator) -> Engine:
    """Returns the configured method for the joints that labels taught, and its optimizer, on a device."""
    options = config.train
    joints = learned_joints(splits.labeled.skeleton, splits.unlearned_joints, config.views)
    method = make_method(config, splits.labeled.skeleton, generator, joints)
    if options.average:
        method = WithAverages(method, options.average)
    if options.channels_last:
        method = method.to(memory_format=torch.channels_last)
    return Engine(method, build_optimizer(options, method, device), device, options.precision)


def with_precision(config: RunConfig, skeleton: Skeleton, device: torch.device) -> RunConfig:
    """Returns the configuration with `train.precision: auto` resolved, so that a resumed run computes the same.

    On a CPU only long trainings are measured. Several processes would disturb each other's measurement and use fp32.
    """
    if config.train.precision != "auto":
        return config
    precision = "32-true"
    if device.type == "cuda":
        precision = gpu_precision()
    elif device.type == "cpu" and world_size() == 1 and (config.train.steps or MEASURED_FROM) >= MEASURED_FROM:
        precision = cpu_precision(config.model, len(skeleton), (config.input.height, config.input.width))
        log.info(f"`train.precision`: {precision}, the faster one on this CPU")
    return config.model_copy(update={"train": config.train.model_copy(update={"precision": precision})})
