"""A hook of MkDocs: writes the reference of the command line and of the configuration from the code."""

import subprocess
import sys

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from semipose.config import describe_options
from semipose.methods import METHODS
from semipose.utils.section import Option


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
    """Returns the page of all options: those that all methods share by section, then those of each method."""
    lines = [
        "# Configuration",
        "",
        "Every option can be set in a YAML file or after the command as `section.key=value`. These defaults are the",
        "papers' settings; `semipose config NAME` shows what a configuration of the package sets.",
        "",
    ]
    shared = [option for option in describe_options("supervised") if not option.name.startswith("method")]
    for section in dict.fromkeys(option.name.partition(".")[0] for option in shared):
        lines += [f"## {section}", "", *_table([option for option in shared if option.name.startswith(f"{section}.")])]
    for method in METHODS:
        own = [option for option in describe_options(method) if option.name.startswith("method.")]
        lines += [f"## method: {method}", "", *(_table(own) if own else ["No options.", ""])]
    return "\n".join(lines)


def _table(options: list[Option]) -> list[str]:
    def cell(value: object) -> str:
        return ("null" if value is None else str(value)).replace("|", "\\|")

    lines = ["| option | type | default | meaning |", "|---|---|---|---|"]
    for option in options:
        lines.append(f"| `{option.name}` | {cell(option.type)} | `{cell(option.default)}` | {cell(option.meaning)} |")
    return [*lines, ""]
