"""Damage to audio files that libsndfile does not report: truncated files, and what the mp3 decoder only prints on stderr."""

import contextlib
import io
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

MAX_OGG_PAGE = 27 + 255 + 255 * 255  # bytes
_ONE_AT_A_TIME = threading.RLock()  # standard error is redirected by one thread at a time


def is_cut_off(log: str) -> bool:
    """Whether libsndfile had to shorten the data chunk, unless the header only says that the length was unknown."""
    match = re.search(r"^data : (\d+) \(should be (\d+)\)", log, re.MULTILINE)
    if match is None:
        return False
    claimed, found = int(match[1]), int(match[2])
    return found < claimed < 0x7FFF_0000  # programs that write to a pipe put 0x7FFF.... or 0xFFFF.... in the header


def lacks_its_end(format_: str, path: Path, content: bytes | None) -> bool:
    """Whether a file is shorter than its header says, in the formats for which libsndfile does not check this.

    Raises:
        ValueError: an Ogg file of several recordings, of which libsndfile would read the first.
    """
    if format_ not in ("OGG", "AIFF", "AU", "W64"):
        return False
    with path.open("rb") if content is None else io.BytesIO(content) as file:
        head, length = file.read(24), file.seek(0, os.SEEK_END)
        file.seek(max(0, length - MAX_OGG_PAGE))
        tail = file.read()
    if format_ == "AIFF":
        return int.from_bytes(head[4:8], "big") + 8 > length
    if format_ == "AU":
        offset, size = int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:12], "big")
        return size != 0xFFFFFFFF and offset + size > length  # the former says that the length was unknown
    if format_ == "W64":
        return int.from_bytes(head[16:24], "little") > length
    page = tail[tail.rfind(b"OggS") :]  # RFC 3533
    if len(page) < 27:
        return True
    if page[14:18] != head[14:18]:
        raise ValueError("holds several recordings, one after another")
    is_last, n_segments = page[5] & 4, page[26]
    return not is_last or len(page) < 27 + n_segments + sum(page[27 : 27 + n_segments])


@contextlib.contextmanager
def without_notes() -> Iterator[None]:
    """Keep what libmpg123 prints about damaged files off standard error, and raise a ValueError for its errors."""
    with _ONE_AT_A_TIME, contextlib.ExitStack() as stack:
        try:
            notes, kept = stack.enter_context(tempfile.TemporaryFile()), os.dup(2)
        except OSError:  # standard error is closed, or there is no place for files
            yield
            return
        os.dup2(notes.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        notes.seek(0)
        if b"error:" in notes.read():
            raise ValueError("the file is damaged: its decoder reports errors")
