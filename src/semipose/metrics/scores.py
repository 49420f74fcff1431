"""Scores of predictions on a data set, and the protocol that is printed with every figure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from semipose.metrics.oks import oks_scores
from semipose.metrics.pck import match, pck_torso, pckh
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import Prediction, evaluated
from semipose.utils.text import plural


@dataclass(frozen=True)
class EvaluationProtocol:
    """What a figure was measured on and how: two figures compare only where their protocols agree.

    `boxes` is 'ground truth' or 'detections FILE'; `sigmas` names the set of OKS constants; `source` the data set;
    `weights_selection` how the weights were picked, for example 'best AP on a validation split'; `left_out` counts
    what was broken and left out, `seen` the photographs that the training knew, both in words, empty when untold;
    `decoder` how joints were read off heatmaps.
    """

    boxes: str
    flip_test: bool
    sigmas: str
    n_persons: int
    n_images: int
    source: str
    weights_selection: str
    left_out: str = ""
    seen: str = ""
    decoder: str = ""

    @classmethod
    def of(
        cls,
        truth: PoseDataset,
        *,
        boxes: str,
        flip_test: bool,
        weights_selection: str,
        left_out: str = "",
        seen: str = "",
        decoder: str = "",
    ) -> "EvaluationProtocol":
        """The protocol of an evaluation on `truth`; persons that figures leave out are not counted."""
        persons = truth.instances.take(np.flatnonzero(evaluated(truth)))
        return cls(
            boxes=boxes,
            flip_test=flip_test,
            sigmas=truth.skeleton.name,
            n_persons=len(persons),
            n_images=len(set(persons.image_ids)),
            source=truth.source,
            weights_selection=weights_selection,
            left_out=left_out,
            seen=seen,
            decoder=decoder,
        )

    def describe(self) -> str:
        """One line to print beside figures."""
        return "; ".join(
            (
                f"{self.source}: {plural(self.n_persons, 'person')} in {plural(self.n_images, 'image')}",
                f"boxes: {self.boxes}",
                f"flip test: {'on' if self.flip_test else 'off'}",
                *([f"decoder: {self.decoder}"] if self.decoder else []),
                f"OKS sigmas: {self.sigmas}",
                f"weights: {self.weights_selection}",
                *([f"left out as broken: {self.left_out}"] if self.left_out else []),
                *([self.seen] if self.seen else []),
            )
        )


@dataclass(frozen=True)
class Scores:
    """Figures of one set of predictions, as fractions; None where the data lacks what a figure needs.

    `ap` … `ar` are COCO's over OKS, `ap_m` and `ap_l` those of medium and large persons; `pck` is PCK@0.2 of the torso,
    `pckh` PCKh@0.5 and `pckh_strict` PCKh@0.1, each with the same by joint name. `counts`: `persons` and `images`
    evaluated, `predictions`, of which `elsewhere` lie on images where the set has nobody (they count against AP), and
    how many persons have `no_prediction`, `no_torso`, `no_head_size` or `no_area`.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_m: float | None
    ap_l: float | None
    ar: float | None
    pck: float | None
    pckh: float | None
    per_joint: Mapping[str, float | None]
    per_joint_pckh: Mapping[str, float | None]
    pckh_strict: float | None
    per_joint_pckh_strict: Mapping[str, float | None]
    counts: Mapping[str, int]

    @property
    def by_joint(self) -> dict[str, dict[str, float]]:
        """PCK@0.2, PCKh@0.5 and PCKh@0.1 by joint name, and in `total`; what has no figure is left out."""
        found = {
            "PCK@0.2": {**self.per_joint, "total": self.pck},
            "PCKh@0.5": {**self.per_joint_pckh, "total": self.pckh},
            "PCKh@0.1": {**self.per_joint_pckh_strict, "total": self.pckh_strict},
        }
        known = {name: {j: v for j, v in figures.items() if v is not None} for name, figures in found.items()}
        return {name: figures for name, figures in known.items() if figures}

    @property
    def notes(self) -> list[str]:
        """Why a figure that is expected of every set is missing."""
        if self.pck is not None:
            return []
        return ["no PCK@0.2: nobody shows a shoulder and the opposite hip (joints left_shoulder, right_hip, …)"]

    def as_dict(self) -> dict[str, float | None]:
        """The figures under their public names: AP, AP50, AP75, AR, PCK@0.2, PCKh@0.5."""
        return {
            "AP": self.ap,
            "AP50": self.ap50,
            "AP75": self.ap75,
            "AR": self.ar,
            "PCK@0.2": self.pck,
            "PCKh@0.5": self.pckh,
        }


def score(truth: PoseDataset, predictions: Sequence[Prediction]) -> Scores:
    """Every figure that `truth` allows: AP needs areas, PCK shoulders and hips, PCKh head sizes.

    Raises DataError for predictions of another skeleton or data set, RunError for predictions that are not finite.
    """
    oks = oks_scores(truth, predictions)
    torso, head, strict = pck_torso(truth, predictions), pckh(truth, predictions), pckh(truth, predictions, 0.1)
    plural, matched = np.flatnonzero(evaluated(truth)), match(truth, predictions)
    persons, images = truth.instances.take(plural), set(truth.instances.image_ids)
    return Scores(
        ap=oks["AP"],
        ap50=oks["AP50"],
        ap75=oks["AP75"],
        ap_m=oks["AP_M"],
        ap_l=oks["AP_L"],
        ar=oks["AR"],
        pck=torso["total"],
        pckh=head["total"],
        per_joint=torso["per_joint"],
        per_joint_pckh=head["per_joint"],
        pckh_strict=strict["total"],
        per_joint_pckh_strict=strict["per_joint"],
        counts={
            "persons": len(persons),
            "images": len(set(persons.image_ids)),
            "predictions": len(predictions),
            "elsewhere": sum(p.image_id not in images for p in predictions),
            "no_prediction": sum(matched[i] is None for i in plural),
            "no_torso": torso["unmeasured"],
            "no_head_size": head["unmeasured"],
            "no_area": int((persons.areas <= 0).sum()),
        },
    )
