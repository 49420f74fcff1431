"""Train 2D pose networks from few labeled and many unlabeled images.

```python
config = semipose.load_config("small", data={"train": "labels.json", "unlabeled": "frames/"})
result = semipose.train(config, out="runs/mine")
model = semipose.load("runs/mine")
poses = model.predict(image, boxes)
evaluation = semipose.evaluate(model, "test.json")
semipose.predict(model, "frames/", out="found/")
```
"""

from importlib import import_module
from typing import TYPE_CHECKING

from semipose.errors import ConfigError, DataError, InputError, RunError, SemiposeError, WeightsError

if TYPE_CHECKING:
    from semipose.api import evaluate, export, load, predict, suggest, train
    from semipose.config import RunConfig, load_config
    from semipose.data.account import DataAccount, WrittenFiles
    from semipose.inference.evaluation import Evaluation
    from semipose.inference.pose_model import PoseModel
    from semipose.metrics.gain import Gain
    from semipose.metrics.scores import Scores
    from semipose.structures.poses import Poses
    from semipose.structures.skeletons import Skeleton
    from semipose.training.result import TrainResult

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "DataAccount",
    "DataError",
    "Evaluation",
    "Gain",
    "InputError",
    "PoseModel",
    "Poses",
    "RunConfig",
    "RunError",
    "Scores",
    "SemiposeError",
    "Skeleton",
    "TrainResult",
    "WeightsError",
    "WrittenFiles",
    "evaluate",
    "export",
    "load",
    "load_config",
    "predict",
    "suggest",
    "train",
]

_MODULES = {
    "DataAccount": "semipose.data.account",
    "Evaluation": "semipose.inference.evaluation",
    "Gain": "semipose.metrics.gain",
    "PoseModel": "semipose.inference.pose_model",
    "Poses": "semipose.structures.poses",
    "RunConfig": "semipose.config",
    "Scores": "semipose.metrics.scores",
    "Skeleton": "semipose.structures.skeletons",
    "TrainResult": "semipose.training.result",
    "WrittenFiles": "semipose.data.account",
    "evaluate": "semipose.api",
    "export": "semipose.api",
    "load": "semipose.api",
    "load_config": "semipose.config",
    "predict": "semipose.api",
    "suggest": "semipose.api",
    "train": "semipose.api",
}
"""Modules of the names that are imported on first use, because PyTorch takes seconds to load."""


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'semipose' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
