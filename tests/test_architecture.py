"""The floors of the house: imports go down only, nothing goes in circles, the engine has one door."""

import ast
from pathlib import Path

import pytest

import semipose

PACKAGE = Path(semipose.__file__).parent

FLOORS = [
    ("__main__",),
    ("cli",),
    ("studies",),
    ("api", "preparing"),
    ("evaluating",),
    ("looking",),
    ("run",),
    ("config",),
    ("training",),
    ("methods",),
    ("inference",),
    ("evaluation",),
    ("views", "losses"),
    ("data",),
    ("batch", "heatmaps"),
    ("geometry",),
    ("models", "teacher"),
    ("skeletons",),
    ("files",),
    ("cores", "errors", "wording"),
]
"""From the roof down; rooms on one floor do not import each other."""

LEVEL = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def modules() -> dict[str, Path]:
    """Every module of the package by dotted name without the package's own."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = path
    return found


def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, anywhere in it, without the package's own name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [f"{node.module}.{a.name}" for a in node.names] + [node.module]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"
        found |= {n.removeprefix("semipose.") for n in names if n.startswith("semipose.")}
    return {n for n in found if n in MODULES}


MODULES = modules()


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_down(name):
    room = name.partition(".")[0]
    assert room in LEVEL, f"{name}: give the new room a floor in FLOORS"
    for target in imports(MODULES[name]):
        other = target.partition(".")[0]
        assert other == room or LEVEL[other] > LEVEL[room], f"{name} imports {target}, which is not below it"


def test_no_circles_between_files():
    graph = {name: imports(path) - {name} for name, path in MODULES.items()}
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path, name])
        if name not in done:
            for target in graph[name]:
                # `from package import module` names the package too; its __init__ is checked as a file of its own.
                if not name.startswith(f"{target}."):
                    walk(target, (*path, name))
            done.add(name)

    for name in graph:
        walk(name, ())


def test_one_door_to_the_engine():
    users = [n for n, p in MODULES.items() if "lightning_fabric" in p.read_text()]
    assert users == ["training.engine"]


def test_method_names_stay_in_methods():
    """No branch on a method's name outside methods/; the choice of a default excepted."""
    for name, path in MODULES.items():
        if name.startswith("methods"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                texts = [c.value for c in [node.left, *node.comparators] if isinstance(c, ast.Constant)]
                assert not set(texts) & {"mean_teacher", "single", "dual", "sspcm", "akm"}, f"{name}:{node.lineno}"


@pytest.mark.parametrize("name", MODULES)
def test_purpose_in_first_line(name):
    text = MODULES[name].read_text()
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), f"{name} has no purpose in its first line"


@pytest.mark.parametrize("name", [n for n in MODULES if n.startswith("methods.") and n != "methods.base"])
def test_methods_are_short(name):
    assert len(MODULES[name].read_text().splitlines()) < 150


def test_public_names():
    assert set(semipose.__all__) <= set(dir(semipose))
    for name in semipose.__all__:
        assert getattr(semipose, name).__doc__
