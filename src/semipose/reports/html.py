"""`report.html` of a run or a study, a self-contained page that opens offline."""

import os
from pathlib import Path

from semipose.errors import ConfigError
from semipose.reports.page import render
from semipose.reports.run_page import run_page
from semipose.reports.study_page import study_page
from semipose.utils.files import write_text


def write_report(folder: str | os.PathLike[str]) -> Path:
    """Writes report.html into the folder of a run or a study and returns its path.

    Raises:
        ConfigError: If the folder contains neither, or a package for reports is not installed.
        DataError: If there is nothing to report yet.
    """
    folder = Path(folder)
    if (folder / "study.json").is_file():
        page = study_page(folder)
    elif (folder / "config.yaml").is_file():
        page = run_page(folder)
    else:
        raise ConfigError(
            f"{folder} contains neither a run (config.yaml) nor a study (study.json); give the folder of one"
        )
    path = folder / "report.html"
    write_text(path, render(page))
    return path
