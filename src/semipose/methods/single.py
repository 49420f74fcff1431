"""`single` (PoseCons): one network that is its own teacher (Xie et al., ICCV 2021)."""

from typing import Literal

from torch import Tensor

from semipose.augment.masking import JointCutout
from semipose.augment.registry import Augmentation
from semipose.methods.base import HardViewConfig, SingleStudentMethod
from semipose.structures.batches import View


class Config(HardViewConfig):
    """Options of `single`."""

    name: Literal["single"] = "single"
    augmentations: list[Augmentation] = [JointCutout()]


class Single(SingleStudentMethod):
    """L = L_s(f) + w |f(hard) - M f(easy)|², without gradient through f(easy)."""

    summary = "one network learns on hard views to predict what it predicts on easy views"
    paper = "Xie et al., ICCV 2021"
    published = (42.1, 52.3, 57.3)
    config: Config

    def teacher_heatmaps(self, easy: View) -> Tensor:
        """Returns the network's own heatmaps."""
        return self.context.pseudo_heatmaps(self.f, easy, self.config)
