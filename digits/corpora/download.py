"""Downloads a published archive of recordings: resumable, with progress, verified by content, and all or nothing."""

import errno
import hashlib
import re
import shutil
import tarfile
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError

from digits.corpora.corpus import git_blob

REACH_S = 20.0  # the first byte must arrive within this time, over all attempts
STALL_S = 15.0  # longest silence of a download that is under way
ATTEMPTS = 3
MAX_FILE_BYTES = 100_000_000  # of one recording
CHUNK = 1 << 16
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UnreachableError(ConnectionError):
    """A corpus is not on this machine and cannot be downloaded."""


@dataclass(frozen=True)
class Archive:
    """A published .tar.gz file with recordings.

    Args:
        label: the corpus's name and version, for progress and messages.
        url: of the archive.
        recordings: full name of a recording in the archive; its group 1 is the path where it is put.
        max_bytes: of the archive; a server that sends more does not send this.
        ways_out: what a user can do without it, for messages.
        sha256: of the archive, if its bytes are promised to stay the same.
        tree: otherwise git's id of the folder of its recordings (SHA-1, hex): archives are packed anew now and then, their content
            stays.
        is_executable: whether a file of that name has git's mode 100755, which is part of ``tree``.
    """

    label: str
    url: str
    recordings: re.Pattern[str]
    max_bytes: int
    ways_out: str
    sha256: str = ""
    tree: str = ""
    is_executable: Callable[[str], bool] = lambda name: False

    def check(self, blobs: Iterable[tuple[str, str]], where: Path) -> None:
        """Compare files, as pairs of name and git blob id, with ``tree``; without it, there is nothing to compare.

        Raises:
            ValueError: they differ.
        """
        if not self.tree:
            return
        files = dict(blobs)
        if (found := self.tree_hash(files)) != self.tree:
            raise ValueError(
                f"{where}: not the recordings of {self.label} "
                f"({len(files)} recordings, git tree {found[:12]} instead of {self.tree[:12]}); {self.ways_out}"
            )

    def tree_hash(self, blobs: dict[str, str]) -> str:
        """The id that git gives to a flat folder of these files, name -> blob id (SHA-1, hex)."""
        entries = b"".join(
            (b"100755 " if self.is_executable(name) else b"100644 ") + name.encode() + b"\0" + bytes.fromhex(blob)
            for name, blob in sorted(blobs.items())
        )
        return hashlib.sha1(b"tree %d\0" % len(entries) + entries, usedforsecurity=False).hexdigest()


def download(archive: Archive, folder: Path) -> None:
    """Download an archive and put its recordings into ``folder``, which appears only when they are complete and verified.

    The next call continues an interrupted download. If several processes call it at once, one downloads and the others wait.

    Raises:
        UnreachableError: no server answered in time, or the archive came incomplete or holds something else.
        OSError: the disk is full or cannot be written.
    """
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    part, lock = (folder.with_name(f".{folder.name}.{suffix}") for suffix in ("part", "lock"))
    with FileLock(lock):
        if not (folder.is_dir() and _is_good(archive, folder)):  # no other process was faster
            _fetch(archive, part)
            _install(archive, part, folder)
        lock.unlink(missing_ok=True)  # whoever still waits for it finds the folder


