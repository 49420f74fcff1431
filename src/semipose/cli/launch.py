"""Training in several processes on this machine, started by torch's launcher as torchrun does."""

import json
import logging
import os
import signal
from pathlib import Path
from typing import Any

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher import LaunchConfig, elastic_launch

from semipose import api
from semipose.api import TrainResult
from semipose.cli.common import CommandError, describe_failure
from semipose.cli.progress import ConsoleProgress, configure_logging
from semipose.config import RunConfig
from semipose.training.distributed import is_main_process, requested_processes
from semipose.utils.cpu import available_cpus
from semipose.utils.progress import NO_PROGRESS

NOISY = (
    "torch.distributed.elastic.agent.server.api",
    "torch.distributed.elastic.multiprocessing.api",
    "torch.distributed.launcher.api",
    "torch.multiprocessing.spawn",
)
"""Loggers of torch's launcher; their messages repeat the error that the command prints at its end."""


class _WorkerError(Exception):
    """The failure of a process, as JSON for the process that started it."""


def train_in_processes(config: RunConfig, out: Path, *, resume: bool) -> TrainResult:
    """Trains in `train.devices` processes (0 = one for every GPU) and returns the result of the first.

    Raises:
        CommandError: If a process failed or a signal arrived; then all processes have ended.
    """
    count = requested_processes(config.train.device, config.train.devices)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cpus() // count)))
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    launch = LaunchConfig(
        1, 1, count, rdzv_backend="c10d", rdzv_endpoint="localhost:0", run_id=str(os.getpid()), max_restarts=0
    )
    try:
        results: dict[int, TrainResult] = elastic_launch(launch, _work)(config, out, resume)
    except ChildFailedError as error:
        raise _failure(*error.get_first_failure()) from None
    except SignalException as error:
        raise CommandError(128 + error.sigval, ["stopped and saved; continue with --resume"]) from None
    return results[0]


def _work(config: RunConfig, out: Path, resume: bool) -> TrainResult | None:
    """Trains in one of the processes; returns the result in the first one."""
    os.setsid()  # Ctrl-C then reaches only the parent process, which passes it on once
    configure_logging()
    first = is_main_process()
    try:
        result = api.train(config, out=out, resume=resume, progress=ConsoleProgress() if first else NO_PROGRESS)
    except Exception as error:
        failure = describe_failure(error)
        raise _WorkerError(json.dumps({"code": failure.code, "lines": failure.lines})) from error
    return result if first else None


def _failure(rank: int, process: ProcessFailure) -> CommandError:
    message: Any = process.message
    text = message["message"] if isinstance(message, dict) else message
    name, _, report = text.partition(": ")
    if name == _WorkerError.__name__:
        return CommandError(**json.loads(report))
    if process.exitcode < 0:
        text = f"killed by {signal.Signals(-process.exitcode).name}"
    return CommandError(1, [f"process {rank} of the training ended ({text}); continue with --resume"])
