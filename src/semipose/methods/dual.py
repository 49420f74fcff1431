"""`dual` (PoseDual): two networks teach each other from easy to hard views (Xie et al., ICCV 2021)."""

from typing import Literal

from pydantic import Field
from torch import nn

from semipose.augment.masking import JointCutout
from semipose.augment.registry import Alteration
from semipose.methods.base import ConsistencyConfig, Lesson, Losses, Progress, Workbench, losses
from semipose.structures.batches import LabeledBatch, UnlabeledBatch


class Config(ConsistencyConfig):
    """Options of `dual`."""

    name: Literal["dual"] = "dual"
    supervised_weight: float = Field(0.5, ge=0)
    """Weight of each network's supervised term."""
    backbones: dict[Literal["f1", "f2"], str] = {}
    """Backbones that differ from `model.backbone`, by network."""
    hard: list[Alteration] = [JointCutout()]


class Dual(nn.Module):
    """L = ½ L_s(f1) + ½ L_s(f2) + weight * (|f1(hard2) - M f2(easy)|² + |f2(hard1) - M f1(easy)|²).

    hard_i is cut around the joints that f_i sees.
    """

    paper = "Xie et al., ICCV 2021"
    published = (44.6, 55.6, 59.6)
    reported = ("f1", "f2")
    restarts = ()

    def __init__(self, config: Config, bench: Workbench) -> None:
        super().__init__()
        self.config, self.bench = config, bench
        self.f1 = bench.network(config.backbones.get("f1"), 1)
        self.f2 = bench.network(config.backbones.get("f2"), 1)

    def losses(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, progress: Progress) -> Losses:
        """Supervised terms, and each network's distance to the other's view of the easy image."""
        bench, config = self.bench, self.config
        view, factor, weight = bench.views.labeled(labeled), config.unlabeled_factor(progress), config.supervised_weight
        if unlabeled is None or factor == 0:
            return losses(supervised=weight * (bench.supervised(self.f1, view) + bench.supervised(self.f2, view)))
        easy = bench.views.easy(unlabeled)
        maps1 = bench.teach(self.f1, easy, config)
        maps2 = bench.teach(self.f2, easy, config)
        hard1 = bench.make_hard(easy, maps1, config.hard)
        hard2 = bench.make_hard(easy, maps2, config.hard)
        one, by_two = bench.learn(self.f1, view, [Lesson(hard2, [maps2])], config)
        two, by_one = bench.learn(self.f2, view, [Lesson(hard1, [maps1])], config)
        return losses(supervised=weight * (one + two), unlabeled_1=factor * by_two, unlabeled_2=factor * by_one)

    def after_step(self, progress: Progress) -> None:
        """Nothing follows."""

    def candidates(self) -> dict[str, nn.Module]:
        """Both networks."""
        return {"f1": self.f1, "f2": self.f2}
