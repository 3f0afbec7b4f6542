"""The voices that people have taught: one folder of recordings each, and beside it what was fitted to them."""

import contextlib
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
from numpy.typing import NDArray

from digits import audio
from digits.corpora.corpus import N_DIGITS
from digits.corpora.folder import parse_name
from digits.recognition import model_files, voice

if TYPE_CHECKING:
    from digits.recognition.model_files import Model

FOLDS = 3  # of the recordings, to tell what a voice is worth
SHOWN = 5  # doubtful recordings that are named
MAX_RECORDINGS = 300  # to learn from: the time grows with their square
MAX_NAME = 32  # letters


@dataclass(frozen=True)
class Lesson:
    """What teaching a voice has brought.

    Args:
        path: of the voice.
        n_recordings: that were used.
        right_before, right_after: how many of them are recognised as what they are, the latter by voices fitted without them; None
            if there are too few to tell.
        doubtful: recordings that sound like another digit to a voice fitted without them, and which.
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
            text += ". This voice does not help: teach it again in a quiet place, or delete it"
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
        """Names of the voices that have been fitted."""
        return sorted(path.stem for path in self.folder.glob(f"*{voice.SUFFIX}") if path.stem == _stem(path.stem))

    def path(self, name: str) -> Path:
        """The file of a voice, which need not exist; small and capital letters are the same.

        Raises:
            ValueError: the name is not letters and digits, or is too long.
        """
        if _stem(name) != name.lower():
            raise ValueError(f"the name of a voice must consist of at most {MAX_NAME} letters (a to z) and digits, got {name[:80]}")
        return self.folder / f"{name.lower()}{voice.SUFFIX}"

    def recordings(self, name: str) -> Path:
        """The folder with a voice's recordings, which need not exist."""
        return self.path(name).with_suffix("")

    def delete(self, name: str) -> None:
        """Delete a voice and its recordings; other files in its folder stay.

        Raises:
            FileNotFoundError: there is no such voice.
        """
        path = self.path(name)
        unfinished = [*self.folder.glob(f".{path.stem}.*")]  # of a process that was killed
        if not (path.exists() or self._kept(name) or unfinished):
            known = ", ".join(self.names())
            raise FileNotFoundError(f"there is no voice {name} in {self.folder}{known and f'; there are: {known}'}")
        for folder in unfinished:
            shutil.rmtree(folder)
        self._forget_recordings(name)
        path.unlink(missing_ok=True)

    def _forget_recordings(self, name: str) -> None:
        for file in self._kept(name):
            file.unlink()
        with contextlib.suppress(OSError):  # not there, or not empty
            self.recordings(name).rmdir()

    def _kept(self, name: str) -> list[Path]:
        folder = self.recordings(name)
        return [*folder.glob(f"[0-9]_{folder.name}_*.wav")]

    @contextlib.contextmanager
    def session(self, name: str) -> Iterator[Path]:
        """A folder for new recordings, which is deleted in the end unless :meth:`keep` has taken it.

        Raises:
            ValueError, OSError: an impossible name, or the folder cannot be made.
        """
        stem = self.path(name).stem
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{stem}.", dir=self.folder, ignore_cleanup_errors=True) as folder:
            yield Path(folder)

    def keep(self, name: str, session: Path) -> None:
        """Take a session's recordings in the place of the voice's earlier ones.

        Raises:
            OSError: they cannot be moved.
        """
        self._forget_recordings(name)
        folder = self.recordings(name)
        folder.mkdir(exist_ok=True)
        for file in session.iterdir():
            file.replace(folder / file.name)

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
        path, base = self.path(name), model_files.file_of(model_name)
        model = learner(model_name)
        clips, labels = _recordings(Path(root).expanduser() if root is not None else self.recordings(name), path.stem)
        seen = voice.examples(model, [audio.read(clip) for clip in clips], labels)
        own = voice.fit(seen)
        path.parent.mkdir(parents=True, exist_ok=True)
        named = model_name if model_name == model_files.PRETRAINED else str(base.resolve())
        replace(own, model=named, sha256=voice.sha256(base)).write(path)
        before, after = voice.answers(seen), _unheard_answers(seen)
        right, doubtful = None, []
        if after is not None:
            right = int((after == seen.labels).sum())
            doubtful = [(clips[n], int(after[n])) for n in numpy.flatnonzero((after != seen.labels) & (after < N_DIGITS))]
        return Lesson(path, len(clips), int((before == seen.labels).sum()), right, doubtful)

    def load(self, name: str, model: "Model", sha256: str) -> voice.PersonalModel:
        """A loaded model with a voice.

        Raises:
            FileNotFoundError, ValueError: as :func:`digits.recognition.model_files.with_voice`.
        """
        return model_files.with_voice(self.path(name), model, sha256)


def learner(model_name: str) -> "Model":
    """Load a model that can learn a voice.

    Raises:
        FileNotFoundError, ValueError: as :func:`digits.recognition.model_files.load`; or it cannot.
    """
    model = model_files.load(model_name)
    check_learner(model_name, model)
    return model


def check_learner(model_name: str, model: "Model") -> None:
    """Check that a loaded model can learn a voice.

    Raises:
        ValueError: it is a voice itself, or does not show its features.
    """
    if model_files.file_of(model_name).suffix == voice.SUFFIX:
        raise ValueError(f"{model_name} is a voice already; give the model that it changes")
    voice.features(model, [(numpy.ones(model.window.length, dtype=numpy.float32), model.window.sample_rate)])


def _stem(name: str) -> str:
    """The file name of a voice without its suffix; empty if the name cannot be one."""
    return name.lower() if name.isalnum() and name.isascii() and len(name) <= MAX_NAME else ""


def _recordings(folder: Path, name: str) -> tuple[list[Path], list[int]]:
    """The recordings of one speaker in a folder, and their digits."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    found = [(path, *parse_name(path)[:2]) for path in audio.find_files(folder)]
    speakers = sorted({speaker for _, _, speaker in found})
    if len(speakers) > 1 and name not in speakers:
        known = ", ".join(speakers[:SHOWN])
        raise ValueError(f"{folder}: recordings of several speakers ({known}); name one of them, or give a folder of one speaker")
    own = [(path, digit) for path, digit, speaker in found if len(speakers) == 1 or speaker == name]
    if not 0 < len(own) <= MAX_RECORDINGS:
        raise ValueError(f"{folder}: {len(own)} recordings; a voice is learnt from 10 to {MAX_RECORDINGS}")
    return [path for path, _ in own], [digit for _, digit in own]


def _unheard_answers(seen: voice.Examples) -> NDArray[numpy.int64] | None:
    """The answer to each recording of a voice fitted to the others; None if a digit has only one."""
    position: defaultdict[int, int] = defaultdict(int)
    folds: NDArray[numpy.int64] = numpy.zeros(len(seen.labels), dtype=numpy.int64)
    for n, label in enumerate(seen.labels.tolist()):
        folds[n], position[label] = position[label] % FOLDS, position[label] + 1
    if min(position.values()) < 2:
        return None
    answers = numpy.empty_like(folds)
    for fold in sorted(set(folds.tolist())):
        answers[folds == fold] = voice.answers(seen.part(folds == fold), voice.fit(seen.part(folds != fold)))
    return answers
