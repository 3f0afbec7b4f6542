"""What the studies share: means and intervals, markdown tables, provenance, and their tables in READMEs.

A study's script writes its tables as sections of a ``report.md``. Everywhere else a table stands between two markers and is copied
from there, so that no figure is carried by hand: ``python -m experiments.tables`` (or the script itself) brings all of them up to
date. A marker names the report, the section and, if only a part is wanted, rows and columns by the beginnings of their labels::

    <!-- table: air_gap/report.md "Summary" rows="official|room" columns="live" -->
    <!-- end -->
"""

import csv
import re
import shlex
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from digits.recognition.score import wilson

STUDIES = Path(__file__).parent
DOCUMENTS = ("README.md", "experiments/README.md", "experiments/*/README.md", "digits/pretrained/README.md")
MARKED = re.compile(r"(<!-- table: (?P<what>.+?) -->\n)(?P<table>.*?)(<!-- end -->)", re.DOTALL)

Result = TypeVar("Result")
Row = Mapping[str, Any]  # of a run's predictions.csv


def mean_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (0 for a single value)."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def percent(values: Sequence[float], places: int = 2) -> str:
    """Mean of shares in per cent, ± their standard deviation if there are several; ``-`` if there are none."""
    if not values:
        return "-"
    mean, std = mean_std(values)
    return f"{100 * mean:.{places}f} ± {100 * std:.{places}f}" if len(values) > 1 else f"{100 * mean:.{places}f}"


def interval(low: float, high: float) -> str:
    """An interval of shares, in per cent."""
    return f"({100 * low:.1f}-{100 * high:.1f})"


def share(found: int, of: int) -> str:
    """A share in per cent, with Wilson's interval."""
    return f"{100 * found / of:.1f} {interval(*wilson(found, of))}"


def accuracy(rows: Sequence[Row]) -> float:
    """Share of predictions that are right."""
    return statistics.fmean(row["predicted"] == row["digit"] for row in rows)


def write_csv(path: Path, results: Sequence[Any]) -> None:
    """One row per result; all are instances of the same dataclass."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(results[0])], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(result) for result in results)


def read_csv(path: Path, kind: type[Result]) -> list[Result]:
    """What :func:`write_csv` wrote, for a dataclass whose fields are text and numbers."""
    kinds: dict[str, Any] = {field.name: field.type for field in fields(kind)}  # type: ignore[arg-type]
    with path.open(newline="") as file:
        return [kind(**{name: kinds[name](value) for name, value in row.items()}) for row in csv.DictReader(file)]


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A markdown table; the first ``left`` columns are aligned to the left, the others to the right."""
    rule = "|" + "---|" * left + "--:|" * (len(header) - left)
    return "\n".join([_line(header), rule, *(_line(row) for row in rows)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def provenance(runs: Sequence[Mapping[str, Any]]) -> str:
    """Machine, commits and packages of some runs' metrics."""
    commits = ", ".join(sorted({str(metrics["git_commit"]) for metrics in runs}))
    packages = ", ".join(f"{name} {version}" for name, version in runs[0]["versions"].items())
    return f"Machine: {runs[0]['machine']}. Commit: {commits}. {packages}."


def write_report(path: Path, title: str, sections: Mapping[str, str], closing: str = "") -> None:
    """Write a report; if it belongs to a committed study, update the documents that quote it."""
    text = "\n\n".join(
        [f"# {title}", *(f"## {name}\n\n{body}" for name, body in sections.items()), *([closing] if closing else [])]
    )
    path.write_text(text + "\n")
    if path.resolve().is_relative_to(STUDIES):
        refresh()


def refresh(root: Path = STUDIES.parent) -> list[Path]:
    """Bring the tables between markers up to date in all documents; returns those that changed."""
    changed = []
    for path in (path for pattern in DOCUMENTS for path in sorted(root.glob(pattern))):
        before = path.read_text()
        after = MARKED.sub(lambda found: f"{found[1]}{quote(found['what'], root / 'experiments')}\n{found[4]}", before)
        if after != before:
            path.write_text(after)
            changed.append(path)
    return changed


def quote(what: str, studies: Path = STUDIES) -> str:
    """The table that a marker describes.

    Raises:
        ValueError: there is no such report, section, row or column.
    """
    report, section, *options = shlex.split(what)
    choice = dict(option.split("=", 1) for option in options)
    path = studies / report
    if not path.is_file():
        raise ValueError(f"table: {what}: there is no {path}")
    found = re.search(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", path.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line for line in (found[1].splitlines() if found else []) if line.startswith("|")]
    if not lines:
        raise ValueError(f"table: {what}: {path} has no table in a section {section}")
    header, rule, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    columns = [0, *_pick(header[1:], choice["columns"], what, 1)] if "columns" in choice else list(range(len(header)))
    kept = _pick([row[0] for row in rows], choice["rows"], what) if "rows" in choice else range(len(rows))
    chosen = [header, rule, *(rows[index] for index in kept)]
    shown = [_line([line[column] for column in columns]) for line in chosen]
    shown[1] = shown[1].replace(" ", "")
    return "\n".join(shown)


def _pick(labels: Sequence[str], beginnings: str, what: str, offset: int = 0) -> list[int]:
    """Positions of the labels that begin so, in the order of the beginnings."""
    found = []
    for beginning in beginnings.split("|"):
        matches = [index + offset for index, label in enumerate(labels) if label.strip("`*").startswith(beginning)]
        if not matches:
            raise ValueError(f"table: {what}: nothing begins with {beginning} among {', '.join(labels)}")
        found += [index for index in matches if index not in found]
    return found


if __name__ == "__main__":
    for document in refresh():
        print(f"updated: {document}")
    sys.exit(0)
