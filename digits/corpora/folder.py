"""Folders of recordings named ``{digit}_{speaker}_{n}.wav|flac|ogg|mp3``, your own among them."""

import os
import re
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from digits import audio
from digits.corpora import manifest
from digits.corpora.corpus import NO_DIGIT, NONE, TAKES_PER_FOLD, Clip, Corpus
from digits.corpora.manifest import Label

FILE_NAME = re.compile(rf"(?P<digit>[0-9]|{NONE})_(?P<speaker>.+)_(?P<take>[0-9]+)", re.ASCII)


def load(root: str | None) -> Corpus:
    """The recordings in ``root`` and its subfolders.

    Raises:
        ValueError: no folder was named, or it holds no recordings or one whose name cannot be parsed.
        FileNotFoundError: there is no such folder.
    """
    if root is None:
        raise ValueError("data=folder needs data.root=FOLDER, the folder with your recordings")
    return read_folder(root, f"folder-{Path(root).resolve().name}")


def read_folder(root: str | Path, name: str, others: bool = False) -> Corpus:
    """List the recordings ``{digit}_{speaker}_{n}.wav|flac|ogg|mp3`` in a folder and its subfolders.

    Args:
        root: the folder.
        name: of the corpus.
        others: also accept recordings of other sounds, ``none_{speaker}_{n}``.

    Raises:
        ValueError: the folder holds no recordings, or one whose name cannot be parsed.
        FileNotFoundError: there is no such folder.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder")
    found = audio.find_files(root, audio.FILE_SUFFIXES + audio.UNREADABLE_SUFFIXES)
    unreadable = [path for path in found if path.name.lower().endswith(audio.UNREADABLE_SUFFIXES)]
    readable = sorted({*found} - {*unreadable}) if unreadable else found
    clips = manifest.clips(root, readable, partial(_label, root, others))
    left_out = _left_out(unreadable, clips)
    if not clips:
        suffixes = ", ".join(audio.FILE_SUFFIXES)
        raise ValueError(
            f"{root}: no recordings named like 7_george_0.wav ({suffixes}) in this folder{left_out and f'; {left_out}'}"
        )
    if left_out:
        warnings.warn(f"{root}: {left_out}", stacklevel=2)
    return Corpus(name, clips)


def _left_out(unreadable: Sequence[Path], clips: Sequence[Clip]) -> str:
    """A sentence on recordings in formats that cannot be read and without a converted copy beside them; empty if there are none."""
    read = {clip.path.with_suffix("") for clip in clips} if unreadable else set()
    paths = [path for path in unreadable if path.with_suffix("") not in read]
    if not paths:
        return ""
    more = f" and {len(paths) - 1} more" if paths[1:] else ""
    return f"left out {paths[0].name}{more}, whose format cannot be read; {audio.how_to_convert(paths[0])}"


def parse_name(path: Path | str, others: bool = False) -> tuple[int, str, int]:
    """Digit, speaker and take in the name of a recording, ``{digit}_{speaker}_{n}``.

    Args:
        path: of the recording, which is not read.
        others: also accept names of other sounds, ``none_{speaker}_{n}``, whose digit is :data:`NO_DIGIT`.

    Raises:
        ValueError: it has another name.
    """
    name = str(path).replace(os.sep, "/").rpartition("/")[2]
    match = FILE_NAME.fullmatch(name.rpartition(".")[0] or name)
    if match is None or (match["digit"] == NONE and not others):
        raise ValueError(f"{path}: a recording must be named {{digit}}_{{speaker}}_{{n}}, like 7_george_0.wav")
    return NO_DIGIT if match["digit"] == NONE else int(match["digit"]), match["speaker"], int(match["take"])


def _label(root: Path, others: bool, name: str) -> Label:
    digit, speaker, take = parse_name(f"{root}/{name}", others)
    return Label(digit, speaker, take, fold=take // TAKES_PER_FOLD)
