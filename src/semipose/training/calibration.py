"""Calibration of the networks of a run on its validation persons, kept in the weights files."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from semipose.inference.pose_model import weights_of
from semipose.inference.weights import write_calibrations
from semipose.metrics.calibration import CalibrationReport, calibrate_networks
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import Prediction

log = logging.getLogger(__name__)


def calibrate_weights(
    folder: Path, truth: PoseDataset | None, predictions: Mapping[str, Sequence[Prediction]], best: str
) -> CalibrationReport:
    """Fits the calibration of each network and writes all of them into each weights file of a run.

    Args:
        folder: The run folder.
        truth: The validation persons; None if there are none.
        predictions: The predictions for them by network and, if there are several headline networks, of the ensemble.
        best: The network of best.safetensors.

    Returns:
        The calibration of the best network, which is logged.

    Raises:
        OSError: If a file cannot be written.
    """
    reports = calibrate_networks(truth, predictions)
    found = {name: report.calibration for name, report in reports.items() if report.calibration is not None}
    reasons = {name: report.reason for name, report in reports.items() if report.calibration is None}
    for path in (folder / "best.safetensors", *weights_of(folder).values()):
        write_calibrations(path, found, reasons)
    log.info(reports[best].describe())
    return reports[best]
