"""The Free Spoken Digit Dataset v1.0.10: finds it or downloads it, and checks that it is what was published.

``python -m digits.corpora.fsdd [FOLDER]`` does just that and prints the folder. Exit status 1: the folder that was named is not the
dataset; 3: the dataset is not on this machine and cannot be downloaded.
"""

import argparse
import os
import re
import sys
from pathlib import Path

from digits import cli
from digits.corpora.corpus import Corpus, cache_folder
from digits.corpora.download import Archive, UnreachableError, download
from digits.corpora.folder import read_folder

EXECUTABLE_SPEAKERS = ("nicolas", "theo")  # their files happen to be marked as executable in the repository
ARCHIVE = Archive(
    label="FSDD v1.0.10",
    url="https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz",
    recordings=re.compile(r"[^/]+/recordings/([^/]+\.wav)"),
    max_bytes=200_000_000,  # it has 16 MB
    tree="d04322e322a9f937f6f4f7c8546693755184df5b",
    ways_out="set FSDD_ROOT (or data.root) to a copy of free-spoken-digit-dataset v1.0.10, "
    "or use data=espeak (synthetic voices) or data=folder data.root=YOUR_RECORDINGS",
    is_executable=lambda name: name.split("_")[1] in EXECUTABLE_SPEAKERS,
)


def load(root: str | None = None) -> Corpus:
    """FSDD from ``root``, else ``$FSDD_ROOT``, else the cache folder, else downloaded into it; its content is verified.

    Raises:
        ValueError: the folder that was named is not FSDD v1.0.10.
        FileNotFoundError: the folder that was named does not exist.
        UnreachableError: the dataset is not on this machine and the download failed.
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
    download(ARCHIVE, kept)
    return read_verified(kept)


def read_verified(folder: Path) -> Corpus:
    """Read ``folder``, or its subfolder ``recordings``, and compare its content with what was published."""
    folder = folder.expanduser()
    recordings = folder / "recordings"
    try:
        corpus = read_folder(recordings if recordings.is_dir() else folder, "fsdd")
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(f"{error}; {ARCHIVE.ways_out}") from error
    ARCHIVE.check(((clip.name, clip.blob) for clip in corpus.clips), folder)
    return corpus


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m digits.corpora.fsdd", description="Find or download FSDD v1.0.10 and verify it."
    )
    parser.add_argument("folder", nargs="?", help="a copy to check (default: $FSDD_ROOT, the cache folder, a download)")
    try:
        corpus = load(parser.parse_args(arguments).folder)
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as error:
        print(f"digits.corpora.fsdd: {cli.not_installed(error, 'train')}", file=sys.stderr)
        return 1
    except (UnreachableError, ValueError, OSError) as error:
        print(f"digits.corpora.fsdd: {error}", file=sys.stderr)
        return 3 if isinstance(error, UnreachableError) else 1
    print(corpus.clips[0].path.parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
