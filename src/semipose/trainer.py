"""Builds data, method and engine from a RunConfig and starts the loop: the one place where all parts meet."""

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from semipose.augment.views import ViewSampler
from semipose.config import RunConfig, load_config
from semipose.data.crop_cache import CropCache, Encoding, open_crop_cache
from semipose.data.crops import CropGeometry, Crops
from semipose.data.datasets import DataSplits, load_splits, open_data_file, with_absolute_paths
from semipose.data.loader import PairedLoader, default_workers
from semipose.data.shards import ShardedCrops, shards_hash
from semipose.data.splits import fingerprint
from semipose.errors import ConfigError
from semipose.inference.pose_model import PoseModel, load_pose_model
from semipose.methods import build_method
from semipose.methods.base import ConsistencyConfig, MethodContext
from semipose.methods.weight_averaging import WithAverages
from semipose.models.pose_net import PoseNet
from semipose.structures.instances import PoseDataset
from semipose.structures.skeletons import Skeleton
from semipose.training.checkpoint import TrainingState, has_checkpoint, load_checkpoint
from semipose.training.compile import compile_networks
from semipose.training.distributed import Plan, helpers, plan_processes, read_message, together
from semipose.training.engine import Engine, Fabric, make_engine, start_fabric
from semipose.training.evaluator import Evaluator, TrainResult
from semipose.training.image_checks import (
    contents,
    image_digests,
    look_through,
    tell_small_validation,
    tell_untaught_joints,
    with_before,
)
from semipose.training.loggers import MetricsLog, NoLog
from semipose.training.loop import Training
from semipose.training.monitor import TrainingMonitor
from semipose.training.precision import choose_precision
from semipose.training.run_dir import lock_run_dir
from semipose.utils.files import make_folder
from semipose.utils.progress import NO_PROGRESS, Progress

logger = logging.getLogger(__name__)


MEASURED_FROM = 200
"""Steps from which `train.precision: auto` is settled by measurement on a CPU; shorter trainings run in fp32."""


def train(config: RunConfig, out: Path, *, resume: bool = False, progress: Progress = NO_PROGRESS) -> TrainResult:
    """Trains as `config` says and leaves the run folder `out` behind.

    Raises ConfigError when `out` holds another run and `resume` is false, or another process works in it;
    InterruptedTrainingError after saving when a signal asked for the end.
    """
    config = _located(config)
    plan = plan_processes(config.train.device, config.train.devices, config.train.nodes)
    splits = load_splits(config.data)
    if _takes_unlabeled(config) and splits.unlabeled is None and splits.shards is None:
        logger.info("no unlabeled images: this run learns from labels alone; give --unlabeled or --labels")
    if config.data.unlabeled and not _takes_unlabeled(config):
        logger.info(
            f"{config.method.name} learns from labels alone; the unlabeled images only set how long an epoch is"
        )
    _claim(out, resume)
    config = with_precision(config, splits, plan)
    message = {"config": config.model_dump(mode="json"), "out": str(out.resolve()), "resume": resume}
    with lock_run_dir(out) if plan.rank == 0 else nullcontext(), helpers(plan, message), together(plan):
        fabric = start_fabric(config.train.device, config.train.precision, plan)
        return _train(config, splits, fabric, out, resume, progress)


def join() -> None:
    """Takes part in a training that another process of this machine started and describes on standard input."""
    message = read_message()
    train(RunConfig(**message["config"]), Path(message["out"]), resume=message["resume"])


