"""The floor plan holds: imports go one way, without circles; files and functions stay small."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "digits"
FLOORS = (  # each part of the package imports only from its own floor or from those above it in this list
    {"_torchaudio", "audio", "cli", "damage", "files", "kinds", "word_window"},
    {"features", "corpora", "effects"},
    {"networks", "settings"},
    {"recognition"},
    {"training", "live"},
    {"train", "mic", "web", "enroll", "predict", "export", "calibrate", "__main__"},
)
NEEDS_NOTHING_OF = {  # parts of one floor that stay apart
    "features": {"corpora", "effects"},
    "corpora": {"features", "effects"},
    "effects": {"features", "corpora"},
    "live": {"training"},
    "training": {"live"},
}
MAX_FILE_LINES, MAX_FUNCTION_LINES = 300, 50
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path) for path in MODULES}


def imported(path: Path) -> Iterator[str]:
    """The modules of the package that a module imports, anywhere in it, except only for type checking."""
    tree = ast.parse(path.read_text())
    only_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in only_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in NAMES)
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in NAMES else str(node.module) for name in names if (name in NAMES or node.module in NAMES))


def part(module: str) -> str:
    """``digits.live.screen`` -> ``live``; the package itself has no part."""
    return [*module.split("."), ""][1]


GRAPH = {name_of(path): set(imported(path)) - {name_of(path)} for path in MODULES}


def test_no_import_circle() -> None:
    try:
        tuple(TopologicalSorter(GRAPH).static_order())
    except CycleError as error:
        pytest.fail(f"import circle: {' -> '.join(error.args[1])}")


def test_every_part_has_its_floor() -> None:
    assert {part(name) for name in NAMES if part(name)} == set.union(*FLOORS)


def test_no_arrow_runs_up() -> None:
    floor = {name: number for number, names in enumerate(FLOORS) for name in names} | {"": 0}
    for module, targets in GRAPH.items():
        for target in targets:
            one, other = part(module), part(target)
            assert floor[other] <= floor[one], f"{module} imports {target}, which is above it"
            assert other not in NEEDS_NOTHING_OF.get(one, ()), f"{module} imports {target}, beside it"
            assert one == other or floor[one] < len(FLOORS) - 1 or floor[other] < floor[one], f"{module} imports another command"


def test_folders_explain_themselves_without_code_in_their_init() -> None:
    empty = {path.parent.name: path.read_text() for path in PACKAGE.glob("*/__init__.py")}
    assert {name for name, text in empty.items() if text} == {"effects"}


@pytest.mark.parametrize("path", [*MODULES, *(PACKAGE.parent / "experiments").rglob("*.py")], ids=lambda path: path.name)
def test_files_and_functions_are_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < MAX_FUNCTION_LINES, node.name


def test_train_is_short() -> None:
    (train,) = (n for n in ast.parse((PACKAGE / "train.py").read_text()).body if getattr(n, "name", None) == "train")
    assert train.end_lineno is not None
    assert train.end_lineno - train.lineno < 40


def test_listening_imports_neither_torch_nor_hydra() -> None:
    import subprocess
    import sys

    modules = "digits.recognition.recognizer, digits.recognition.model_files, digits.live.listener, digits.live.microphone"
    code = f"import sys, {modules}; print(*sorted({{'torch', 'hydra', 'omegaconf', 'lightning', 'scipy'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