def _install(archive: Archive, part: Path, folder: Path) -> None:
    """Extract what was downloaded, verify it, and put it into place."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        recordings = Path(scratch) / "recordings"
        try:
            if archive.sha256:
                _check_sha256(part, archive.sha256)
            extract(part, archive.recordings, recordings)
            archive.check(_blobs(recordings), recordings)
        except (tarfile.TarError, ValueError, OSError, EOFError) as error:
            if isinstance(error, OSError) and error.errno in FULL_DISK:
                raise _full(error, folder.parent) from error
            part.unlink(missing_ok=True)
            raise UnreachableError(
                f"the archive from {archive.url} is damaged or has changed ({error}); {archive.ways_out}"
            ) from error
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one
        recordings.rename(folder)
    part.unlink()


def _check_sha256(path: Path, sha256: str) -> None:
    with path.open("rb") as file:
        if (found := hashlib.file_digest(file, "sha256").hexdigest()) != sha256:
            raise ValueError(f"SHA-256 {found[:12]} instead of {sha256[:12]}")


def _full(error: OSError, folder: Path) -> OSError:
    return OSError(error.errno, f"{folder} is full; DIGITS_CACHE names another folder")


def _is_good(archive: Archive, folder: Path) -> bool:
    try:
        archive.check(_blobs(folder), folder)
    except (ValueError, OSError):
        return False
    return True


def _blobs(folder: Path) -> Iterable[tuple[str, str]]:
    return ((path.name, git_blob(path.read_bytes())) for path in folder.iterdir())


def extract(archive: Path, recordings: re.Pattern[str], folder: Path) -> None:
    """Extract the regular files whose names match, to the path in group 1; the pattern must not let it lead out of the folder."""
    folder.mkdir()
    with tarfile.open(archive) as tar:
        for member in tar:
            match = recordings.fullmatch(member.name)
            if not member.isreg() or match is None:
                continue
            if member.size > MAX_FILE_BYTES:
                raise ValueError(f"{member.name} would have {member.size} bytes")
            source = tar.extractfile(member)
            assert source is not None
            path = folder / match[1]
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(source.read())


def _fetch(archive: Archive, path: Path) -> None:
    """Download to ``path``, continuing what is there; several attempts."""
    deadline = time.monotonic() + REACH_S
    problem: Exception | None = None
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(max(0.0, min(2.0**attempt, deadline - time.monotonic())))
        if (remaining := deadline - time.monotonic()) <= 0:
            break
        try:
            with _open(archive.url, remaining, path.stat().st_size if path.exists() else 0) as response:
                deadline = time.monotonic() + REACH_S  # it can be reached; a connection that breaks later gets as long again
                _copy(response, path, archive)
            return
        except (OSError, HTTPException) as error:
            if isinstance(error, HTTPError) and error.code == 416:  # the partial file is not a prefix of the server's
                path.unlink(missing_ok=True)
            elif isinstance(error, OSError) and error.errno in FULL_DISK:
                raise _full(error, path.parent) from error
            problem = error
    raise UnreachableError(f"cannot download {archive.label} from {archive.url} ({problem}); {archive.ways_out}")


def _open(url: str, timeout_s: float, offset: int) -> HTTPResponse:
    """urlopen in a thread of its own, because its time-out does not cover the name look-up, which can hang for minutes."""
    outcome: list[HTTPResponse | Exception] = []
    request = urllib.request.Request(url, headers={"Range": f"bytes={offset}-"} if offset else {})  # noqa: S310

    def connect() -> None:
        try:
            outcome.append(urllib.request.urlopen(request, timeout=STALL_S))  # noqa: S310 - a constant address
        except Exception as error:  # whatever it is, the waiting side raises it
            outcome.append(error)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if not outcome:
        raise TimeoutError(f"no answer within {REACH_S:.0f} s")
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def _copy(response: HTTPResponse, path: Path, archive: Archive) -> None:
    from tqdm import tqdm

    continues = response.status == 206
    done = path.stat().st_size if continues else 0
    announced = int(response.headers.get("Content-Length") or 0)
    total = done + announced if announced else None
    with (
        path.open("ab" if continues else "wb") as file,
        tqdm(initial=done, total=total, unit="B", unit_scale=True, desc=archive.label, disable=None) as bar,
    ):
        while chunk := response.read1(CHUNK):
            done += len(chunk)
            if done > archive.max_bytes:
                raise ConnectionError(f"the server sends more than {archive.max_bytes:,} bytes")
            file.write(chunk)
            bar.update(len(chunk))
    if total is not None and done < total:
        raise ConnectionError(f"the connection ended after {done} of {total} bytes")
