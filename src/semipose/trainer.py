"""Builds data, method, optimizer and engine from a RunConfig and runs the training loop."""

import logging
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from semipose.adaptation import (
    boxes_of_start,
    is_adaptation,
    load_data,
    warn_of_start_in_other_boxes,
    with_options_of_start,
)
from semipose.auto import box_finder_options, with_shift
from semipose.build import build_engine, choose, with_precision
from semipose.config import RunConfig, load_config, with_absolute_paths
from semipose.data.account import DataAccount
from semipose.data.crop_cache import CropCache, open_crop_cache
from semipose.data.crops import CropGeometry, Crops
from semipose.data.data_config import check_given
from semipose.data.datasets import DataSplits
from semipose.data.found_boxes import (
    around_joints,
    centers_in_images,
    read_boxes,
    save_boxes,
    unfound_sets,
    with_found_boxes,
)
from semipose.data.images import read_image_sizes
from semipose.data.leakage import TrainingImages, image_paths
from semipose.data.loader import PairedLoader, default_workers
from semipose.data.shards import ShardedCrops, shards_hash
from semipose.data.splits import fingerprint
from semipose.errors import ConfigError
from semipose.inference.pose_model import box_finder, load_pose_model
from semipose.methods import METHODS
from semipose.methods.cost import step_cost
from semipose.structures.boxes import AUTO, BoxKind, box_facts
from semipose.structures.instances import PoseDataset
from semipose.training.checkpoint import TrainingState, has_checkpoint, is_begun, load_checkpoint
from semipose.training.distributed import all_gather, is_main_process, process_group, rank, world_size
from semipose.training.engine import Engine, seed_everything
from semipose.training.evaluator import Evaluator
from semipose.training.leakage import (
    TrainingSets,
    training_images,
    warn_of_shared_images,
    with_images_before,
    with_images_of,
)
from semipose.training.loggers import MetricsLog
from semipose.training.loop import Training
from semipose.training.monitor import TrainingMonitor
from semipose.training.result import TrainResult
from semipose.training.run_dir import lock_run_dir
from semipose.training.self_check import check_adaptation
from semipose.training.summary import log_data, log_training, warn_of_neighbors, warn_of_unused_images
from semipose.utils.files import BOX_FINDER, make_folder
from semipose.utils.progress import NO_PROGRESS, Progress

log = logging.getLogger(__name__)


def train(config: RunConfig, out: Path, *, resume: bool = False, progress: Progress = NO_PROGRESS) -> TrainResult:
    """Trains and writes the run folder.

    Args:
        config: The configuration.
        out: The run folder.
        resume: Whether to continue the run in `out` from its last checkpoint.
        progress: Reports the progress.

    Returns:
        The scores of the kept weights.

    Raises:
        ConfigError: If `out` contains a run and `resume` is false, or another process uses `out`.
        InterruptedTrainingError: When a signal arrives, after the state is saved.
    """
    if not resume:
        if is_begun(out):
            raise ConfigError(
                f"`out`: {out} already contains a run; set `resume` to continue it, or choose another folder"
            )
        check_given(config.data)
    config = with_options_of_start(with_absolute_paths(config))
    splits = load_data(config)
    warn_of_unused_images(config.method.name, config.data, splits, _uses_unlabeled(config))
    warn_of_neighbors(splits)
    config, device, reasons = choose(config, splits)
    for reason in reasons:
        log.info(reason)
    make_folder(out)
    config = with_precision(config, splits.labeled.skeleton, device)
    with lock_run_dir(out) if is_main_process() else nullcontext(), process_group(device):
        if config.data.boxes == AUTO:
            config = with_shift(config)
            splits = _with_found_boxes(config, splits, device, out, progress)
            resume = has_checkpoint(out / "last" / "state.pt")
        return _train(config, splits, device, out, resume, progress)


def _train(
    config: RunConfig, splits: DataSplits, device: torch.device, out: Path, resume: bool, progress: Progress
) -> TrainResult:
    # Method and optimizer, on their device.
    seed_everything(config.train.seed)
    generator = torch.Generator(device).manual_seed(config.train.seed)
    engine = build_engine(config, splits, device, generator)

    # The crops of all sets, and checks for shared images.
    sets = _open_sets(config, splits, engine, out, progress)
    account = _account(splits, sets)
    images = training_images(sets)
    warn_of_shared_images(sets, held_out=config.data.val is None)
    images = with_images_of(images, _starts(config), sets.evaluator)
    warn_of_start_in_other_boxes(config, sets.evaluator.boxes)
    loader, adapts = _loader(config, splits, sets, device), is_adaptation(config)
    steps = config.train.total_steps(loader.steps_per_epoch)
    state = TrainingState(_identity(config, splits, sets), _joint_batch(config), sets.hashes, steps=steps)
    _check_processes_agree(state, out, resume)

    # The run folder.
    if resume:
        state = _resume(config, engine, state, out)
        images = with_images_before(images, out, state.image_hashes, sets)
    if is_main_process():
        _write_inputs(config, splits, images, out, resume=resume)

    # The loop.
    metrics = MetricsLog.open(out, state.log_bytes) if is_main_process() else MetricsLog()
    training = Training(
        engine=engine,
        loader=loader,
        config=config.train,
        state=state,
        generator=generator,
        folder=out,
        metrics=metrics,
        evaluator=sets.evaluator,
        monitor=TrainingMonitor(engine, config.loss.build(), loader.labeled, None if adapts else loader.unlabeled),
        cost=partial(step_cost, config.method),
        name=config.method.name,
        progress=progress,
    )
    log_training(config.model, (config.input.height, config.input.width), splits, training)
    log_data(account, sets)
    training.compile()
    try:
        training.run()
        if sets.held_out is not None:
            check_adaptation(sets.evaluator, sets.held_out, training.state, metrics)
    finally:
        metrics.close()
    baseline = engine.method.describe_baseline(training.step_info(0))
    result = sets.evaluator.test(
        training.state,
        images,
        baseline=baseline if training.learns_from_unlabeled else None,
        why_not=training.why_unlabeled_not_used,
    )
    return replace(result, data=account.as_dict())


