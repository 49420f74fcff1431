"""The public functions: train, load, evaluate, predict, suggest and export."""

import os
from pathlib import Path

from semipose.config import RunConfig, load_config
from semipose.errors import ConfigError
from semipose.inference.evaluation import Evaluation, evaluate
from semipose.inference.onnx import export_onnx
from semipose.inference.pose_model import PoseModel, as_pose_model, load_pose_model
from semipose.inference.predict import predict
from semipose.inference.suggest import suggest
from semipose.trainer import train as train_run
from semipose.training.result import TrainResult
from semipose.utils.progress import NO_PROGRESS, Progress

PathLike = str | os.PathLike[str]

__all__ = [
    "Evaluation",
    "PoseModel",
    "RunConfig",
    "TrainResult",
    "evaluate",
    "export",
    "load",
    "load_config",
    "predict",
    "suggest",
    "train",
]


def train(
    config: RunConfig | PathLike | None = None,
    *,
    out: PathLike | None = None,
    resume: bool = False,
    progress: Progress = NO_PROGRESS,
) -> TrainResult:
    """Trains a network and returns the scores of the kept weights.

    Args:
        config: A `RunConfig`, a YAML file or the name of a configuration of the package. Not needed with `resume`,
            because a run folder contains its configuration.
        out: The run folder; `runs/METHOD` if not given.
        resume: Whether to continue the run in `out` exactly where it stopped.
        progress: Shows the progress.

    Raises:
        ConfigError: If the configuration cannot be used, or `out` contains a run and `resume` is false.
        DataError: If the data cannot be used.
        RunError: If the training has to stop.
    """
    if resume:
        if out is None:
            raise ConfigError("`resume` needs `out`, the folder of the run")
        saved = Path(out) / "config.yaml"
        if not saved.is_file():
            raise ConfigError(f"`resume`: {os.fspath(out)} contains no run (no config.yaml); train without `resume`")
        config = saved if config is None else config
    if config is None:
        raise ConfigError("`config` is missing; give a RunConfig, a YAML file or the name of a configuration")
    if not isinstance(config, RunConfig):
        config = load_config(os.fspath(config))
    folder = Path("runs") / config.method.name if out is None else Path(out)
    return train_run(config, folder, resume=resume, progress=progress)


def load(path: PathLike, network: str | None = None) -> PoseModel:
    """Loads the model of a run folder or of a weights file.

    Args:
        path: A run folder (its best network) or a .safetensors file.
        network: The name of another network of the run, or `ensemble` for the networks whose mean score is the score
            of the method, with averaged heatmaps.

    Raises:
        WeightsError: If there are no weights, or they are damaged.
        ConfigError: If the run has no network of that name.
    """
    return load_pose_model(path, network)


def export(model: PoseModel | PathLike, out: PathLike, *, network: str | None = None) -> Path:
    """Writes a model as an ONNX file, checks it, and returns its path.

    Args:
        model: A model, a run folder or a weights file.
        out: The .onnx file. A description of its input and output is written to the same name with `.json` appended.
        network: A network of the run folder, as in `load`.

    Raises:
        ConfigError: If `out` is not a name for an .onnx file, or packages for the export are not installed.
        RunError: If the heatmaps of the file differ from those of the model.
    """
    return export_onnx(as_pose_model(model, network), out)
