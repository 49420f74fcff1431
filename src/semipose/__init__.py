"""semipose: train 2D human pose networks from few labels and many unlabeled images.

    semipose.train("config.yaml", "train.lr=0.001", out="runs/mine")     train, evaluate, keep
    semipose.evaluate("runs/mine", "people")                             figures with their protocol
    semipose.predict("runs/mine", "photos/", draw=True)                  joints and pictures
    semipose.export("runs/mine", "pose.onnx")                            for other runtimes
    semipose.load("runs/mine")                                           the network, to use in Python

The package, from the top down: cli, studies, api and preparing, evaluating, looking, run, config; training; methods,
inference, evaluation; data, views, losses; batch, heatmaps, geometry; skeletons, models, teacher. Imports go down only.
"""

from typing import TYPE_CHECKING, Any

from semipose.errors import ConfigError, DataError, InputError, RunError, SemiposeError, WeightsError

if TYPE_CHECKING:
    from semipose.api import evaluate, export, load, predict, train

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "DataError",
    "InputError",
    "RunError",
    "SemiposeError",
    "WeightsError",
    "evaluate",
    "export",
    "load",
    "predict",
    "train",
]


_FUNCTIONS = ("evaluate", "export", "load", "predict", "train")


def __dir__() -> list[str]:
    """What there is, the functions that are not loaded yet included."""
    return sorted({*globals(), *_FUNCTIONS})


def __getattr__(name: str) -> Any:
    """Loads the functions with their heavy libraries when they are first used."""
    if name in _FUNCTIONS:
        from semipose import api

        return getattr(api, name)
    raise AttributeError(f"module 'semipose' has no attribute {name!r}")
