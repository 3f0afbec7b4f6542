"""Google Speech Commands v0.02 (arXiv 1804.03209, CC BY 4.0): single words by 2,600 people at their own microphones.

The ten digits are digits; the 25 other words, from "backward" to "yes", are other sounds. A recording is named
``WORD/SPEAKER_nohash_TAKE.wav``. ``speech_commands_subset`` holds only the recordings on a list beside this module, so that
``experiment=public`` is trained and validated on the same ones everywhere.
"""

import csv
import hashlib
import os
import re
import warnings
from functools import partial
from pathlib import Path

import soundfile

from digits import audio
from digits.corpora import manifest
from digits.corpora.corpus import N_FOLDS, NO_DIGIT, WORDS, Clip, Corpus, cache_folder
from digits.corpora.download import Archive, download
from digits.corpora.manifest import Label

NAME = re.compile(r"(?P<word>[a-z]+)/(?P<speaker>[0-9a-f]{8})_nohash_(?P<take>[0-9]+)")
SUFFIXES = (".wav", ".flac")
SUBSET = Path(__file__).parent / "speech_commands_subset.csv"
SHARE_RESOLUTION = 2**27 - 1  # of the data set's own assignment, from its README
ARCHIVE = Archive(
    label="Speech Commands v0.02",
    url="http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
    recordings=re.compile(rf"(?:\./)?({NAME.pattern}\.wav)"),
    max_bytes=2_428_923_189,
    ways_out="set SPEECH_COMMANDS_ROOT (or data.root) to a copy of it",
    sha256="af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
)


def load(root: str | None = None, subset: bool = False) -> Corpus:
    """Speech Commands from ``root``, else ``$SPEECH_COMMANDS_ROOT``, else the cache folder, else downloaded into it (2.4 GB).

    No speaker is in two folds. Folds 0 and 1 are the data set's own testing and validation lists, which ``data.split=official``
    uses; in the subset, much of which comes from the testing list, all folds are by speaker alone.

    Args:
        root: a folder with one folder per word, of wav or flac files.
        subset: only the recordings on the list. Those that are missing or differ are counted in a warning.

    Raises:
        ValueError: the folder holds no such recordings.
        FileNotFoundError: the folder that was named does not exist.
        UnreachableError: the data set is not on this machine and the download failed.
    """
    named = root or os.environ.get("SPEECH_COMMANDS_ROOT")
    folder = Path(named).expanduser() if named else cache_folder() / "speech-commands-v0.02"
    if not named and not folder.is_dir():
        download(ARCHIVE, folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; it should be a copy of {ARCHIVE.label}")
    clips = _listed(folder) if subset else _all(folder)
    if not clips:
        raise ValueError(f"{folder}: no recordings of {ARCHIVE.label}, named like seven/0a7c2a8d_nohash_0.wav; {ARCHIVE.ways_out}")
    return Corpus("speech_commands_subset" if subset else "speech_commands", clips)


def _all(folder: Path) -> list[Clip]:
    return manifest.clips(folder, audio.find_files(folder, SUFFIXES), partial(_label, True))


def _listed(folder: Path) -> list[Clip]:
    with SUBSET.open(newline="") as file:
        wanted = {row["name"]: row["sha256"] for row in csv.DictReader(file)}
    paths = [path for name in wanted for suffix in SUFFIXES if (path := folder / f"{name}{suffix}").is_file()]

    def listed(name: str, path: Path) -> bool:
        return sample_hash(path) == wanted[name.removesuffix(path.suffix)]

    clips = manifest.clips(folder, paths, partial(_label, False), listed)
    if clips and len(clips) < len(wanted):
        warnings.warn(f"{folder}: {len(wanted) - len(clips)} of the {len(wanted)} listed recordings are missing", stacklevel=2)
    return clips


def sample_hash(path: Path) -> str:
    """The beginning (16 hex digits) of the SHA-256 of a recording's 16-bit samples, which are the same in wav and flac."""
    samples, _ = soundfile.read(path, dtype="int16")
    return hashlib.sha256(samples.tobytes()).hexdigest()[:16]


def _label(official: bool, name: str) -> Label | None:
    match = NAME.fullmatch(name.rpartition(".")[0])
    if match is None:  # _background_noise_
        return None
    digit = WORDS.index(match["word"]) if match["word"] in WORDS else NO_DIGIT
    return Label(digit, match["speaker"], int(match["take"]), _fold(match["speaker"], official))


def _fold(speaker: str, official: bool) -> int:
    """By the hash that defines the data set's own lists (its README): the first 10 % validate, the next 10 % test."""
    hashed = int(hashlib.sha1(speaker.encode(), usedforsecurity=False).hexdigest(), 16)
    percentage = hashed % (SHARE_RESOLUTION + 1) * 100 / SHARE_RESOLUTION
    rest = hashed // (SHARE_RESOLUTION + 1)
    if not official:
        return rest % N_FOLDS
    if percentage < 20:
        return int(percentage < 10)
    return 2 + rest % (N_FOLDS - 2)
