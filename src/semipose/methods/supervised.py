"""`supervised`: one network, labeled persons only; the floor every method is measured against."""

from typing import Literal

from pydantic import Field
from torch import nn

from semipose.methods.base import Losses, MethodContext, StepInfo, losses
from semipose.structures.batches import LabeledBatch, UnlabeledBatch
from semipose.utils.section import Section


class Config(Section):
    """Options of `supervised`."""

    name: Literal["supervised"] = "supervised"
    levels: int = Field(1, ge=1, le=3)
    """Heatmap levels trained; the last stage alone is evaluated."""


class Supervised(nn.Module):
    """SimpleBaseline (Xiao et al., ECCV 2018)."""

    paper = "Xiao et al., ECCV 2018"
    published = (31.5, 46.4, 51.1)
    headline_networks = ("f",)
    schedule_restarts = ()

    def __init__(self, config: Config, context: MethodContext) -> None:
        super().__init__()
        self.context = context
        self.f = context.build_network(None, config.levels)

    def losses(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, info: StepInfo) -> Losses:
        """Heatmap loss on labeled views."""
        return losses(supervised=self.context.supervised(self.f, self.context.views.labeled(labeled)))

    def after_step(self, info: StepInfo) -> None:
        """Nothing follows."""

    def eval_networks(self) -> dict[str, nn.Module]:
        """The network."""
        return {"f": self.f}
