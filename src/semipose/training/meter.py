"""Loss terms between two log lines."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from semipose.training.distributed import all_mean


@dataclass(frozen=True)
class MeanLosses:
    """Mean loss terms of the steps since the last log line.

    Attributes:
        terms: The mean of each term over the steps that were taken and have it.
        steps: The number of steps.
        skipped: The number of steps that were skipped because the loss or the gradient was not finite.
    """

    terms: dict[str, float]
    steps: int
    skipped: int


@dataclass
class LossMeter:
    """Sums of the loss terms since the last log line, kept on the device so that no step waits for them.

    Attributes:
        sums: The sum of each term over the steps that were taken.
        counts: The number of these steps that have the term.
        taken: The number of these steps.
        steps: The number of all steps.
    """

    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, Tensor] = field(default_factory=dict)
    taken: Tensor = field(default_factory=lambda: torch.zeros(()))
    steps: int = 0

    def add(self, terms: dict[str, Tensor], taken: Tensor) -> None:
        """Adds the terms of one step, unless the step was skipped."""
        for name, term in terms.items():
            value = torch.where(taken, term.detach(), torch.zeros_like(term))
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value
            self.counts[name] = self.counts.get(name, torch.zeros_like(value)) + taken
        self.taken = self.taken.to(taken.device) + taken
        self.steps += 1

    def mean(self) -> MeanLosses:
        """Returns the means over steps and processes; all processes must call it together."""
        names, totals = list(self.sums), [*self.sums.values(), *self.counts.values(), self.taken]
        *values, taken = all_mean(torch.stack([total.float() for total in totals])).tolist()
        sums, counts = values[: len(names)], values[len(names) :]
        terms = {name: total / max(1, count) for name, total, count in zip(names, sums, counts, strict=True)}
        taken = round(taken)
        return MeanLosses(terms, self.steps, self.steps - taken)

    def to(self, device: torch.device) -> "LossMeter":
        """Returns a copy on a device."""
        sums, counts = ({n: v.to(device) for n, v in values.items()} for values in (self.sums, self.counts))
        return LossMeter(sums, counts, self.taken.to(device), self.steps)

    @classmethod
    def merged(cls, meters: Sequence["LossMeter"]) -> "LossMeter":
        """Returns the mean of the meters of all processes, for resuming with another number of processes."""
        if not meters:
            return cls()
        sums = {name: torch.stack([meter.sums[name] for meter in meters]).mean(dim=0) for name in meters[0].sums}
        return cls(sums, meters[0].counts, meters[0].taken, meters[0].steps)
