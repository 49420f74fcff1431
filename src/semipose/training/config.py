"""The configuration sections `train` and `evaluation`."""

from typing import Literal

from pydantic import Field, model_validator

from semipose.inference.predictor import Precision
from semipose.metrics.instance_score import InstanceScore
from semipose.ops.heatmaps import Decoder
from semipose.training.optim import OptimConfig
from semipose.utils.section import Section


class TrainConfig(OptimConfig):
    """Budget, optimizer, evaluation and device."""

    epochs: float = Field(100, gt=0)
    """Passes over the unlabeled set, or over the labeled set if the method uses none; 100 in the papers."""
    steps: int | None = Field(None, ge=1)
    """Number of optimizer steps; replaces `epochs`."""
    batch: int = Field(32, ge=1)
    """Labeled samples per step and process. `auto`: on a GPU the largest power of two whose step fits the memory,
    with as many times `unlabeled_batch` as it has times 32 (in one process); 16 or 32 without a GPU."""
    unlabeled_batch: int = Field(32, ge=1)
    """Unlabeled samples per step and process."""
    accumulate: int = Field(1, ge=1)
    """Number of equal parts in which a step computes its batch, one after the other, to save memory; their gradients
    are averaged. BatchNorm sees each part alone."""
    average: float = Field(0.0, ge=0, lt=1)
    """Momentum of a moving average of every trained network that is evaluated, saved as NAME_average; .99 to .999 give
    steadier scores in short trainings. The averages do not influence the training; 0 = none, as in the papers.
    Evaluated averages, such as the teacher of a mean teacher, have none."""
    start: str | None = None
    """A run folder, a weights file, or ViTPose's weights (`vitpose-base-simple`, or a file in transformers' layout). It
    initializes every network with the same backbone, and of heads built alike the joints of the same name. Backbone,
    stage, head and `loss.kind` are those of the start unless they are given."""
    workers: int | None = Field(None, ge=1)
    """Number of threads that load batches in advance; depends on the number of cores if not given."""
    evaluate_every: float | None = Field(None, gt=0)
    """Epochs between evaluations on the validation split; if not given, ten evaluations during the training."""
    select: Literal["best", "last"] = "best"
    """The weights that are kept: the best on the validation split, or the last."""
    checkpoint_every: int = Field(200, ge=1)
    """Steps between checkpoints, of which a crash or `kill -9` loses the last; Ctrl-C and SIGTERM save one."""
    log_every: int = Field(20, ge=1)
    """Steps between log lines in metrics.jsonl."""
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    """Precision: `auto` is bf16 on GPUs that support it, and on CPUs if a short measurement finds it faster."""
    channels_last: bool = True
    """Whether to use the channels-last memory layout; faster on most hardware, equal results up to rounding."""
    compile: bool | Literal["auto"] = "auto"
    """Whether to compile the networks with torch.compile, on a GPU to CUDA graphs, so that it does not wait for Python
    between small operations. `auto` does so on a GPU if the steps save more time than the compilation takes, a
    minute. Needs a C++ compiler, and more memory than the batch that `batch: auto` finds leaves room for; where it
    fails, the training goes on without. CUDA graphs need one process and `accumulate` 1."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps. `auto` is the first CUDA GPU, else Apple's if the method runs there (a dry run
    shows it), else the CPU."""
    devices: int = Field(1, ge=0)
    """Number of processes on this machine, each with its own GPU and batches, so that the global batch grows with it;
    0 = one per GPU. If torchrun starts the processes, its number applies."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of initial weights, data order and augmentation."""

    @model_validator(mode="after")
    def _parts_are_equal(self) -> "TrainConfig":
        if self.batch % self.accumulate or self.unlabeled_batch % self.accumulate:
            raise ValueError(
                f"accumulate divides each batch in equal parts, but {self.accumulate} does not divide batch "
                f"{self.batch} and unlabeled_batch {self.unlabeled_batch}"
            )
        return self

    def total_steps(self, steps_per_epoch: int) -> int:
        """Returns the number of optimizer steps of the training."""
        return self.steps or max(1, round(self.epochs * steps_per_epoch))


class EvaluationConfig(Section):
    """How networks are evaluated during and after a training."""

    flip_test: bool = False
    """Whether to average heatmaps with those of the mirrored image; off in the papers' tables."""
    decoder: Decoder = "dark"
    """Decoding of joints from heatmaps, here and in all later use of the network: `dark` (DARK, sub-pixel), or
    `quarter` (arg-max with a quarter offset), as in the papers' code."""
    instance_score: InstanceScore = "rescored"
    """Score of a person, by which AP ranks, here and in all later use of the network. `rescored`: the mean of the
    peaks above .2 (0 if there is none), with OKS-NMS at .9 afterwards, as in the papers' code; `mean`: the mean of all
    peaks, without NMS. Both are multiplied by the score of the box, 1 for annotated boxes."""
    precision: Precision = "auto"
    """Precision of networks here and in all later use: `auto` is 16 bit on a CUDA GPU and 32 bit elsewhere; `32-true`,
    32 bit everywhere, is that of the papers' protocols."""
