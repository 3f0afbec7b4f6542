import statistics
from pathlib import Path

import pytest
from scipy.stats import binomtest

from digits.recognition.score import wilson
from experiments import tables

REPORT = """# Title

## Summary

| per cent | `one` | `two` |
|---|--:|--:|
| quiet | 1 | 2 |
| noise 10 dB | 3 | 4 |
| noise 5 dB | 5 | 6 |

Some text.

## Other

| a |
|---|
| b |
"""


@pytest.mark.parametrize(("correct", "total"), [(0, 10), (10, 10), (299, 300), (150, 300), (1, 3000)])
def test_wilson_is_scipy_s(correct: int, total: int) -> None:
    reference = binomtest(correct, total).proportion_ci(method="wilson")
    assert wilson(correct, total) == pytest.approx((reference.low, reference.high), abs=1e-6)


def test_percent_is_mean_and_sample_deviation() -> None:
    values = [0.5, 0.75, 1.0]
    assert tables.percent(values) == f"75.00 ± {100 * statistics.stdev(values):.2f}"
    assert tables.percent([0.123], 1) == "12.3"
    assert tables.percent([]) == "-"


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    (tmp_path / "experiments" / "study").mkdir(parents=True)
    (tmp_path / "experiments" / "study" / "report.md").write_text(REPORT)
    return tmp_path / "experiments"


def test_rows_and_columns_are_picked_by_their_beginnings(studies: Path) -> None:
    picked = tables.quote('study/report.md "Summary" rows="noise|quiet" columns="two"', studies)
    assert picked.splitlines() == [
        "| per cent | `two` |",
        "|---|--:|",
        "| noise 10 dB | 4 |",
        "| noise 5 dB | 6 |",
        "| quiet | 2 |",
    ]
    assert tables.quote('study/report.md "Summary"', studies).splitlines() == REPORT.splitlines()[4:9]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("none/report.md Summary", "there is no .*none/report.md"),
        ("study/report.md Missing", "no table in a section Missing"),
        ("study/report.md Summary rows=speech", "nothing begins with speech among quiet, noise 10 dB"),
        ("study/report.md Summary columns=three", "nothing begins with three"),
    ],
)
def test_a_marker_that_leads_nowhere_is_named(studies: Path, what: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tables.quote(what, studies)


def test_documents_are_brought_up_to_date_once(studies: Path) -> None:
    document = studies.parent / "README.md"
    document.write_text('before\n<!-- table: study/report.md "Other" -->\nstale\n<!-- end -->\nafter\n')
    assert tables.refresh(studies.parent) == [document]
    assert document.read_text().splitlines() == [
        "before",
        '<!-- table: study/report.md "Other" -->',
        "| a |",
        "|---|",
        "| b |",
        "<!-- end -->",
        "after",
    ]
    assert tables.refresh(studies.parent) == []


def test_no_committed_table_is_stale() -> None:
    root = tables.STUDIES.parent
    quoted = 0
    for path in (path for pattern in tables.DOCUMENTS for path in root.glob(pattern)):
        for found in tables.MARKED.finditer(path.read_text()):
            assert found["table"].strip() == tables.quote(found["what"]), f"{path}: run python -m experiments.tables"
            quoted += 1
    assert quoted > 10
