"""Log-mels of a corpus, computed once and kept on disk, and the LightningDataModule that serves them."""

import hashlib
import io
import json
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning
import numpy
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, TensorDataset

from digits import audio, conditions, corpus, espeak, fsdd
from digits.conditions import Effects
from digits.corpus import Clip, Corpus, Parts
from digits.features import FrontEnd

CHUNK = 16  # clips a batch of the front end: larger ones fall out of the processor's cache and take up to three times as long
N_VOICES = 60  # recordings that babble is mixed from


def log_mels(
    clips: Sequence[Clip],
    front_end: dict[str, Any],
    effects: Effects | None = None,
    seed: int = 0,
    voices: Sequence[Clip] = (),
    effects_rate_hz: int | None = None,
) -> Tensor:
    """Log-mels of clips, from the cache where it has them.

    Args:
        front_end: arguments of :class:`digits.features.FrontEnd`.
        effects: a condition (:mod:`digits.conditions`) to put the waveforms into first.
        seed: of that condition's randomness.
        voices: recordings that babble is mixed from, and others paired with.
        effects_rate_hz: sample rate at which the effects work; None is the front end's.

    Returns:
        Shape (len(clips), 1, n_mels, frames), float32, dB.

    Raises:
        ValueError: a clip that cannot be read or holds no sound, by its path.
    """
    render = Render(front_end, effects or {}, seed, tuple(voices[:: max(1, len(voices) // N_VOICES)]), effects_rate_hz)
    path = corpus.cache_folder() / "log_mels" / f"{_cache_key(clips, render)}.npy"
    cached = None if render.is_unrepeatable else _load(path)
    if cached is None:
        cached = torch.cat(_compute(clips, render))
        if not render.is_unrepeatable:
            _save(path, cached)
    return cached


@dataclass(frozen=True)
class Render:
    """How clips become log-mels; see :func:`log_mels`."""

    front_end: dict[str, Any]
    effects: Effects
    seed: int
    voices: tuple[Clip, ...]
    effects_rate_hz: int | None

    @property
    def is_unrepeatable(self) -> bool:
        """Whether people's own noises and rooms are used, which may change between runs."""
        return any(name.startswith("recorded_") for name in self.effects)

    @property
    def has_voices(self) -> bool:
        return bool({"babble", "pair"} & set(self.effects))


def _compute(clips: Sequence[Clip], render: Render) -> list[Tensor]:
    front_end = FrontEnd(**render.front_end)
    rate = render.effects_rate_hz or front_end.window.sample_rate
    used = render.voices if render.has_voices else ()
    voices = {clip.name: torch.from_numpy(audio.resample(*audio.read(clip.path), rate)) for clip in used}

    def read(clip: Clip) -> tuple[audio.Waveform, int]:
        waveform, own_rate = audio.read(clip.path)
        if not render.effects:
            return waveform, own_rate
        others = [voice for name, voice in voices.items() if name != clip.name]
        sound = torch.from_numpy(audio.resample(waveform, own_rate, rate))
        return conditions.apply(sound, rate, render.effects, f"{clip.name} {render.seed}", others).numpy(), rate

    chunks = [clips[start : start + CHUNK] for start in range(0, len(clips), CHUNK)]
    return [front_end([read(clip) for clip in chunk]) for chunk in chunks]


@cache
def _code_digest() -> str:
    """Other code may make other log-mels, so it is part of the key."""
    modules = ("audio", "features", "conditions", "sounds", "data")
    code = b"".join((Path(__file__).parent / f"{name}.py").read_bytes() for name in modules)
    return hashlib.sha256(
        code + repr([version(name) for name in ("torch", "torchaudio", "numpy", "scipy", "soxr", "soundfile")]).encode()
    ).hexdigest()


def _cache_key(clips: Sequence[Clip], render: Render) -> str:
    content = [(clip.name, clip.blob) for clip in (*clips, *(render.voices if render.has_voices else ()))]
    effects = list(render.effects.items())  # whose order counts
    settings = [_code_digest(), content, render.front_end, effects, render.seed, render.effects_rate_hz]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:24]


def _load(path: Path) -> Tensor | None:
    """A cache file's tensor, or None where there is none or its checksum says that it is damaged."""
    try:
        content = path.read_bytes()
    except (FileNotFoundError, PermissionError):  # another user's, in a shared cache
        return None
    digest, payload = content[:32], memoryview(content)[32:]
    if hashlib.sha256(payload).digest() != digest:
        warnings.warn(f"{path}: damaged, computed again", stacklevel=2)
        return None
    return torch.from_numpy(numpy.load(io.BytesIO(payload), allow_pickle=False))


def _save(path: Path, tensor: Tensor) -> None:
    """Write under another name and rename, so that parallel jobs see a whole file or none."""
    payload = io.BytesIO()
    numpy.save(payload, tensor.numpy())
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
            temporary = file.name
            file.write(hashlib.sha256(payload.getbuffer()).digest())
            file.write(payload.getbuffer())
        Path(temporary).replace(path)
    except OSError as error:  # a full disk costs time on the next run, not this one
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        warnings.warn(f"{path}: log-mels not kept ({error})", stacklevel=2)


class EpochBatches(Sampler[list[int]]):
    """Shuffled batches whose order depends on seed and epoch alone, so that a resumed run sees what an unbroken one would."""

    def __init__(self, length: int, batch_size: int, seed: int) -> None:
        self.length, self.batch_size, self.seed, self.epoch = length, min(batch_size, length), seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(self.length, generator=torch.Generator().manual_seed(self.seed * 100_003 + self.epoch))
        for batch in range(len(self)):
            yield order[batch * self.batch_size : (batch + 1) * self.batch_size].tolist()

    def __len__(self) -> int:
        return self.length // self.batch_size  # an incomplete last batch is dropped


@dataclass(frozen=True)
class TestSet:
    """The test clips in one condition: log-mels (clips, 1, n_mels, frames)."""

    condition: str
    log_mel: Tensor


@dataclass(frozen=True)
class TrainSet:
    """A part of the training set; see :class:`DigitsDataModule`."""

    copies: int = 1
    effects: Effects = field(default_factory=dict)
    source: str | None = None
    effects_rate_hz: int | None = None
    is_digit: bool = True


def _train_sets(settings: dict[str, dict[str, Any]]) -> dict[str, TrainSet]:
    train_sets = {}
    for name, part in settings.items():
        try:
            train_sets[name] = TrainSet(**{key: value for key, value in part.items() if value is not None})
        except TypeError as error:
            raise ValueError(f"data.train_sets.{name}: {error}") from error
        if not isinstance(train_sets[name].copies, int) or train_sets[name].copies < 0:
            raise ValueError(f"data.train_sets.{name}.copies must be 0 or more, got {train_sets[name].copies}")
    if not sum(part.copies for part in train_sets.values()):
        raise ValueError("data.train_sets needs a part with copies: 1 or more")
    return train_sets


class DigitsDataModule(lightning.LightningDataModule):
    """Serves (log_mel, label) batches of one corpus: a training, a validation and, for each condition, a test loader.

    Everything lives in memory as tensors; there are no worker processes to start.

    Args:
        source: ``fsdd``, ``espeak`` or ``folder``.
        root: the corpus's folder; for ``fsdd`` null searches the usual places.
        split, fold, test_speakers: see :func:`digits.corpus.divide`.
        front_end: arguments of :class:`digits.features.FrontEnd`.
        test_conditions: name -> effects (:mod:`digits.conditions`) for the test clips; ``clean`` has none.
        train_sets: name -> what one part of the training set holds: ``copies`` of the training clips (0 leaves it out), each with
            the ``effects`` (none by default) drawn anew at ``effects_rate_hz`` (default: the front end's sample rate). With
            ``source: espeak-voices`` they are copies of synthetic voices instead. ``is_digit: false`` says that the effects leave
            no digit; they and other words (``source: espeak-words``) need a network that knows such sounds (``n_outputs: 11``).
        batch_size: of training.
        seed: of the order of the batches. Effects are the same for every seed.
    """

    def __init__(
        self,
        source: str = "fsdd",
        root: str | None = None,
        split: str = "official",
        fold: int = 0,
        test_speakers: Sequence[str] = (),
        front_end: dict[str, Any] | None = None,
        test_conditions: dict[str, Effects] | None = None,
        train_sets: dict[str, dict[str, Any]] | None = None,
        batch_size: int = 100,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        if batch_size < 1:
            raise ValueError(f"data.batch_size must be at least 1, got {batch_size}")
        self.train_sets = {"clean": TrainSet()} if train_sets is None else _train_sets(train_sets)
        if test_conditions is not None and "clean" not in test_conditions:
            raise ValueError("data.test_conditions needs one named clean: {}")
        self.front_end = front_end or {}
        self.conditions = {"clean": {}} if test_conditions is None else test_conditions

    def _load_corpus(self) -> Corpus:
        source, root = self.hparams["source"], self.hparams["root"]
        if source == "fsdd":
            return fsdd.load(root)
        if source == "espeak":
            return espeak.load()
        if source != "folder":
            raise ValueError(f"data.source must be fsdd, espeak or folder, got {source}")
        if root is None:
            raise ValueError("data=folder needs data.root=FOLDER, the folder of your recordings")
        return corpus.read_folder(root, f"folder-{Path(root).resolve().name}")

    @property
    def split(self) -> str:
        """The split's name in tables: ``official``, ``take_fold-3``, ``speaker-george``, ``test_only``."""
        details = {"take_fold": [str(self.hparams["fold"])], "speaker": self.hparams["test_speakers"]}
        return "-".join([self.hparams["split"], *details.get(self.hparams["split"], [])])

    def setup(self, stage: str) -> None:
        if hasattr(self, "corpus"):
            return
        hparams = self.hparams
        self.corpus: Corpus = self._load_corpus()
        clips = self.corpus.clips
        self.parts: Parts = corpus.divide(clips, hparams["split"], hparams["fold"], hparams["test_speakers"])
        labels = torch.tensor([clip.digit for clip in clips])
        log_mel = log_mels(clips, self.front_end)
        self.test_clips = [clips[i] for i in self.parts.test]
        self.test_labels = labels[self.parts.test]
        voices = [clips[i] for i in self.parts.train] or clips
        self.test_sets = [
            TestSet(name, log_mels(self.test_clips, self.front_end, effects, 0, voices) if effects else log_mel[self.parts.test])
            for name, effects in self.conditions.items()
            if self.parts.test
        ]
        self.val_set = TensorDataset(log_mel[self.parts.val], labels[self.parts.val])
        if self.parts.train:
            self.train_set = TensorDataset(*self._training_tensors())

    def _training_tensors(self) -> tuple[Tensor, Tensor]:
        log_mels, labels = [], []
        for part in self.train_sets.values():
            for log_mel, label in self._copies(part) if part.copies else ():
                log_mels.append(log_mel)
                labels.append(label)
        return torch.cat(log_mels), torch.cat(labels)

    def _copies(self, part: TrainSet) -> Iterator[tuple[Tensor, Tensor]]:
        """Log-mels and labels of each copy of the clips of a part of the training set."""
        # All clips of the corpus go into one cache file, whatever the split; of those computed, only the training part is used.
        clips, used = (
            (self.corpus.clips, self.parts.train) if part.source is None else (espeak.load(part.source).clips, slice(None))
        )
        label = torch.tensor([clip.digit if part.is_digit else corpus.NO_DIGIT for clip in clips])[used]
        voices = espeak.load().clips if {"babble", "pair"} & set(part.effects) else []
        for seed in range(part.copies):
            yield log_mels(clips, self.front_end, part.effects, seed, voices, part.effects_rate_hz)[used], label

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        batches = EpochBatches(len(self.train_set), self.hparams["batch_size"], self.hparams["seed"])
        own = torch.Generator()  # an iterator draws a number when it starts, which would come out of the epoch's
        return DataLoader(self.train_set, sampler=batches, batch_size=None, generator=own)

    def val_dataloader(self) -> list[DataLoader[tuple[Tensor, ...]]] | DataLoader[tuple[Tensor, ...]]:
        return _in_order(self.val_set) if self.parts.val else []

    def test_dataloader(self) -> list[DataLoader[tuple[Tensor, ...]]]:
        return [_in_order(TensorDataset(test.log_mel, self.test_labels)) for test in self.test_sets]


def _in_order(dataset: TensorDataset, batch_size: int = 300) -> DataLoader[tuple[Tensor, ...]]:
    batches = [list(range(start, min(start + batch_size, len(dataset)))) for start in range(0, len(dataset), batch_size)]
    return DataLoader(dataset, sampler=batches, batch_size=None)
