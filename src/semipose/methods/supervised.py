"""`supervised`: training on labeled persons only (Xiao et al., ECCV 2018)."""

from typing import Literal

from pydantic import Field

from semipose.methods.base import Losses, Method, MethodContext, MethodOptions, StepInfo
from semipose.models.pose_net import PoseNet
from semipose.structures.batches import LabeledBatch, UnlabeledBatch


class Config(MethodOptions):
    """Options of `supervised`."""

    name: Literal["supervised"] = "supervised"
    levels: int = Field(1, ge=1, le=3)
    """Number of heatmap levels that are trained; only level z is evaluated."""


class Supervised(Method):
    """SimpleBaseline: L = L_s(f)."""

    summary = "one network trained on labeled persons only; the baseline of every comparison"
    paper = "Xiao et al., ECCV 2018"
    published = (31.5, 46.4, 51.1)
    headline_networks = ("f",)
    uses_unlabeled = False

    def __init__(self, config: Config, context: MethodContext) -> None:
        super().__init__(config, context)
        self.f = context.build_network(None, config.levels)

    def losses(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, info: StepInfo) -> Losses:
        """Returns the heatmap loss on labeled views."""
        return Losses.from_terms(supervised=self.context.supervised_loss(self.f, self.context.views.labeled(labeled)))

    def eval_networks(self) -> dict[str, PoseNet]:
        """Returns the network."""
        return {"f": self.f}
