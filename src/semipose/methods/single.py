"""`single` (PoseCons): one network teaches itself from easy to hard views (Xie et al., ICCV 2021)."""

from typing import Literal

from torch import nn

from semipose.augment.masking import JointCutout
from semipose.augment.registry import Alteration
from semipose.methods.base import ConsistencyConfig, Lesson, Losses, Progress, Workbench, losses
from semipose.structures.batches import LabeledBatch, UnlabeledBatch


class Config(ConsistencyConfig):
    """Options of `single`."""

    name: Literal["single"] = "single"
    hard: list[Alteration] = [JointCutout()]


class Single(nn.Module):
    """L = L_s(f) + weight * |f(hard) - M f(easy)|², the easy side without gradient."""

    paper = "Xie et al., ICCV 2021"
    published = (42.1, 52.3, 57.3)
    reported = ("f",)
    restarts = ()

    def __init__(self, config: Config, bench: Workbench) -> None:
        super().__init__()
        self.config, self.bench = config, bench
        self.f = bench.network(None, 1)

    def losses(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, progress: Progress) -> Losses:
        """Supervised term, and the consistency of the network with itself."""
        bench, config = self.bench, self.config
        view, factor = bench.views.labeled(labeled), config.unlabeled_factor(progress)
        if unlabeled is None or factor == 0:
            return losses(supervised=bench.supervised(self.f, view))
        easy = bench.views.easy(unlabeled)
        heatmaps = bench.teach(self.f, easy, config)
        hard = bench.make_hard(easy, heatmaps, config.hard)
        supervised, learned = bench.learn(self.f, view, [Lesson(hard, [heatmaps])], config)
        return losses(supervised=supervised, unlabeled=factor * learned)

    def after_step(self, progress: Progress) -> None:
        """Nothing follows: teacher and student are one network."""

    def candidates(self) -> dict[str, nn.Module]:
        """The network."""
        return {"f": self.f}