def _write_inputs(config: RunConfig, splits: DataSplits, images: TrainingImages, out: Path, *, resume: bool) -> None:
    """Writes what a run is made from: configuration and split, unless it is resumed, its images, and what is broken."""
    if not resume:
        config.save(out / "config.yaml")
        splits.split.save(out / "split.json")
    images.write(out)
    splits.data_errors.write(out)


def _with_found_boxes(
    config: RunConfig, splits: DataSplits, device: torch.device, out: Path, progress: Progress
) -> DataSplits:
    """Trains the box network of a run, or continues it, and returns the sets with boxes around joints and found ones.

    The boxes are kept in the run folder, so that a resumed training has the same ones.
    """
    folder, options = out / BOX_FINDER, box_finder_options(config, several=splits.several)
    state = folder / "last" / "state.pt"
    if has_checkpoint(state) and (kept := read_boxes(out)) is not None:
        return with_found_boxes(splits, kept)
    make_folder(folder)
    if is_main_process():
        config.save(out / "config.yaml")  # so that a training that is stopped now can be resumed
    subjects, steps = "subjects" if splits.several else "subject", options.train.steps
    log.info(f"first a network for boxes learns to find the {subjects} in whole images, in {steps} steps")
    alone = replace(splits, unlabeled=None, test=None)
    if splits.shown is not None:
        alone = replace(
            alone, labeled=centers_in_images(splits.shown), validation=None, unlearned_joints=(), shown=None
        )
    _train(options, alone, device, folder, has_checkpoint(state), progress)
    found: dict[str, list[np.ndarray]] = {}
    if is_main_process():
        limits = box_facts(around_joints(splits.labeled).instances, read_image_sizes(image_paths(splits.labeled)))
        assert limits is not None  # the images of labeled persons can be read
        finder = box_finder(load_pose_model(folder).to(device), limits)
        found = {name: finder.boxes(persons, progress) for name, persons in unfound_sets(splits)}
        save_boxes(out, found)
    return with_found_boxes(splits, all_gather(found)[0])


# Data


def _uses_unlabeled(config: RunConfig) -> bool:
    return METHODS[config.method.name][1].uses_unlabeled


def _open_sets(config: RunConfig, splits: DataSplits, engine: Engine, out: Path, progress: Progress) -> TrainingSets:
    """Opens the crops of all sets; the error policy of each set decides about images that can't be read."""
    geometry = CropGeometry((config.input.height, config.input.width), config.input.padding)
    encoding = config.data.crop_encoding

    def cut(name: str, persons: PoseDataset) -> CropCache:
        on_unreadable = splits.data_errors.on_unreadable(name)
        return open_crop_cache(persons, geometry, encoding=encoding, on_unreadable=on_unreadable, progress=progress)

    labeled = cut("train", splits.labeled)
    unlabeled = cut("unlabeled", splits.unlabeled) if splits.unlabeled and _uses_unlabeled(config) else None
    held_out = cut("unlabeled", splits.held_out) if splits.held_out else None
    kind: BoxKind | None = "found" if config.data.boxes == AUTO else None
    boxes = box_facts(labeled.dataset.instances, labeled.image_sizes, kind)
    evaluator = Evaluator(
        engine,
        splits,
        geometry,
        config.loss,
        out,
        select=config.train.select,
        evaluation=config.evaluation,
        boxes=boxes if len(labeled.dataset) else boxes_of_start(config),
        encoding=encoding,
        progress=progress,
    )
    return TrainingSets(labeled, unlabeled, evaluator, held_out, splits.shards if _uses_unlabeled(config) else None)


