"""`data_distill`: as `pseudopose`, the teacher's heatmaps averaged over transforms (Radosavovic et al., CVPR 2018)."""

from typing import Literal

from pydantic import Field

from semipose.methods import pseudopose


class Config(pseudopose.Config):
    """Options of `data_distill`."""

    name: Literal["data_distill"] = "data_distill"  # type: ignore[assignment]
    teacher_scales: tuple[float, ...] = Field((1.0, 0.9, 1.1), min_length=1)
    """Scales about the center at which the teacher looks at the easy view."""
    teacher_flip: bool = True
    """The teacher looks at the mirror image of each scale as well."""


class DataDistill(pseudopose.PseudoPose):
    """L = L_s(f) + weight * |f(hard) - M mean over t of t⁻¹ teacher(t(easy))|²; t: `teacher_scales`, `teacher_flip`."""

    paper = "Radosavovic et al., CVPR 2018"
    published = (37.6, 51.6, 56.6)
    config: Config
