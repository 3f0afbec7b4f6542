"""The LightningDataModule: serves the log-mels of a corpus, divided into training, validation and test parts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from digits import effects
from digits.corpora import catalog, corpus
from digits.corpora.corpus import NO_DIGIT, Clip, Corpus, Parts
from digits.effects import Effects
from digits.training.batches import EpochBatches, Labelled, OnDevice, fits
from digits.training.log_mels import concatenate, log_mels
from digits.training.render import Render


@dataclass(frozen=True)
class TrainSet:
    """One part of the training set; see :class:`DigitsDataModule`."""

    copies: int = 1
    effects: Effects = field(default_factory=dict)
    source: str | None = None
    only: Sequence[int] = tuple(range(NO_DIGIT + 1))
    effects_rate_hz: int | None = None
    non_digit: Effects = field(default_factory=dict)

    @property
    def all_effects(self) -> dict[str, Any]:
        """``non_digit`` effects come first."""
        return {**self.non_digit, **self.effects}


@dataclass(frozen=True)
class Copy:
    """One copy of the clips of one part of the training set.

    Args:
        render: of all its clips, whatever the split.
        used: positions of those that are trained on.
        labels: of those, shape (len(used),).
    """

    render: Render
    used: list[int]
    labels: Tensor


def _train_sets(settings: dict[str, dict[str, Any]]) -> dict[str, TrainSet]:
    train_sets = {}
    for name, part in settings.items():
        try:
            train_sets[name] = TrainSet(**{key: value for key, value in part.items() if value is not None})
        except TypeError as error:
            raise ValueError(f"data.train_sets.{name}: {error}") from error
        if not isinstance(train_sets[name].copies, int) or train_sets[name].copies < 0:
            raise ValueError(f"data.train_sets.{name}.copies must be 0 or more, got {train_sets[name].copies}")
        if twice := set(train_sets[name].non_digit) & set(train_sets[name].effects):
            raise ValueError(f"data.train_sets.{name}: {', '.join(sorted(twice))} in both non_digit and effects")
    if not sum(part.copies for part in train_sets.values()):
        raise ValueError("data.train_sets needs a part with copies: 1 or more")
    return train_sets


class DigitsDataModule(lightning.LightningDataModule):
    """Serves (log_mel, label) batches of one corpus: a training, a validation and, for each condition, a test loader.

    The log-mels are mapped into memory from files, so there are no worker processes to start, and a corpus may be larger than the
    memory; a GPU keeps those of the training set in its own memory if they fit. Where several processes train together, each takes
    its share of the training batches and all of the validation and test clips: the figures do not depend on their number.

    Args:
        source: name of the corpus, see :mod:`digits.corpora.catalog`.
        root: folder of the corpus; null looks in the usual places.
        split, fold, test_speakers: see :func:`digits.corpora.corpus.divide`.
        front_end: arguments of :class:`digits.features.FrontEnd`.
        test_conditions: name -> effects (:mod:`digits.effects`) for the test clips; ``clean`` has none.
        train_sets: name -> one part of the training set. It holds ``copies`` of the training clips (0 leaves the part out), each
            with its ``effects`` drawn anew, at ``effects_rate_hz`` (default: the front end's sample rate). With ``source``, they
            are copies of another corpus instead; with ``only``, of the clips with these labels (10 is no digit). Effects under
            ``non_digit`` come first and turn the clip into another sound, labelled as no digit; such a part, or one from a corpus
            of other words, needs ``model.n_outputs=11``.
        val_sources: other corpora whose fold 1 is added to the validation part. Of these, ``train_sets`` leave out folds 0 and 1,
            except under the split ``all``.
        batch_size: of training.
        seed: of the order of the batches. Effects are the same for every seed.

    Raises:
        ValueError: an impossible setting, named in the message.
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
        val_sources: Sequence[str] = (),
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
        self._loaded: dict[str, list[Clip]] = {}
        self.conditions = {"clean": {}} if test_conditions is None else test_conditions
        for name, part in self.train_sets.items():
            _check_effects(f"data.train_sets.{name}", part.all_effects if part.copies else {})
        for name, condition in self.conditions.items():
            _check_effects(f"conditions.{name}", condition)

    @property
    def split(self) -> str:
        """The split's name in tables: ``official``, ``take_fold-3``, ``speaker-george``, ``test_only``."""
        details = {"take_fold": [str(self.hparams["fold"])], "speaker": self.hparams["test_speakers"]}
        return "-".join([self.hparams["split"], *details.get(self.hparams["split"], [])])

    @property
    def recordings(self) -> str:
        """A short hash of the recordings: of all that may be trained on, validated on and tested on."""
        return self.corpus.digest

    @property
    def n_train_clips(self) -> int:
        """Clips in the training part, each counted once."""
        return len(self.parts.train)

    def setup(self, stage: str) -> None:
        if hasattr(self, "corpus"):
            return
        self.read()
        clips = self.corpus.clips
        labels = torch.tensor([clip.digit for clip in clips])
        self.test_clips = [clips[i] for i in self.parts.test]
        self.test_labels = labels[self.parts.test]
        tests, validations, trainings = self._test_renders(), self._validation_renders(), self.train_copies()
        renders = [Render(clips, self.front_end), *tests.values(), *validations, *(copy.render for copy in trainings)]
        clean, *others = log_mels(renders)  # all at once, so that what is not in the cache is computed side by side
        tested = clean.select(self.parts.test)
        self.test_sets = {name: others.pop(0) if name in tests else tested for name in self.conditions if self.parts.test}
        validated = [clean.select(self.parts.val), *(others.pop(0) for _ in validations)]
        val_labels = [labels[self.parts.val], *(torch.tensor([clip.digit for clip in render.clips]) for render in validations)]
        self.val_set = Labelled(concatenate(validated), torch.cat(val_labels))
        if trainings:
            chosen = [found.select(copy.used) for found, copy in zip(others, trainings, strict=True)]
            self.train_set = Labelled(concatenate(chosen), torch.cat([copy.labels for copy in trainings]))

    def read(self) -> None:
        """Find the recordings and divide them, without computing anything."""
        hparams = self.hparams
        self.corpus: Corpus = self._load_corpus()
        self.parts: Parts = corpus.divide(self.corpus.clips, hparams["split"], hparams["fold"], hparams["test_speakers"])

    def _load_corpus(self) -> Corpus:
        root = self.hparams["root"]
        return catalog.get(self.hparams["source"]).load(
            None if root is None else str(root)
        )  # a folder named 2024 comes as a number

    def _test_renders(self) -> dict[str, Render]:
        """What each test condition but the clean one needs."""
        voices = [self.corpus.clips[i] for i in self.parts.train] or self.corpus.clips
        conditions = self.conditions.items() if self.parts.test else ()
        return {name: Render(self.test_clips, self.front_end, chosen, 0, voices) for name, chosen in conditions if chosen}

    def _validation_renders(self) -> list[Render]:
        found = [self.clips_of(source) for source in self.hparams["val_sources"] if self.parts.val]
        return [Render([clip for clip in clips if clip.fold == corpus.VAL_FOLD], self.front_end) for clips in found]

    def train_copies(self) -> list[Copy]:
        """The training set, before anything is computed."""
        parts = [part for part in self.train_sets.values() if part.copies and self.parts.train]
        return [copy for part in parts for copy in self._copies(part)]

    def _copies(self, part: TrainSet) -> "Iterator[Copy]":
        # All clips with these labels go into the cache, whatever the split; only the training part of them is used.
        of_source = self.corpus.clips if part.source is None else self.clips_of(part.source)
        trained_on = self._trained_on(part.source, of_source)
        chosen = [i for i, clip in enumerate(of_source) if clip.digit in part.only]
        clips, used = [of_source[i] for i in chosen], [n for n, i in enumerate(chosen) if i in trained_on]
        if not used:
            raise ValueError(f"data.train_sets: no clips of {part.source or self.corpus.name} with the labels {list(part.only)}")
        labels = torch.tensor([NO_DIGIT if part.non_digit else clip.digit for clip in clips])[used]
        voices = self.clips_of("espeak") if effects.need_voices(part.all_effects) else []
        for seed in range(part.copies):
            yield Copy(Render(clips, self.front_end, part.all_effects, seed, voices, part.effects_rate_hz), used, labels)

    def clips_of(self, source: str) -> list[Clip]:
        """Of another corpus, which is read from disk once."""
        if source not in self._loaded:
            self._loaded[source] = catalog.get(source).load(None).clips
        return self._loaded[source]

    def _trained_on(self, source: str | None, clips: Sequence[Clip]) -> set[int]:
        """Indices of the clips that may be trained on."""
        if source is None:
            return set(self.parts.train)
        if source not in self.hparams["val_sources"] or self.hparams["split"] == "all":
            return set(range(len(clips)))
        return {i for i, clip in enumerate(clips) if clip.fold not in (corpus.TEST_FOLD, corpus.VAL_FOLD)}

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        trainer: Any = self.trainer
        several = {"rank": trainer.global_rank, "world_size": trainer.world_size} if trainer else {}
        overfits = bool(trainer and trainer.overfit_batches)
        batches = EpochBatches(
            len(self.train_set), self.hparams["batch_size"], self.hparams["seed"], **several, reshuffle=not overfits
        )
        device = trainer.strategy.root_device if trainer else torch.device("cpu")
        keeps_it = fits(self.train_set.log_mels, device)
        return (OnDevice(self.train_set, device) if keeps_it else self.train_set).loader(batches)

    def val_dataloader(self) -> list[DataLoader[tuple[Tensor, Tensor]]] | DataLoader[tuple[Tensor, Tensor]]:
        return self.val_set.in_order() if self.parts.val else []

    def test_dataloader(self) -> list[DataLoader[tuple[Tensor, Tensor]]]:
        return [Labelled(log_mel, self.test_labels).in_order() for log_mel in self.test_sets.values()]


def _check_effects(where: str, chosen: Effects) -> None:
    try:
        effects.check(chosen)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
