"""How a trained network looks at people for the public functions: on a device, with a policy for what is broken."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, get_args

from semipose.data.crops import LazyCrops
from semipose.data.data_errors import DataErrors, ErrorPolicy
from semipose.errors import ConfigError
from semipose.inference.pose_model import PoseModel
from semipose.inference.predictor import Predictor
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import Prediction
from semipose.training.engine import start_fabric
from semipose.utils.progress import NO_PROGRESS, Progress


def make_predictor(model: PoseModel, *, flip_test: bool = False, device: str = "auto") -> Predictor:
    """The model on its device, ready to predict."""
    fabric = start_fabric(device, "32-true")
    model.to(fabric.device)
    return Predictor(model.networks, model.criterion, flip_test, model.decoder, model.loss.sigma, device=fabric.device)


def predict_dataset(
    model: PoseModel,
    persons: PoseDataset,
    data_errors: DataErrors,
    name: str,
    *,
    flip_test: bool,
    device: str,
    progress: Progress = NO_PROGRESS,
) -> tuple[list[Prediction], Collection[Path]]:
    """Predictions, and the photographs that could not be read, whose persons have none."""
    failed: dict[Path, str] = {}
    predictor = make_predictor(model, flip_test=flip_test, device=device)
    found = predictor.predict(LazyCrops(persons, model.geometry, failed), progress)
    if failed:
        data_errors.on_unreadable(name)(persons.source, failed, len({p.image for p in persons.instances}))
    return [p for p, person in zip(found, persons.instances, strict=True) if person.image not in failed], failed


def data_errors_for(broken: str) -> DataErrors:
    """What lets records and photographs in by the policy that --broken names. Raises ConfigError for another one."""
    if broken not in get_args(ErrorPolicy):
        raise ConfigError(f"--broken {broken} is unknown; known: {', '.join(get_args(ErrorPolicy))}")
    return DataErrors(default="strict" if broken == "strict" else "skip", option="on_error")


def refuse_given(why: str, **given: Any) -> None:
    """Raises ConfigError for options that would do nothing here."""
    useless = [f"--{name.replace('_', '-')}" for name, value in given.items() if value]
    if useless:
        raise ConfigError(f"{', '.join(useless)}: {why}; leave {'it' if len(useless) == 1 else 'them'} out")
