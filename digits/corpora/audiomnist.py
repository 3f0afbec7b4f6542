"""AudioMNIST (arXiv 1807.03418, MIT): 60 speakers, 12 of them women, say each digit 50 times; 48 kHz, very quiet."""

import os
import re
from pathlib import Path

from digits import audio
from digits.corpora import manifest
from digits.corpora.corpus import N_FOLDS, Corpus, cache_folder
from digits.corpora.manifest import Label

NAME = re.compile(r"(?P<speaker>[0-9]{2})/(?P<digit>[0-9])_(?P=speaker)_(?P<take>[0-9]+)\.wav")
WHERE = "download https://github.com/soerenab/AudioMNIST and set AUDIOMNIST_ROOT (or data.root) to it"


def load(root: str | None = None) -> Corpus:
    """AudioMNIST from ``root``, else ``$AUDIOMNIST_ROOT``, else the folder ``audiomnist`` in the cache.

    The repository's archive is not pinned, so it is not downloaded. Each fold holds six speakers.

    Args:
        root: the repository, its folder ``data``, or another folder with one folder per speaker.

    Raises:
        ValueError: the folder holds no such recordings.
        FileNotFoundError: there is no such folder.
    """
    named = root or os.environ.get("AUDIOMNIST_ROOT")
    folder = Path(named).expanduser() if named else cache_folder() / "audiomnist"
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; {WHERE}" if named else f"AudioMNIST is not on this machine: {WHERE}")
    data = folder / "data" if (folder / "data").is_dir() else folder
    clips = manifest.clips(data, audio.find_files(data, (".wav",)), _label)
    if not clips:
        raise ValueError(f"{folder}: no recordings of AudioMNIST, named like 01/7_01_0.wav; {WHERE}")
    return Corpus("audiomnist", clips)


def _label(name: str) -> Label | None:
    match = NAME.fullmatch(name)
    if match is None:
        return None
    return Label(int(match["digit"]), match["speaker"], int(match["take"]), fold=(int(match["speaker"]) - 1) % N_FOLDS)
