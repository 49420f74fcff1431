"""The configuration section `train`."""

from typing import Literal

from pydantic import Field, model_validator

from semipose.training.optim import OptimConfig


class TrainConfig(OptimConfig):
    """Budget, optimizer, evaluation, and the device."""

    epochs: float = Field(100, gt=0)
    """Passes over the unlabeled set, or over the labeled set if there is no other; the papers' 100."""
    steps: int | None = Field(None, ge=1)
    """Optimizer steps instead of epochs."""
    batch: int = Field(32, ge=1)
    """Labeled samples per step and process."""
    unlabeled_batch: int = Field(32, ge=1)
    """Unlabeled samples per step and process."""
    average: float = Field(0.0, ge=0, lt=1)
    """Momentum of a moving average of every trained network, evaluated and saved as NAME_average; .99 to .999 make
    small trainings steadier. The averages do not influence the training; 0 = none, as in the papers."""
    start: str | None = None
    """A run folder or weights file of semipose from which every network of its backbone starts; if its joints differ,
    only the backbone is taken."""
    workers: int | None = Field(None, ge=1)
    """Threads that load batches in advance; by the number of cores when not given."""
    evaluate_every: float | None = Field(None, gt=0)
    """Epochs between evaluations on the validation split; ten evaluations over the training when not given."""
    select: Literal["best", "last"] = "best"
    """Which weights are kept: the best on the validation split, or the last."""
    checkpoint_every: int = Field(500, ge=1)
    """Steps between checkpoints."""
    log_every: int = Field(20, ge=1)
    """Steps between lines in metrics.jsonl."""
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    """Arithmetic: auto is bf16 on GPUs that have it, and on CPUs where a short measurement finds it faster."""
    channels_last: bool = True
    """Memory layout of images and weights; faster on most hardware, the same results up to rounding."""
    compile: bool = False
    """torch.compile the networks: faster steps after a minute or two of compilation; needs a C++ compiler."""
    cuda_graphs: bool = False
    """Compiled networks run as CUDA graphs (torch.compile's `reduce-overhead`), so the GPU does not wait for Python
    between small operations; takes more memory, needs `compile` and one GPU."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    devices: int = Field(1, ge=0)
    """Processes on this machine, each with a GPU and batches of its own, so that the joint batch grows with them;
    0 = one per GPU. Under torchrun its number of processes applies."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of weights, order and augmentation."""

    @model_validator(mode="after")
    def _graphs_are_compiled(self) -> "TrainConfig":
        if self.cuda_graphs and not self.compile:
            raise ValueError("cuda_graphs need compiled networks; set compile to true")
        return self

    def total_steps(self, steps_per_epoch: int) -> int:
        """Returns the optimizer steps of the whole training."""
        return self.steps or max(1, round(self.epochs * steps_per_epoch))
