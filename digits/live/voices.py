"""The voices that people have taught: one folder of recordings each, and beside it what was fitted to them."""

import contextlib
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
from numpy.typing import NDArray

from digits import audio
from digits.corpora.folder import parse_name
from digits.live.recorder import rejected_of
from digits.recognition import model_files, voice

if TYPE_CHECKING:
    from digits.recognition.model_files import Model

FOLDS = 3  # of the recordings, to tell what a voice is worth
SHOWN = 5  # doubtful recordings that are named


@dataclass(frozen=True)
class Lesson:
    """What teaching a voice has brought.

    Args:
        path: of the voice.
        n_recordings: that were used.
        right_before, right_after: how many of them are recognised as what they are, the latter by voices fitted without them; None
            if there are too few to tell.
        doubtful: recordings that sound like another digit even to the voice itself, and which.
    """

    path: Path
    n_recordings: int
    right_before: int
    right_after: int | None
    doubtful: list[tuple[Path, int]]

    def facts(self) -> dict[str, Any]:
        """Ready for JSON."""
        doubtful = [f"{path.name} sounds like {digit}" for path, digit in self.doubtful]
        numbers = {"recordings": self.n_recordings, "right_before": self.right_before, "right_after": self.right_after}
        return {**numbers, "helps": self.helps, "doubtful": doubtful}

    def __str__(self) -> str:
        """In sentences."""
        text = f"{self.path}: {self.n_recordings} recordings"
        if self.right_after is not None:
            text += f"; {self.right_before} of them were right before, {self.right_after} are with a voice that has not heard them"
        if self.helps is False:
            text += ". This voice does not help: record it again in a quiet place, or delete it"
        for path, digit in self.doubtful[:SHOWN]:
            text += f"\n{path} sounds like {digit}: listen to it, and delete it if it is nothing else"
        more = len(self.doubtful) - SHOWN
        return text + (f"\nand {more} more" if more > 0 else "")

    @property
    def helps(self) -> bool | None:
        """Whether the voice is right more often than the model without it, or as often; None if there are too few recordings."""
        return None if self.right_after is None else self.right_after >= self.right_before


class Voices:
    """A folder of voices: ``FOLDER/NAME.voice``, and the recordings in ``FOLDER/NAME``, a corpus for ``data=folder``.

    Args:
        folder: need not exist before the first voice.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()

    def names(self) -> list[str]:
        """Of the voices that have been fitted."""
        return sorted(path.stem for path in self.folder.glob(f"*{voice.SUFFIX}"))

    def path(self, name: str) -> Path:
        """Of a voice, which need not exist.

        Raises:
            ValueError: the name is not letters and digits.
        """
        if not (name.isalnum() and name.isascii()):
            raise ValueError(f"the name of a voice must consist of letters and digits, got {name}")
        return self.folder / f"{name}{voice.SUFFIX}"

    def recordings(self, name: str) -> Path:
        """The folder with a voice's recordings, which need not exist."""
        return self.path(name).with_suffix("")

    def delete(self, name: str) -> None:
        """Delete a voice and its recordings; other files in its folder stay.

        Raises:
            FileNotFoundError: there is no such voice.
        """
        path, folder = self.path(name), self.recordings(name)
        found = [file for place in (folder, rejected_of(folder)) for file in place.glob(f"*_{name}_*.wav")]
        if not path.exists() and not found:
            known = ", ".join(self.names())
            raise FileNotFoundError(f"there is no voice {name} in {self.folder}{known and f'; there are: {known}'}")
        for file in (path, *found):
            file.unlink(missing_ok=True)
        for place in (folder, rejected_of(folder)):
            with contextlib.suppress(OSError):  # not there, or not empty
                place.rmdir()

    def teach(self, name: str, model_name: str, root: str | Path | None = None) -> Lesson:
        """Fit a voice to recordings and write it.

        Args:
            name: of the voice.
            model_name: the model to change, ``pretrained`` or a file.
            root: a folder of recordings ``{digit}_{speaker}_{n}.wav``; None takes the voice's own.

        Raises:
            ValueError: there is not at least one readable recording of each digit, or the model cannot learn a voice.
            OSError: there is no such folder or model, or the voice cannot be written.
        """
        path = self.path(name)
        base = model_files.file_of(model_name)
        if base.suffix == voice.SUFFIX:
            raise ValueError(f"{model_name} is a voice already; give the model that it changes")
        model = model_files.load(model_name)
        clips = _recordings(Path(root).expanduser() if root else self.recordings(name))
        labels = [parse_name(clip)[0] for clip in clips]
        seen = voice.examples(model, [audio.read(clip) for clip in clips], labels)
        own = voice.fit(seen)
        path.parent.mkdir(parents=True, exist_ok=True)
        named = model_name if model_name == model_files.PRETRAINED else str(base.resolve())
        replace(own, model=named, sha256=voice.sha256(base)).write(path)
        after = voice.answers(seen, own)
        doubtful = [(clips[n], int(after[n])) for n in numpy.flatnonzero(after != seen.labels) if after[n] in seen.labels]
        before = int((voice.answers(seen) == seen.labels).sum())
        return Lesson(path, len(clips), before, _right_without_being_heard(seen), doubtful)

    def load(self, name: str, model: "Model", sha256: str) -> voice.PersonalModel:
        """A loaded model with a voice.

        Raises:
            FileNotFoundError, ValueError: as :func:`digits.recognition.model_files.with_voice`.
        """
        return model_files.with_voice(self.path(name), model, sha256)


def _recordings(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    return audio.find_files(folder)


def _right_without_being_heard(seen: voice.Examples) -> int | None:
    """How many recordings are right when each is judged by a voice fitted to the others; None if a digit has only one."""
    position: defaultdict[int, int] = defaultdict(int)
    folds: NDArray[numpy.int64] = numpy.zeros(len(seen.labels), dtype=numpy.int64)
    for n, label in enumerate(seen.labels.tolist()):
        folds[n], position[label] = position[label] % FOLDS, position[label] + 1
    if min(position.values()) < 2:
        return None
    right = 0
    for fold in sorted(set(folds.tolist())):
        left_out = seen.part(folds == fold)
        right += int((voice.answers(left_out, voice.fit(seen.part(folds != fold))) == left_out.labels).sum())
    return right
