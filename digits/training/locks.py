"""One process per run folder and per sweep folder: two would overwrite each other's checkpoints."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

LOCK = ".lock"


class BusyError(ValueError):
    """Another process works in this folder."""


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; the lock ends with the process, however it ends.

    Raises:
        BusyError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    held = FileLock(folder / LOCK)
    try:
        held.acquire(timeout=0)
    except Timeout:
        raise BusyError(f"{folder}: another process is at work in this folder; wait for it, or choose another folder") from None
    try:
        yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        held.release()


class SweepLock(Callback):
    """A Hydra callback that refuses a second sweep in the same folder."""

    def __init__(self) -> None:
        self._held = contextlib.ExitStack()

    def __getstate__(self) -> dict[str, Any]:
        return {"_held": contextlib.ExitStack()}  # a launcher sends callbacks to other processes, which do not hold the folder

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            self._held.enter_context(lock(Path(config.hydra.sweep.dir)))
        except BusyError as error:
            sys.exit(f"digits train: {error}")  # Hydra turns what a callback raises into a warning, but for this

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        self._held.close()
