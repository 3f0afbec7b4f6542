"""The Free Spoken Digit Dataset v1.0.10: find it or download it, and check that it is what was published.

``python -m digits.fsdd [FOLDER]`` does just that and prints the folder. Exit status 1: a folder that was named is not the dataset;
3: it is nowhere and cannot be downloaded.
"""

import argparse
import errno
import hashlib
import os
import shutil
import sys
import tarfile
import tempfile
import threading
import time
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO

from digits.corpus import Corpus, cache_folder, read_folder

URL = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz"
TREE = "d04322e322a9f937f6f4f7c8546693755184df5b"  # git's id of recordings/ at that tag
N_CLIPS = 3000
EXECUTABLE_SPEAKERS = ("nicolas", "theo")  # whose files carry git's mode 100755, which is part of the tree's id

REACH_S = 20.0  # in which the first byte must arrive, over all attempts
STALL_S = 15.0  # without a byte, once the download runs
ATTEMPTS = 3
MAX_BYTES = 200_000_000  # the archive has 16 MB; a server that sends more is not ours
MAX_CLIP_BYTES = 1_000_000  # the longest clip has 37 kB
CHUNK = 1 << 16
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

WAYS_OUT = (
    "set FSDD_ROOT (or data.root) to a copy of free-spoken-digit-dataset v1.0.10, "
    "or use data=espeak (synthetic voices) or data=folder data.root=YOUR_RECORDINGS"
)


class UnreachableError(ConnectionError):
    """FSDD is neither on this machine nor can it be downloaded."""


def load(root: str | None = None) -> Corpus:
    """FSDD from ``root``, else ``$FSDD_ROOT``, else the cache folder, else downloaded into it; its content is checked.

    Raises:
        ValueError: the folder that was named is not FSDD v1.0.10.
        FileNotFoundError: the folder that was named does not exist.
        UnreachableError: it is nowhere and the download failed.
    """
    named = root or os.environ.get("FSDD_ROOT")
    if named:
        return read_verified(Path(named))
    kept = cache_folder() / "fsdd-v1.0.10"
    if kept.is_dir():
        try:
            return read_verified(kept)
        except ValueError as error:
            print(f"{error}\nDownloading it again.", file=sys.stderr)
    download(kept)
    return read_verified(kept)


def read_verified(folder: Path) -> Corpus:
    """Read ``folder`` or its subfolder ``recordings`` and compare its content with what was published."""
    folder = folder.expanduser()
    recordings = folder / "recordings"
    try:
        corpus = read_folder(recordings if recordings.is_dir() else folder, "fsdd")
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(f"{error}; {WAYS_OUT}") from error
    if (found := tree_hash(corpus)) != TREE:
        raise ValueError(
            f"{folder}: not the {N_CLIPS} recordings of FSDD v1.0.10 "
            f"({len(corpus.clips)} recordings, git tree {found[:12]} instead of {TREE[:12]}); {WAYS_OUT}"
        )
    return corpus


def tree_hash(corpus: Corpus) -> str:
    """The id that git gives to a flat folder of these clips (SHA-1, hex)."""
    entries = b"".join(
        (b"100755 " if clip.speaker in EXECUTABLE_SPEAKERS else b"100644 ") + clip.name.encode() + b"\0" + bytes.fromhex(clip.blob)
        for clip in corpus.clips
    )
    return hashlib.sha1(b"tree %d\0" % len(entries) + entries, usedforsecurity=False).hexdigest()


def download(folder: Path, url: str = URL) -> None:
    """Download the archive and put its recordings into ``folder``, which appears only when they are complete.

    Raises:
        UnreachableError: no server answered in time, or the archive came incomplete or holds something else.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fsdd-") as scratch:
        archive, recordings = Path(scratch) / "archive.tar.gz", Path(scratch) / "recordings"
        _fetch(url, archive)
        try:
            extract(archive, recordings)
            read_verified(recordings)
        except (tarfile.TarError, ValueError, OSError, EOFError) as error:
            raise UnreachableError(f"the archive from {url} is damaged or changed ({error}); {WAYS_OUT}") from error
        _install(recordings, folder)


def _install(recordings: Path, folder: Path) -> None:
    """Move into place, unless another job has been faster; a damaged folder makes way."""
    if folder.exists():
        try:
            read_verified(folder)
            return
        except ValueError:
            shutil.rmtree(folder)
    try:
        recordings.rename(folder)
    except OSError:
        read_verified(folder)


def extract(archive: Path, folder: Path) -> None:
    """Extract the regular files ``*/recordings/NAME.wav``; no member's path is ever used, only its checked last part."""
    folder.mkdir()
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = member.name.split("/")
            if not (member.isreg() and len(parts) == 3 and parts[1] == "recordings" and parts[2].endswith(".wav")):
                continue
            if member.size > MAX_CLIP_BYTES:
                raise ValueError(f"{member.name} would have {member.size} bytes")
            source = tar.extractfile(member)
            assert source is not None
            (folder / Path(parts[2]).name).write_bytes(source.read())


def _fetch(url: str, path: Path) -> None:
    deadline = time.monotonic() + REACH_S
    problem: Exception | None = None
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(max(0.0, min(2.0**attempt, deadline - time.monotonic())))
        if (remaining := deadline - time.monotonic()) <= 0:
            break
        try:
            with _open(url, remaining) as response, path.open("wb") as file:
                deadline = time.monotonic() + REACH_S  # it can be reached; a connection that breaks later gets as long again
                _copy(response, file)
            return
        except (OSError, HTTPException) as error:
            if isinstance(error, OSError) and error.errno in FULL_DISK:
                raise OSError(error.errno, f"{path.parent.parent} is full; DIGITS_CACHE names another folder") from error
            problem = error
    raise UnreachableError(f"cannot download FSDD from {url} ({problem}); {WAYS_OUT}")


def _open(url: str, timeout_s: float) -> HTTPResponse:
    """urlopen in a thread of its own: its time-out does not cover the name look-up, which can hang for minutes."""
    outcome: list[HTTPResponse | Exception] = []

    def connect() -> None:
        try:
            outcome.append(urllib.request.urlopen(url, timeout=STALL_S))  # noqa: S310 - a constant https address
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


def _copy(response: HTTPResponse, file: IO[bytes]) -> None:
    from tqdm import tqdm

    announced = int(response.headers.get("Content-Length") or 0) or None
    done = 0
    with tqdm(total=announced, unit="B", unit_scale=True, desc="FSDD v1.0.10", disable=None) as bar:
        while chunk := response.read1(CHUNK):
            done += len(chunk)
            if done > MAX_BYTES:
                raise ConnectionError(f"the server sends more than {MAX_BYTES} bytes")
            file.write(chunk)
            bar.update(len(chunk))
    if announced is not None and done < announced:
        raise ConnectionError(f"the connection ended after {done} of {announced} bytes")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m digits.fsdd", description="Find or download FSDD v1.0.10 and check it.")
    parser.add_argument("folder", nargs="?", help="a copy to check (default: $FSDD_ROOT, the cache folder, a download)")
    try:
        corpus = load(parser.parse_args(arguments).folder)
    except KeyboardInterrupt:
        return 130
    except (UnreachableError, ValueError, OSError) as error:
        print(f"digits.fsdd: {error}", file=sys.stderr)
        return 3 if isinstance(error, UnreachableError) else 1
    print(corpus.clips[0].path.parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
