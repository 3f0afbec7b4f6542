"""A table of each corpus's recordings, so that a start need not read them all again: only new and changed files are read.

It lies in the cache folder, in ``manifests``, as a CSV file for each corpus: name, digit, speaker, take, fold, size, times of
modification and git blob id of every recording. The names and blob ids are the corpus's identity.
"""

import csv
import hashlib
import io
import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from digits.corpora.corpus import Clip, cache_folder, git_blob
from digits.files import write_whole

COLUMNS = ("name", "digit", "speaker", "take", "fold", "size", "mtime_ns", "ctime_ns", "blob")
FOLDER = "manifests"
ENCODING, ERRORS = "utf-8", "surrogateescape"  # names of files need not be UTF-8


@dataclass(frozen=True)
class Label:
    """What a recording's name says of it; see :class:`digits.corpora.corpus.Clip`."""

    digit: int
    speaker: str
    take: int
    fold: int


def clips(
    folder: Path, paths: Iterable[Path], label: Callable[[str], Label | None], accepts: Callable[[str, Path], bool] | None = None
) -> list[Clip]:
    """The recordings of a corpus, sorted by name.

    Args:
        folder: of the corpus.
        paths: of the recordings, in that folder.
        label: takes a recording's name, its path relative to the folder; None leaves the file out.
        accepts: takes name and path, and says whether the content is what it should be. What it accepts it is asked about again
            only after a change.

    Raises:
        ValueError: from ``label``.
        OSError: a recording cannot be read.
    """
    table = cache_folder() / FOLDER / f"{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]}{_kind(accepts)}.csv"
    known = _read(table)
    found, rows, is_new = [], [], False
    start = len(str(folder)) + 1  # relative_to() would take longer than all the rest
    for name, path in sorted((str(path)[start:].replace(os.sep, "/"), path) for path in paths):
        labelled = label(name)
        if labelled is None:
            continue
        status = path.stat()
        stamp = tuple(map(str, (status.st_size, status.st_mtime_ns, status.st_ctime_ns)))  # the last one cannot be set
        before = known.get(name)
        if before is not None and before[:-1] == stamp:
            blob = before[-1]
        elif accepts is None or accepts(name, path):
            blob, is_new = git_blob(path.read_bytes()), True
        else:
            continue
        found.append(Clip(path, name, labelled.digit, labelled.speaker, labelled.take, blob, labelled.fold))
        rows.append((name, labelled.digit, labelled.speaker, labelled.take, labelled.fold, *stamp, blob))
    if is_new or len(found) < len(known):
        _write(table, rows)
    return found


def _kind(accepts: object) -> str:
    return "" if accepts is None else f"-{getattr(accepts, '__name__', 'some')}"


def _read(table: Path) -> dict[str, tuple[str, ...]]:
    """Name -> size, times and blob id; empty if there is no such table, or another version's."""
    try:
        with table.open(newline="", encoding=ENCODING, errors=ERRORS) as file:
            rows = csv.reader(file)
            if tuple(next(rows, ())) != COLUMNS:
                return {}
            return {row[0]: tuple(row[5:]) for row in rows if len(row) == len(COLUMNS)}
    except (OSError, ValueError, csv.Error):
        return {}


def _write(table: Path, rows: Iterable[tuple[object, ...]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    try:
        table.parent.mkdir(parents=True, exist_ok=True)
        write_whole(table, text.getvalue().encode(ENCODING, ERRORS))
    except OSError as error:  # costs time at the next start
        warnings.warn(f"{table}: not kept ({error.strerror})", stacklevel=3)