def _train(
    config: RunConfig, splits: DataSplits, fabric: Fabric, out: Path, resume: bool, progress: Progress
) -> TrainResult:
    fabric.seed_everything(config.train.seed, workers=False, verbose=False)
    generator = torch.Generator(fabric.device).manual_seed(config.train.seed)
    engine = _engine(config, splits, fabric, generator)
    geometry = CropGeometry((config.input.height, config.input.width), config.input.padding)
    labeled, unlabeled = _crops(splits, geometry, config.data.crop_encoding, _takes_unlabeled(config), progress)
    evaluator = _judge(config, splits, engine, geometry, out, progress)
    seen = look_through(
        labeled,
        unlabeled,
        evaluator,
        select=config.train.select,
        own_validation=config.data.val is None,
        beginnings=_beginnings(config),
    )
    state = TrainingState(_identity(config, splits, labeled, unlabeled, evaluator))
    _same_everywhere(engine, state, out, resume)
    sets = image_digests(labeled, unlabeled, evaluator)
    if resume:
        state = _resumed(config, engine, state.identity, out, generator)
        seen = with_before(seen, out, state, sets)
    elif engine.is_main:
        config.save(out / "config.yaml")
        splits.split.save(out / "split.json")
    if engine.is_main:
        seen.write(out)
        splits.data_errors.write(out)
    state.extra["joint_batch"] = joint_batch(config, engine)
    state.extra.setdefault("photographs", contents(sets))
    log = MetricsLog(out, state.log_bytes) if engine.is_main else NoLog()
    loader = _loader(config, splits, labeled, unlabeled, engine)
    monitor = TrainingMonitor(engine, config.loss.build(), loader.labeled, loader.unlabeled, state)

    def evaluate(step: int, steps: int) -> float | None:
        figure = evaluator.validate(step, log)
        monitor.update(step, steps, None if figure is None else round(figure, 5), log)  # without what decides ties
        return figure

    training = Training(
        engine=engine,
        loader=loader,
        config=config.train,
        state=state,
        generator=generator,
        folder=out,
        log=log,
        evaluate=evaluate,
        keep_best=evaluator.keep,
        name=config.method.name,
        progress=progress,
    )
    _announce(config, splits, training, evaluator)
    try:
        training.run()
    finally:
        log.close()
    return evaluator.conclude(state.step, state.seconds, seen)


def _judge(
    config: RunConfig, splits: DataSplits, engine: Engine, geometry: CropGeometry, out: Path, progress: Progress
) -> Evaluator:
    """Who scores the candidates."""
    return Evaluator(
        engine,
        splits,
        geometry,
        config.loss,
        out,
        select=config.train.select,
        evaluation=config.evaluation,
        encoding=config.data.crop_encoding,
        progress=progress,
    )


def _engine(config: RunConfig, splits: DataSplits, fabric: Fabric, generator: torch.Generator) -> Engine:
    """The method with its optimizer on its device."""
    method = make_method(config, splits.labeled.skeleton, generator)
    if config.train.average:
        method = WithAverages(method, config.train.average)
    if config.train.channels_last:
        method = method.to(memory_format=torch.channels_last)
    if config.train.cuda_graphs and fabric.device.type != "cuda":
        raise ConfigError(f"train.cuda_graphs: this training runs on {fabric.device.type}; leave it out")
    if config.train.cuda_graphs and fabric.world_size > 1:
        raise ConfigError("train.cuda_graphs works in one process; leave it out or set train.devices to 1")
    if config.train.compile:
        compile_networks(method, cuda_graphs=config.train.cuda_graphs)
    trained = [p for p in method.parameters() if p.requires_grad]
    fused = fabric.device.type in ("cpu", "cuda")
    optimizer = torch.optim.Adam(trained, lr=config.train.lr, weight_decay=config.train.weight_decay, fused=fused)
    return make_engine(
        fabric,
        method,
        optimizer,
        sync_batch_norm=config.train.sync_batch_norm,
        cuda_graphs=config.train.cuda_graphs,
    )


def with_precision(config: RunConfig, splits: DataSplits, plan: Plan) -> RunConfig:
    """The configuration with `train.precision: auto` resolved on a CPU, where a long training is worth measuring for.

    The run folder keeps what was chosen, so that a resumed run goes on in it. Processes that a launcher or several
    machines have started can't measure for each other and take fp32.
    """
    on_cpu = config.train.device == "cpu" or (config.train.device == "auto" and not torch.cuda.is_available())
    if config.train.precision != "auto" or not on_cpu:
        return config
    chosen = "32-true"
    alone = not plan.started and plan.nodes == 1
    if alone and (config.train.steps or MEASURED_FROM) >= MEASURED_FROM:
        size = (config.input.height, config.input.width)
        chosen = choose_precision(config.model, len(splits.labeled.skeleton), torch.device("cpu"), size)
        logger.info(f"train.precision={chosen}: the faster of the two here, measured once and remembered")
    return config.model_copy(update={"train": config.train.model_copy(update={"precision": chosen})})


