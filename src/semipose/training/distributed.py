"""Who takes part in a training: processes that this one starts on its machine, or that a launcher has started."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed

from semipose.errors import ConfigError, RunError

log = logging.getLogger(__name__)


_parent: int | None = None
"""In a helper: the process that started it."""
_spoken = False
"""In a helper: whether it has been settled who tells that the first process is gone."""
GRACE = 20.0
"""Seconds that a process has to leave by itself once another one is gone: a GPU may wait for it forever."""
FAREWELL = 5.0
"""Seconds that helpers have to leave when the training has failed."""
PARTING = 2.0
"""Seconds for which a helper may look like a child still, after its dying parent has closed every connection."""


class LostProcessError(RunError):
    """Another process of this training is gone; the run goes on from its last checkpoint."""

    def __init__(self, how: str = "") -> None:
        reason = f" ({how})" if how else ""
        super().__init__(f"a process of this training is gone{reason}; go on from the last checkpoint with --resume")


@dataclass(frozen=True)
class Plan:
    """`per_node` processes on each of `nodes` machines, and which of them this one is.

    `started` says that all are running already: a launcher, or the first process of this machine, has started them.
    """

    per_node: int = 1
    nodes: int = 1
    local_rank: int = 0
    node_rank: int = 0
    address: str = "127.0.0.1"
    port: int = 0
    started: bool = False

    @property
    def world(self) -> int:
        """Processes altogether."""
        return self.per_node * self.nodes

    @property
    def rank(self) -> int:
        """Number of this process among all; the first one writes files and speaks."""
        return self.node_rank * self.per_node + self.local_rank


def is_first() -> bool:
    """Whether this process is the first of its training, or the only one."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK"))


def speaks(lost: bool = False) -> bool:
    """Whether this process tells how its training ended: the first one, or its first helper when that one is gone.

    `lost` says that some process is gone: connections of a killed process close before its children become orphans.
    """
    if is_first() or _parent is None:
        return is_first()
    global _spoken
    end = time.monotonic() + (PARTING if lost else 0.0)
    while os.getppid() == _parent and time.monotonic() < end:
        time.sleep(0.02)
    _spoken = _spoken or (lost and os.getppid() != _parent)
    return os.getppid() != _parent and os.environ["LOCAL_RANK"] == "1"


