"""`report.html` of runs or of a study, a self-contained page that opens offline."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from semipose.errors import ConfigError
from semipose.reports.comparison_page import comparison_page
from semipose.reports.figures import save_figures
from semipose.reports.page import Page, render
from semipose.reports.run_page import run_page
from semipose.reports.runs import PathLike, open_runs
from semipose.reports.study_page import study_page
from semipose.reports.suggestions import SuggestCall, python_call
from semipose.utils.files import make_folder, write_text

OUT = Path("reports") / "comparison"
"""Default folder of the report of several runs."""


def write_report(
    folders: PathLike | Sequence[PathLike] | Mapping[str, PathLike],
    out: PathLike | None = None,
    *,
    suggest_call: SuggestCall = python_call,
) -> Path:
    """Writes report.html and returns its path.

    Args:
        folders: The folder of a run or a study; or the folders of several runs, which are compared, with the names that
            the report shows as keys if it is a mapping.
        out: Folder of report.html, and of each figure as a picture file in figures/. If not given, the report of one
            folder is written into that folder, without picture files, and that of several into reports/comparison.
        suggest_call: How suggestions name the call of `suggest`.

    Raises:
        ConfigError: If a folder contains no run or study, or a package for reports is not installed.
        DataError: If there is nothing to report yet.
    """
    if isinstance(folders, str | os.PathLike):
        page, own = _page(Path(folders), suggest_call), Path(folders)
    elif not isinstance(folders, Mapping) and len(folders) == 1:
        return write_report(folders[0], out, suggest_call=suggest_call)
    else:
        page, own, out = comparison_page(open_runs(folders)), OUT, out or OUT
    target = Path(out or own)
    html = render(page)
    make_folder(target)
    if out is not None:
        save_figures(page, target / "figures")
    write_text(target / "report.html", html)
    return target / "report.html"


def _page(folder: Path, suggest_call: SuggestCall) -> Page:
    if (folder / "study.json").is_file():
        return study_page(folder)
    if (folder / "config.yaml").is_file():
        return run_page(folder, suggest_call)
    raise ConfigError(f"{folder} contains neither a run (config.yaml) nor a study (study.json); give the folder of one")