def make_method(config: RunConfig, skeleton: Skeleton, generator: torch.Generator) -> nn.Module:
    """The configured method with new networks for `skeleton`."""
    size = (config.input.height, config.input.width)

    start = _start(config)

    def network(backbone: str | None, levels: int) -> PoseNet:
        changed = {} if backbone is None else {"backbone": backbone, "weights": _weights_for(config, backbone)}
        model = config.model.model_copy(update=changed)
        if start is None or start.model.backbone != model.backbone:
            return PoseNet(model, len(skeleton), levels)
        made = PoseNet(model, len(skeleton), levels, pretrained=False)
        assert isinstance(start.network, PoseNet)
        made.copy_weights_from(start.network, heads=start.skeleton.joints == skeleton.joints)
        return made

    def trained(path: str) -> PoseNet:
        model = load_pose_model(path)
        if model.skeleton.joints != skeleton.joints:
            raise ConfigError(f"method.teacher: {path} has other joints; take one trained on this data")
        if model.loss.kind != config.loss.kind:
            raise ConfigError(
                f"method.teacher: {path} was trained with loss.kind={model.loss.kind}, this training has "
                f"{config.loss.kind}; add loss.kind={model.loss.kind}"
            )
        assert isinstance(model.network, PoseNet)
        return model.network

    views = ViewSampler(config.views, skeleton, size, config.loss.sigma, generator)
    return build_method(config.method, MethodContext(views, config.loss.build(), network, trained))


def _start(config: RunConfig) -> PoseModel | None:
    """What `train.start` names. Raises ConfigError where it has another backbone."""
    if config.train.start is None:
        return None
    start = load_pose_model(config.train.start)
    if start.model.backbone != config.model.backbone:
        raise ConfigError(
            f"train.start: {config.train.start} holds a {start.model.backbone}, model.backbone is "
            f"{config.model.backbone}; take the same backbone"
        )
    return start


def _weights_for(config: RunConfig, backbone: str) -> str:
    """A weights file belongs to the main backbone; another backbone takes its own automatic weights, or none."""
    if backbone == config.model.backbone:
        return config.model.weights
    return "none" if config.model.weights == "none" else "auto"


def _takes_unlabeled(config: RunConfig) -> bool:
    """Whether the method learns from unlabeled images."""
    return isinstance(config.method, ConsistencyConfig)


def _located(config: RunConfig) -> RunConfig:
    """The configuration with its data file opened and every path absolute: it means the same from anywhere."""
    changed: dict[str, Any] = {"data": with_absolute_paths(open_data_file(config.data))}
    for section, option in (("model", "weights"), ("train", "start"), ("method", "teacher")):
        part = getattr(config, section)
        value = getattr(part, option, None)
        if value and Path(value).exists():
            changed[section] = part.model_copy(update={option: str(Path(value).absolute())})
    return config.model_copy(update=changed)


def _beginnings(config: RunConfig) -> list[str]:
    """Runs or weights files that this training takes networks from."""
    return [path for path in (config.train.start, getattr(config.method, "teacher", None)) if path]


def _claim(out: Path, resume: bool) -> None:
    if not resume and has_checkpoint(out / "last" / "state.pt"):
        raise ConfigError(f"{out} already holds a run; continue it with --resume or choose another --out")
    make_folder(out)


def _crops(
    splits: DataSplits, geometry: CropGeometry, encoding: Encoding, learns: bool, progress: Progress
) -> tuple[CropCache, CropCache | None]:
    """The labeled and, where the method learns from them, the unlabeled crops, without what is left out as broken."""

    def cut(name: str, persons: PoseDataset) -> CropCache:
        return open_crop_cache(
            persons, geometry, encoding=encoding, on_unreadable=splits.data_errors.on_unreadable(name), progress=progress
        )

    wanted = splits.unlabeled if learns else None
    return cut("train", splits.labeled), cut("unlabeled", wanted) if wanted else None


def _same_everywhere(engine: Engine, state: TrainingState, out: Path, resume: bool) -> None:
    """Raises ConfigError when processes, perhaps of several machines, see other data or no run folder."""
    seen = engine.gather([state.identity, not resume or has_checkpoint(out / "last" / "state.pt")])
    different = [rank for rank, (identity, _) in enumerate(seen) if identity != seen[0][0]]
    if different:
        raise ConfigError(f"process {different[0]} reads other data than process 0; every machine needs the same files")
    if not all(found for _, found in seen) and seen[0][1]:
        raise ConfigError(f"{out} is not there on every machine; put the run folder where all of them see it")