def plan_processes(device: str, devices: int, nodes: int) -> Plan:
    """What `train.device`, `train.devices` and `train.nodes` ask for, or what a launcher has made of it.

    Under torchrun (or with RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT set by hand) the
    environment decides. Raises ConfigError when the two contradict each other or something is missing.
    """
    gpus = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    if "LOCAL_RANK" in os.environ:
        return _launched(devices, nodes)
    per_node = devices or max(1, gpus)
    if per_node > 1 and ":" in device:
        raise ConfigError(f"train.device: {device} is one GPU, train.devices asks for {per_node}; write cuda")
    if per_node > 1 and gpus and per_node > gpus:
        raise ConfigError(
            f"train.devices: {per_node} asked, this machine has {gpus} GPUs; ask fewer or write 0 for all"
        )
    if nodes == 1:
        return Plan(per_node, port=_free_port() if per_node > 1 else 0)
    try:
        address, port, node = (os.environ[n] for n in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK"))
        return Plan(per_node, nodes, 0, int(node), address, int(port))
    except (KeyError, ValueError):
        raise ConfigError(
            f"train.nodes: {nodes} machines need MASTER_ADDR and MASTER_PORT of the first and NODE_RANK (0, 1, …) of "
            "each in the environment; or start with torchrun"
        ) from None


def _launched(devices: int, nodes: int) -> Plan:
    try:
        local, per_node, world = (int(os.environ[n]) for n in ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE"))
        node = int(os.environ.get("GROUP_RANK", os.environ.get("NODE_RANK", "0")))
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    except (KeyError, ValueError) as error:
        raise ConfigError(f"LOCAL_RANK is set, but {error} is not as a launcher sets it; use torchrun") from None
    if (devices not in (0, 1, per_node)) or (nodes not in (1, world // per_node)):
        raise ConfigError(
            f"train.devices × train.nodes: {devices} × {nodes} asked, the launcher started {per_node} × "
            f"{world // per_node}; leave these options out"
        )
    return Plan(per_node, world // per_node, local, node, address, port, started=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def helpers(plan: Plan, message: dict[str, Any]) -> Iterator[None]:
    """Runs the other processes of this machine, `semipose join`, while the block runs here.

    Each reads `message` as one line of JSON on its standard input, which stays open: when it ends, this process is
    gone. They have a session of their own, so that Ctrl-C reaches this process alone. When the block fails they are
    ended; when one of them dies, LostProcessError says how.
    """
    if plan.started or plan.per_node == 1:
        yield
        return
    running = [_start(plan, local_rank, message) for local_rank in range(1, plan.per_node)]
    over = threading.Event()
    threading.Thread(target=_guard, args=(running, over), daemon=True).start()
    patience = FAREWELL
    try:
        yield
        patience = GRACE
    except LostProcessError:
        raise LostProcessError(_how(running, FAREWELL)) from None
    except Exception as error:
        patience = GRACE if getattr(error, "signal", None) else FAREWELL  # after a signal they are leaving as well
        raise
    finally:
        over.set()
        _end(running, patience)


def _start(plan: Plan, local_rank: int, message: dict[str, Any]) -> subprocess.Popen:
    environment = {
        **os.environ,
        "LOCAL_RANK": str(local_rank),
        "LOCAL_WORLD_SIZE": str(plan.per_node),
        "WORLD_SIZE": str(plan.world),
        "RANK": str(plan.rank + local_rank),
        "NODE_RANK": str(plan.node_rank),
        "MASTER_ADDR": plan.address,
        "MASTER_PORT": str(plan.port),
    }
    command = [sys.executable, "-m", "semipose", "join"]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, start_new_session=True)
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.write(json.dumps(message).encode() + b"\n")
        process.stdin.flush()
    return process


def _end(running: list[subprocess.Popen], patience: float) -> None:
    """Waits for helpers that are leaving, and ends those that do not."""
    end = time.monotonic() + patience
    if patience < GRACE:
        for process in running:
            process.terminate()
    for process in running:
        try:
            process.wait(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.close()


def _how(running: list[subprocess.Popen], patience: float) -> str:
    """What became of the first helper that ended badly; "" when none did."""
    end = time.monotonic() + patience
    while True:
        for number, process in enumerate(running, start=1):
            code = process.poll()
            if code:
                what = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
                return f"process {number} of {len(running) + 1} on this machine, {what}"
        if time.monotonic() > end:
            return ""
        time.sleep(0.05)


def _guard(running: list[subprocess.Popen], over: threading.Event) -> None:
    """Ends this process when a helper is gone and the main thread, which may wait for a GPU, does not notice."""
    while not over.wait(0.5):
        if any(process.poll() for process in running):
            if not over.wait(GRACE):
                log.info(f"semipose: {LostProcessError(_how(running, 0))}")
                for process in running:
                    process.kill()
                os._exit(1)
            return


def read_message() -> dict[str, Any]:
    """What the first process of this machine wants a helper to do; from now on the helper ends when that one does."""
    global _parent
    line, _parent = sys.stdin.buffer.readline(), os.getppid()
    if not line:
        raise RunError("semipose join is for processes that semipose train starts; use semipose train")

    def watch() -> None:
        with suppress(OSError):
            while os.read(0, 4096):
                pass
        time.sleep(GRACE)
        if not _spoken and speaks(lost=True):  # the main thread has not met the others since
            print(f"semipose: {LostProcessError()}", file=sys.stderr, flush=True)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    return json.loads(line)


@contextmanager
def together(plan: Plan) -> Iterator[None]:
    """A block in which all processes work together: LostProcessError when one is gone, no connection open after it."""
    if plan.world == 1:
        yield
        return
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or any(sign in str(error) for sign in ("gloo", "NCCL")):
            raise LostProcessError from None
        raise
    finally:
        # After a failure NCCL would wait for what never comes; the process ends anyway. A signal ends all in one step.
        failure = sys.exception()
        broken = failure is not None and not hasattr(failure, "signal")
        if distributed.is_initialized() and not (broken and distributed.get_backend() == "nccl"):
            distributed.destroy_process_group()
