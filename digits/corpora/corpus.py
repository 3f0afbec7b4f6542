"""What a corpus is: clips with their labels and content hashes, and how they divide into training, validation and test parts."""

import hashlib
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
N_DIGITS = len(WORDS)
NO_DIGIT = N_DIGITS  # the label of all other sounds
NONE = "none"  # in the names of their recordings, in the place of the digit
TAKES_PER_FOLD = 5  # as in FSDD's official split, whose test part is takes 0-4
N_FOLDS = 10
TEST_FOLD, VAL_FOLD = 0, 1  # of the official split
SPLITS = ("official", "take_fold", "speaker", "test_only", "all")


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording of a digit, or of something else (:data:`NO_DIGIT`).

    Args:
        name: its path relative to the corpus's folder.
        blob: the git blob id of its bytes (hex).
        fold: which of the ten folds of :func:`divide` it belongs to; larger numbers are always trained on.
    """

    path: Path
    name: str
    digit: int
    speaker: str
    take: int
    blob: str
    fold: int


@dataclass(frozen=True)
class Corpus:
    """Clips, sorted by name. ``name`` identifies the corpus in tables, runs and metrics."""

    name: str
    clips: list[Clip]

    @property
    def digest(self) -> str:
        """A short hash of all clips' names and contents."""
        return hashlib.sha256(repr([(clip.name, clip.blob) for clip in self.clips]).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Parts:
    """Indices into a corpus's clips. No clip is in two parts, except under the split ``all``."""

    train: list[int]
    val: list[int]
    test: list[int]


def cache_folder() -> Path:
    """Where downloads, synthetic voices and log-mels are kept: ``$DIGITS_CACHE``, or the user's cache folder."""
    import platformdirs  # here, because reading a model needs none

    return Path(os.environ.get("DIGITS_CACHE") or platformdirs.user_cache_dir("digits", appauthor=False))


def git_blob(content: bytes) -> str:
    """The id that git gives to a file with this content (SHA-1, hex)."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def divide(clips: Sequence[Clip], split: str, fold: int = 0, test_speakers: Collection[str] = ()) -> Parts:
    """Divide clips into training, validation and test parts.

    Args:
        clips: of a corpus.
        split: ``official`` tests on fold 0 (takes 0-4, unless the corpus says otherwise), validates on fold 1 and trains on the
            rest. ``take_fold`` tests on another fold and validates on the next (after the last, on the first). ``speaker`` tests
            on all clips of ``test_speakers`` and validates on fold 1 of the others. ``test_only`` tests on everything. ``all``
            trains on everything, validates on fold 1, which is also trained on, and tests on nothing.
        fold: 0 to 9, for ``take_fold``.
        test_speakers: for ``speaker``.

    Raises:
        ValueError: an unknown split, fold or speaker, or a part that would be empty.
    """
    if split not in SPLITS:
        raise ValueError(f"data.split must be one of {', '.join(SPLITS)}, got {split}")
    if split == "test_only":
        return Parts([], [], list(range(len(clips))))
    if split == "all":
        return Parts(list(range(len(clips))), [i for i, clip in enumerate(clips) if clip.fold == VAL_FOLD], [])
    if split == "speaker":
        speakers = _known(test_speakers, clips)
        tested = [clip.speaker in speakers for clip in clips]
        validated = [clip.fold == VAL_FOLD for clip in clips]
    else:
        if not (0 <= fold < N_FOLDS):
            raise ValueError(f"data.fold must be 0 to {N_FOLDS - 1}, got {fold}")
        test_fold = fold if split == "take_fold" else TEST_FOLD
        tested = [clip.fold == test_fold for clip in clips]
        validated = [clip.fold == (test_fold + 1) % N_FOLDS for clip in clips]
    parts = Parts(
        train=[i for i in range(len(clips)) if not tested[i] and not validated[i]],
        val=[i for i in range(len(clips)) if validated[i] and not tested[i]],
        test=[i for i in range(len(clips)) if tested[i]],
    )
    if split == "speaker" and all(tested):
        raise ValueError(f"data.test_speakers={list(test_speakers)} names every speaker, which leaves none to train on")
    for part, indices in vars(parts).items():
        if not indices:
            raise ValueError(
                f"data.split={split} leaves no clips for {part}: it divides by the number n in {{digit}}_{{speaker}}_{{n}}; "
                "use data.split=test_only to test a trained model on every clip"
            )
    return parts


def _known(test_speakers: Collection[str], clips: Sequence[Clip]) -> set[str]:
    speakers = {clip.speaker for clip in clips}
    if not test_speakers or not speakers.issuperset(test_speakers):
        raise ValueError(f"data.test_speakers must name some of {', '.join(sorted(speakers))}, got {list(test_speakers)}")
    return set(test_speakers)