def _resumed(
    config: RunConfig, engine: Engine, identity: dict[str, str], out: Path, generator: torch.Generator
) -> TrainingState:
    """Puts the last checkpoint back; says where it goes on and with what other options."""
    state = load_checkpoint(out / "last" / "state.pt", identity, engine.method, engine.optimizer, generator)
    _compare_batches(state, joint_batch(config, engine))
    logger.info(f"goes on at step {state.step}")
    if engine.is_main and load_config(out / "config.yaml").model_dump() != config.model_dump():
        logger.info("with other options than before: config.yaml is written anew")
        config.save(out / "config.yaml")
    return state


def joint_batch(config: RunConfig, engine: Engine) -> list[int]:
    """Labeled and unlabeled samples that all processes together see in a step."""
    return [config.train.batch * engine.world, config.train.unlabeled_batch * engine.world]


def _compare_batches(state: TrainingState, now: list[int]) -> None:
    """Says when a run goes on with another joint batch; with the same one the order of the data goes on as it was."""
    before = state.extra.get("joint_batch", now)
    if before != now:
        logger.info(
            f"the joint batch was {before[0]} + {before[1]} and is {now[0]} + {now[1]} now: the data comes in another "
            "order and epochs have another length; train.batch and train.unlabeled_batch bring it back"
        )


def _identity(
    config: RunConfig, splits: DataSplits, labeled: CropCache, unlabeled: CropCache | None, evaluator: Evaluator
) -> dict[str, str]:
    """What must not change between start and resume; `data` changes with any image name, box or label."""
    sets = {
        "labeled": labeled.dataset,
        "unlabeled": unlabeled.dataset if unlabeled else None,
        "validation": evaluator.persons("validation"),
    }
    data = [f"{len(persons)} {name} {fingerprint(persons)}" for name, persons in sets.items() if persons is not None]
    shards = {"shards": shards_hash(splits.shards)} if splits.shards else {}
    return {
        **shards,
        "method": config.method.name,
        "backbone": config.model.backbone,
        "skeleton": " ".join(splits.labeled.skeleton.joints),
        "split": splits.split.hash,
        "data": ", ".join(data),
        "input": f"{config.input.height}×{config.input.width}",
        "loss": config.loss.kind,
        "averages": "train.average" if config.train.average else "none",
    }


def _loader(
    config: RunConfig, splits: DataSplits, labeled: CropCache, own: CropCache | None, engine: Engine
) -> PairedLoader:
    """Batches of the labeled crops and of the unlabeled ones: a run's own, packed shards, or both."""
    unlabeled: Crops | None = own
    learns = _takes_unlabeled(config)
    if splits.shards and learns:
        skeleton = splits.labeled.skeleton
        unlabeled = ShardedCrops(splits.shards, skeleton, labeled.geometry, own)
    return PairedLoader(
        labeled,
        unlabeled,
        batch=config.train.batch,
        unlabeled_batch=config.train.unlabeled_batch,
        seed=config.train.seed,
        rank=engine.rank,
        world_size=engine.world,
        workers=config.train.workers or default_workers(),
        epoch=None if learns or splits.unlabeled is None else len(splits.unlabeled),
        pin_memory=engine.device.type == "cuda",
    )


def _announce(config: RunConfig, splits: DataSplits, training: Training, evaluator: Evaluator) -> None:
    """One line on what is about to be trained, and one for each thing that makes its figures worth less."""
    unlabeled = len(training.loader.unlabeled or ())
    engine = training.engine
    where = str(engine.device) if engine.world == 1 else f"{engine.world} processes on {engine.device.type}"
    held = f", {len(splits.validation)} for validation" if splits.validation else ""
    logger.info(
        f"{training.name}: {len(training.loader.labeled.dataset)} labeled and {unlabeled} unlabeled people{held}; "
        f"{config.model.backbone}, {config.input.height}×{config.input.width}, {training.steps} steps "
        f"({training.loader.steps_per_epoch} an epoch), {where}, split {splits.split.hash}"
    )
    tell_untaught_joints(splits.labeled)
    tell_small_validation(evaluator, config.train.select)
