"""Looking at a path without an error, and writing a file as a whole or not at all."""

import contextlib
import os
from pathlib import Path


def mode(path: str | Path) -> int:
    """What :mod:`stat` tells a file, a folder and a device by; 0 for what cannot be looked at, such as a name that is too long."""
    with contextlib.suppress(OSError):
        return os.stat(path).st_mode  # noqa: PTH116  # for a hundred thousand files, making paths of them takes longer
    return 0


def write_whole(path: Path, content: bytes) -> None:
    """Write under another name in the same folder and rename.

    A full disk leaves no half of a file, nor costs an older one of that name, and other processes see all of it or nothing.

    Raises:
        OSError: it cannot be written; the message names it.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
