"""A hook of MkDocs: writes the reference of the command line and of the configuration from the code."""

import subprocess
import sys

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from semipose.config import describe_options
from semipose.methods import METHODS


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages."""
    files.append(File.generated(config, "reference/cli.md", content=command_line()))
    files.append(File.generated(config, "reference/configuration.md", content=configuration()))
    return files


def command_line() -> str:
    """Returns the page of all commands, from typer's own generator."""
    command = [sys.executable, "-m", "typer", "semipose.cli", "utils", "docs", "--name", "semipose"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def configuration() -> str:
    """Returns the page of all options: the sections that all methods share, then those of each method."""
    lines = [
        "# Configuration",
        "",
        "Every option can be set in a YAML file or after the command as `section.key=value`. The defaults below are the",
        "papers' settings; `semipose config NAME` shows what a shipped configuration sets.",
        "",
    ]
    shared = [row for row in describe_options("supervised") if not row[0].startswith("method.")]
    for section in dict.fromkeys(name.partition(".")[0] for name, *_ in shared):
        lines += [f"## {section}", "", *_table([row for row in shared if row[0].startswith(f"{section}.")])]
    for method in METHODS:
        rows = [row for row in describe_options(method) if row[0].startswith("method.") and row[0] != "method.name"]
        lines += [f"## method: {method}", "", *(_table(rows) if rows else ["No options.", ""])]
    return "\n".join(lines)


def _table(rows: list[tuple[str, str, str, str]]) -> list[str]:
    def cell(text: str) -> str:
        return text.replace("|", "\\|")

    lines = ["| option | type | default | meaning |", "|---|---|---|---|"]
    lines += [
        f"| `{name}` | {cell(kind)} | `{cell(default)}` | {cell(meaning)} |" for name, kind, default, meaning in rows
    ]
    return [*lines, ""]
