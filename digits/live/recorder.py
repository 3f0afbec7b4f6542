"""Keeps what was heard as a corpus of recordings."""

import io
import wave
from collections.abc import Callable
from pathlib import Path

import numpy

from digits.audio import Waveform
from digits.corpora.corpus import NONE
from digits.files import write_whole
from digits.live.listener import Heard
from digits.live.segmenter import Word


class Recorder:
    """Saves accepted digits as ``FOLDER/{digit}_{speaker}_{n}.wav``, a corpus for ``data=folder``, and rejected sounds as
    ``FOLDER_rejected/none_{speaker}_{n}.wav``.

    If a recording cannot be saved, the user is told once, and recording stops.

    Args:
        folder: for the digits.
        speaker: in the names of the recordings.
        say: called with a sentence if a recording cannot be saved.

    Raises:
        ValueError: the speaker's name holds anything but letters and digits, or the folder is the root of a disk.
        OSError: the folder cannot be made.
    """

    def __init__(self, folder: str | Path, speaker: str, say: Callable[[str], None]) -> None:
        if not speaker.isalnum():
            raise ValueError(f"speaker must consist of letters and digits, got {speaker}")
        self.folder, self.speaker, self.say = Path(folder).expanduser(), speaker, say
        whole = self.folder.resolve()
        if not whole.name:
            raise ValueError(f"record must be a folder with a name, got {folder}")
        self.rejected = whole.with_name(f"{whole.name}_rejected")
        self.broken = False
        _make(self.folder)
        self._taken = 1 + max((int(path.stem.split("_")[-1]) for path in self._saved()), default=-1)

    def _saved(self) -> list[Path]:
        return [
            path
            for folder in (self.folder, self.rejected)
            for path in folder.glob(f"*_{self.speaker}_*.wav")
            if path.stem.split("_")[-1].isdecimal()
        ]

    def __call__(self, word: Word, heard: Heard) -> None:
        """Save a sound under the recogniser's answer."""
        self.save(word, str(heard.digit) if heard.accepted else NONE)

    def save(self, word: Word, label: str) -> None:
        """Save a sound as a digit, ``0`` to ``9``, or as :data:`~digits.corpora.corpus.NONE`."""
        folder = self.rejected if label == NONE else self.folder
        path = folder / f"{label}_{self.speaker}_{self._taken}.wav"
        if self.broken:
            return
        try:
            _make(folder)
            write_whole(
                path, wav(word.waveform, word.sample_rate)
            )  # a file that a full disk cut short would later be taken for a recording
        except OSError as error:
            self.broken = True
            self.say(f"{path} cannot be saved ({error.strerror or error}): recording has stopped, listening goes on")
        self._taken += 1


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(f"{folder} is not a folder") from error
    except OSError as error:
        raise OSError(f"{folder} cannot be made: {error.strerror}") from error


def wav(waveform: Waveform, sample_rate: int) -> bytes:
    """The content of a 16-bit wav file; what was 16-bit before keeps every bit."""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(numpy.clip(waveform * 32768, -32768, 32767).round().astype("<i2").tobytes())
    return content.getvalue()
