"""Log-mels of recordings: computed once, kept on disk, and mapped into memory from there.

They lie in files of :data:`CHUNK` clips, which as many processes compute as torch has threads. What an interrupted run has finished
is not computed again.
"""

import contextlib
import io
import logging
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from digits.corpora.corpus import cache_folder
from digits.files import write_whole
from digits.training.render import Render

log = logging.getLogger(__name__)

CHUNK = 2048  # clips in a file
CRC_BYTES = 4  # after the array in a file
EFFECTS_COST = 10  # times as much computing as a clip without effects, roughly
MIN_PARALLEL = 20_000  # clips without effects, or what costs as much: processes take seconds to start


class LogMels:
    """Log-mels that lie on disk until they are asked for, in the order in which they are wanted.

    Args:
        chunks: shape (clips, 1, n_mels, frames) each.
        order: positions in the concatenation of all chunks, int64; None stands for all of them.
    """

    def __init__(self, chunks: Sequence[Tensor], order: Tensor | None = None) -> None:
        self.chunks = list(chunks)
        self.ends = torch.tensor([len(chunk) for chunk in self.chunks], dtype=torch.int64).cumsum(0)
        self.order = torch.arange(sum(map(len, self.chunks))) if order is None else order

    def __len__(self) -> int:
        return len(self.order)

    @property
    def shape(self) -> torch.Size:
        """Of one clip's."""
        return self.chunks[0].shape[1:]

    def __getitem__(self, positions: Sequence[int] | Tensor) -> Tensor:
        """A copy of the log-mels at these positions, shape (positions, 1, n_mels, frames)."""
        wanted = self.order[torch.as_tensor(positions, dtype=torch.int64)]
        chunk_of = torch.searchsorted(self.ends, wanted, right=True)
        found = torch.empty((len(wanted), *self.shape))
        for number in torch.unique(chunk_of).tolist():
            here, chunk = chunk_of == number, self.chunks[number]
            found[here] = chunk[wanted[here] - (self.ends[number] - len(chunk))]
        return found

    def select(self, positions: Sequence[int] | Tensor) -> "LogMels":
        """Those at these positions, without copying them."""
        return LogMels(self.chunks, self.order[torch.as_tensor(positions, dtype=torch.int64)])

    def all(self) -> Tensor:
        """A copy of all of them."""
        return self[torch.arange(len(self))]


def concatenate(parts: Sequence[LogMels]) -> LogMels:
    """One after the other, without copying them."""
    starts = torch.tensor([0, *(sum(map(len, part.chunks)) for part in parts)]).cumsum(0)
    order = torch.cat([part.order + start for part, start in zip(parts, starts[:-1], strict=True)])
    return LogMels([chunk for part in parts for chunk in part.chunks], order)


def log_mels(renders: Sequence[Render]) -> list[LogMels]:
    """Log-mels from the cache, after computing those that it lacks.

    Raises:
        ValueError: as :meth:`digits.training.render.Render.compute`.
    """
    _allow_open_files()
    folder = cache_folder() / "log_mels"
    divided = [[] if render.reads_files else render.divided(CHUNK) for render in renders]
    paths = [[folder / f"{chunk.key}.npy" for chunk in chunks] for chunks in divided]
    wanted = {path: chunk for row in zip(paths, divided, strict=True) for path, chunk in zip(*row, strict=True)}
    found = _opened(wanted)
    if len(found) < len(wanted):
        found |= _computed({path: chunk for path, chunk in wanted.items() if path not in found})
    return [
        LogMels([found[path] for path in own] if own else [part.compute() for part in render.divided(CHUNK)])
        for own, render in zip(paths, renders, strict=True)
    ]


def _allow_open_files() -> None:
    """As many as the system grants: each mapped file counts as open."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has no such limit
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _computed(missing: dict[Path, Render]) -> dict[Path, Tensor]:
    """Compute what the cache lacks and another run is not computing already."""
    from tqdm import tqdm

    with _alone():
        found = _opened(missing)
        left = {path: chunk for path, chunk in missing.items() if path not in found}
        n_clips = sum(len(chunk.clips) for chunk in left.values())
        with tqdm(total=n_clips, unit="clip", desc="log-mels", disable=None, leave=False) as bar:
            for path, tensor in _results(left):
                found[path] = tensor
                bar.update(len(tensor))
        return found


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """No other process computes log-mels meanwhile."""
    from filelock import FileLock, Timeout

    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        lock = FileLock(cache_folder() / ".log_mels.lock")
        try:
            lock.acquire(timeout=1)
        except Timeout:
            log.info("  waiting for another run, which computes log-mels")
            lock.acquire()
    except OSError:  # nothing can be kept there, as each file will say
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _results(left: dict[Path, Render]) -> Iterator[tuple[Path, Tensor]]:
    from joblib import Parallel, delayed, parallel_config

    cost = sum(len(chunk.clips) * (EFFECTS_COST if chunk.effects else 1) for chunk in left.values())
    n_processes = max(1, min(torch.get_num_threads(), len(left))) if cost >= MIN_PARALLEL else 1
    with parallel_config("loky", n_jobs=n_processes, inner_max_num_threads=1):  # with one process, joblib stays in this one
        arrays = Parallel(return_as="generator")(delayed(_compute)(path, chunk) for path, chunk in left.items())
        try:
            for path, array in zip(left, arrays, strict=True):
                yield path, _mapped(path, array)
        except BrokenProcessPool as error:
            raise ValueError(
                "a process that computes log-mels was killed, perhaps because memory ran out; the same command goes on from there"
            ) from error


def _compute(path: Path, chunk: Render) -> NDArray[Any] | None:
    """Compute a file of the cache; returns its array only if it could not be written."""
    array = chunk.compute().numpy()
    payload = io.BytesIO()
    numpy.save(payload, array)
    payload.write(zlib.crc32(payload.getbuffer()).to_bytes(CRC_BYTES, "little"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, payload.getvalue())
    except OSError as error:  # a full disk costs time in the next run, but not this run
        warnings.warn(f"{path}: log-mels not kept ({error.strerror})", stacklevel=2)
        return array
    return None


def _mapped(path: Path, array: NDArray[Any] | None) -> Tensor:
    """What was just computed: mapped from its file, which leaves the memory to the operating system, or the array itself."""
    tensor = _open(path) if array is None else None
    return torch.from_numpy(numpy.load(path) if array is None else array) if tensor is None else tensor


def _opened(paths: Iterable[Path]) -> dict[Path, Tensor]:
    return {path: tensor for path in paths if (tensor := _open(path)) is not None}


def _open(path: Path) -> Tensor | None:
    """A file's array, mapped into memory; None if there is no such file, or if its checksum says that it is damaged."""
    try:
        content = numpy.memmap(path, mode="c").data
        if zlib.crc32(content[:-CRC_BYTES]) == int.from_bytes(content[-CRC_BYTES:], "little"):
            return torch.from_numpy(numpy.load(path, mmap_mode="c", allow_pickle=False))
    except (FileNotFoundError, PermissionError):  # the latter: another user's, in a shared cache
        return None
    except ValueError:  # an empty file
        pass
    warnings.warn(f"{path}: damaged, computed again", stacklevel=4)
    return None
