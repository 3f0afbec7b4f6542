"""The notebook experiments/tour.ipynb: what is committed, and that it runs from clean."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest
from support import REPOSITORY

NAME = "tour.ipynb"
PICTURE, TABLE = "image/png", "text/markdown"
SPEECH = re.compile(r"data:audio/[^\"]*")  # base64, in which anything can be spelled
OF_A_MACHINE = re.compile(r"(?<![\w.])/(work|root|home|tmp|Users|content|opt|var)/|events\.out\.tfevents|\.venv|localhost")
MAX_BYTES = 1_500_000
RUN_S = 900  # what the notebook promises


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def code_cells(notebook: Any) -> dict[str, Any]:
    """By their ids."""
    return {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}


def shown(cell: Any, kind: str) -> list[str]:
    """What a cell's outputs hold of one kind."""
    return [output.data[kind] for output in cell.outputs if kind in output.get("data", {})]


def printed(cell: Any) -> str:
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def row(table: str, *labels: str) -> list[str]:
    """The cells after the labels in the row of a markdown table that begins with them."""
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines()]
    (found,) = [cells for cells in rows if cells[: len(labels)] == list(labels)]
    return found[len(labels) :]


def check_outputs(cells: dict[str, Any]) -> None:
    """Every cell has said something, nothing went wrong, and the pictures are there."""
    for name, cell in cells.items():
        assert cell.outputs, f"{name} shows nothing"
        kinds = {output.output_type for output in cell.outputs}
        assert "error" not in kinds, f"{name} failed"
        assert not [output for output in cell.outputs if output.get("name") == "stderr"], f"{name} warns"
    pictures = {name: len(shown(cell, PICTURE)) for name, cell in cells.items()}
    assert {name: n for name, n in pictures.items() if n} == {
        "clip": 1,
        "curves": 2,
        "compare": 1,
        "sweep-picture": 1,
        "tensorboard": 1,
        "noise": 1,
        "why": 1,
        "voice-picture": 1,
    }
    for name in ("clip", "mine", "why", "voice-picture"):
        assert "data:audio" in "".join(shown(cells[name], "text/html")), f"{name} has nothing to hear"


def test_the_committed_notebook_is_whole_small_and_of_no_machine() -> None:
    path = REPOSITORY / "experiments" / NAME
    notebook = read(path)
    nbformat.validate(notebook)
    check_outputs(code_cells(notebook))
    assert path.stat().st_size < MAX_BYTES
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    for cell in notebook.cells:
        assert "execution" not in cell.metadata, "times of execution change with every run"
        assert not OF_A_MACHINE.search(cell.source)
        for output in cell.get("outputs", []):
            texts = [output.get("text", ""), *(v for k, v in output.get("data", {}).items() if not k.startswith("image/"))]
            for text in texts:
                assert not (found := OF_A_MACHINE.search(SPEECH.sub("", text))), f"{cell.id}: {found}"


def test_its_links_lead_somewhere() -> None:
    text = "\n".join(cell.source for cell in read(REPOSITORY / "experiments" / NAME).cells if cell.cell_type == "markdown")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("https:")]
    assert len(links) >= 5
    for link in links:
        assert (REPOSITORY / "experiments" / link).exists(), link


@pytest.mark.slow
@pytest.mark.fsdd
def test_it_runs_from_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it leaves in its folder, ``experiments/tour.ipynb``, is what is committed when the notebook changes."""
    from nbclient import NotebookClient

    experiments = tmp_path / "experiments"
    shutil.copytree(REPOSITORY / "experiments", experiments, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setenv("FSDD_ROOT", str(Path(os.environ["FSDD_ROOT"]).resolve()))  # the kernel works in another folder
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)  # nobody is looking at TensorBoard
    notebook = read(experiments / NAME)
    cells = code_cells(notebook)
    for cell in cells.values():
        cell.outputs = []
    place = {"metadata": {"path": str(experiments)}}
    NotebookClient(
        notebook, timeout=RUN_S, kernel_name="python3", resources=place, record_timing=False, coalesce_streams=True
    ).execute()
    nbformat.write(notebook, experiments / NAME)  # type: ignore[no-untyped-call]

    check_outputs(cells)
    assert "fsdd: 2400 clips to train on, 300 to validate, 300 to test" in printed(cells["corpus"])
    (compared,) = shown(cells["compare"], TABLE)
    for experiment in ("baseline", "robust"):
        *_, in_quiet = row(compared, experiment, "fsdd", "official")[:4]
        assert float(in_quiet) > 97
    (noisy,) = shown(cells["noise"], TABLE)
    trained, pretrained = ([int(right) for right in row(noisy, "babble", name)] for name in ("baseline", "pretrained"))
    assert pretrained[0] > 290
    assert pretrained[-1] > trained[-1] + 30
    known, left_out = (float(share) for share in re.findall(r": ([\d.]+) \(", printed(cells["voice-picture"])))
    assert known > 90
    assert 60 < left_out < 97
    (answers,) = shown(cells["pretrained"], TABLE)
    assert row(answers, "“six”")[1] == "6 (1.00), accepted"
    assert row(answers, "“six” backwards")[1].endswith("no digit")
    assert {path.name for path in (tmp_path / "outputs" / "tour").iterdir()} == {"compare", "sweep", "unseen"}