def _account(splits: DataSplits, sets: TrainingSets) -> DataAccount:
    """The account of the training set, without the persons of images that can't be read."""
    used = {name: len(crops.dataset) for name, crops in sets.crops.items()}
    unused = 0 if sets.unlabeled else len({*splits.split.unlabeled} - {*splits.split.labeled})
    left_out = {
        **splits.account.left_out,
        **({"without labels, which the method does not use": unused} if unused else {}),
    }
    return replace(splits.account, used=used, left_out=left_out).with_errors(splits.data_errors, "train")


def _loader(config: RunConfig, splits: DataSplits, sets: TrainingSets, device: torch.device) -> PairedLoader:
    """Returns the loader of labeled and unlabeled batches; unlabeled crops come from a crop cache, shards, or both."""
    unlabeled: Crops | None = sets.unlabeled
    uses_unlabeled = _uses_unlabeled(config)
    if splits.shards and uses_unlabeled:
        skeleton, geometry = splits.labeled.skeleton, sets.labeled.geometry
        unlabeled = ShardedCrops(splits.shards, skeleton, geometry, sets.unlabeled)
    return PairedLoader(
        sets.labeled,
        unlabeled,
        batch=config.train.batch,
        unlabeled_batch=config.train.unlabeled_batch,
        seed=config.train.seed,
        rank=rank(),
        world_size=world_size(),
        workers=config.train.workers or default_workers(),
        pin_memory=device.type == "cuda",
    )


def _joint_batch(config: RunConfig) -> tuple[int, int]:
    """Returns the global batch: labeled and unlabeled samples per step over all processes."""
    return config.train.batch * world_size(), config.train.unlabeled_batch * world_size()


# Start and resume


def _starts(config: RunConfig) -> list[str]:
    """Returns the run folders and weights files whose networks this training starts from."""
    paths = [config.train.start, *(getattr(config.method, option) for option in config.method.weights_options)]
    return [path for path in paths if path]


def _identity(config: RunConfig, splits: DataSplits, sets: TrainingSets) -> dict[str, str]:
    """Returns the properties that must not change on resume; `data` changes with any image name, box or label."""
    datasets = {
        "labeled": sets.labeled.dataset,
        "unlabeled": sets.unlabeled.dataset if sets.unlabeled else None,
        "validation": sets.evaluator.persons("validation"),
    }
    data = [
        f"{len(persons)} {name} {fingerprint(persons)}" for name, persons in datasets.items() if persons is not None
    ]
    return {
        "shards": shards_hash(splits.shards) if splits.shards else "none",
        "method": config.method.name,
        "backbone": config.model.backbone,
        "skeleton": " ".join(splits.labeled.skeleton.joints),
        "split": splits.split.hash,
        "data": ", ".join(data),
        "input": f"{config.input.height}×{config.input.width}",
        "loss": config.loss.kind,
        "averages": "train.average" if config.train.average else "none",
    }


def _check_processes_agree(state: TrainingState, out: Path, resume: bool) -> None:
    """Raises ConfigError if processes, perhaps on several machines, have other data or another run folder."""
    ready = not resume or has_checkpoint(out / "last" / "state.pt")
    gathered = all_gather((state.identity, ready))
    different = [number for number, (identity, _) in enumerate(gathered) if identity != gathered[0][0]]
    if different:
        raise ConfigError(f"process {different[0]} reads other data than process 0; every machine needs the same files")
    if gathered[0][1] and not all(other for _, other in gathered):
        raise ConfigError(f"`out`: {out} does not exist on every machine; choose a folder that all machines share")


def _resume(config: RunConfig, engine: Engine, new: TrainingState, out: Path) -> TrainingState:
    """Loads the last checkpoint and logs the step at which the run continues, and changes of the configuration.

    If the global batch has not changed, the order of the data continues for any number of processes.
    """
    state = load_checkpoint(out / "last" / "state.pt", new.identity, engine.method, engine.optimizer)
    before, now = state.joint_batch, new.joint_batch
    if before != now:
        log.warning(
            f"the global batch was {before[0]} + {before[1]} and is now {now[0]} + {now[1]}: the data comes in another "
            "order and epochs have another length; set `train.batch` and `train.unlabeled_batch` to restore it"
        )
    if state.steps not in (0, new.steps) and getattr(config.method, "burn_in", 0.0) not in (0.0, "auto"):
        raise ConfigError(
            f"`train.steps`: this run has {state.steps} steps, of which `method.burn_in` is a fraction, and now "
            f"{new.steps}; resume it with {state.steps}, or start a new run with train.start={out}"
        )
    if config.train.steps is not None and new.steps < state.step:
        raise ConfigError(
            f"`train.steps`: this run has made {state.step} steps already, and now has {new.steps}; give more"
        )
    state.joint_batch, state.steps = now, new.steps
    log.info(f"resuming at step {state.step}")
    if is_main_process() and state.step < new.steps:
        for result in ("scores.json", "predictions.json"):  # of a shorter training that had ended
            (out / result).unlink(missing_ok=True)
    if is_main_process() and load_config(out / "config.yaml").model_dump() != config.model_dump():
        log.info("options have changed: config.yaml is rewritten")
        config.save(out / "config.yaml")
    return state
