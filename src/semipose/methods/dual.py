"""`dual` (PoseDual): two networks that are each other's teacher (Xie et al., ICCV 2021)."""

from typing import Literal

from pydantic import Field

from semipose.augment.masking import JointCutout
from semipose.augment.registry import Augmentation
from semipose.methods.base import ConsistencyMethod, ConsistencyTarget, HardViewConfig, Losses, MethodContext
from semipose.models.pose_net import PoseNet
from semipose.structures.batches import LabeledView, View


class Config(HardViewConfig):
    """Options of `dual`."""

    name: Literal["dual"] = "dual"
    supervised_weight: float = Field(0.5, ge=0)
    backbones: dict[Literal["f1", "f2"], str] = {}
    """Backbones that differ from `model.backbone`, by network."""
    augmentations: list[Augmentation] = [JointCutout()]


class Dual(ConsistencyMethod):
    """L = ½ (L_s(f1) + L_s(f2)) + w (|f1(hard2) - M f2(easy)|² + |f2(hard1) - M f1(easy)|²).

    hard_i is augmented around the joints that f_i predicts on the easy view; M is the same for both.
    """

    summary = "two networks; each learns on hard views from the other's predictions on easy views"
    paper = "Xie et al., ICCV 2021"
    published = (44.6, 55.6, 59.6)
    headline_networks = ("f1", "f2")
    config: Config

    def __init__(self, config: Config, context: MethodContext) -> None:
        super().__init__(config, context)
        self.f1 = context.build_network(config.backbones.get("f1"), 1)
        self.f2 = context.build_network(config.backbones.get("f2"), 1)

    def supervised_networks(self) -> list[PoseNet]:
        """Returns both networks."""
        return [self.f1, self.f2]

    def semi_supervised_losses(self, labeled: LabeledView, easy: View, weight: float) -> Losses:
        """Returns the supervised losses and the consistency loss of each network with the other."""
        context, config = self.context, self.config
        heatmaps1 = context.pseudo_heatmaps(self.f1, easy, config)
        heatmaps2 = context.pseudo_heatmaps(self.f2, easy, config)
        from_easy = context.views.second_affine(len(easy), easy.images.device)
        target1, target2 = (
            ConsistencyTarget(context.hard_view(easy, heatmaps, config.augmentations, from_easy), [heatmaps])
            for heatmaps in (heatmaps1, heatmaps2)
        )
        return Losses.from_terms(
            supervised=self.supervised_loss(labeled),
            unlabeled_1=weight * context.consistency_loss(self.f1, target2, config),
            unlabeled_2=weight * context.consistency_loss(self.f2, target1, config),
        )

    def eval_networks(self) -> dict[str, PoseNet]:
        """Returns both networks."""
        return {"f1": self.f1, "f2": self.f2}
