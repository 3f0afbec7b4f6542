"""Training sets larger than a machine's disk: their log-mels lie in shards, in a folder or an S3-style store, and are streamed.

:mod:`digits.training.write_shards` writes them, and beside them the recordings of the validation and test parts, so that any
machine can train with ``digits train data=shards data.shards=ADDRESS``. litdata (extra ``[shards]``) reads them.
"""

import json
import logging
import os
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from digits.corpora.corpus import Clip, Corpus, cache_folder, git_blob
from digits.files import write_whole
from digits.training.batches import Labelled
from digits.training.datamodule import Copy, DigitsDataModule
from digits.training.render import code_digest

ABOUT, RECORDINGS, TRAIN = "about", "recordings", "train"  # what lies at an address
OWN = ""  # stands for the corpus itself among the sources of recordings
FREE = ("root", "shards", "seed", "batch_size", "test_conditions")  # settings that may differ from those of the shards

MAX_SHOWN = 60  # characters of a setting in a message
log = logging.getLogger(__name__)

os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")  # litdata would ask PyPI, and training asks nobody


def litdata() -> Any:
    """The package.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import litdata
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{error.name} is not installed: pip install '.[shards]' in a clone of this repository; experiments/scale says what to "
            "install first beside a CPU build of torch"
        ) from error
    for name in ("litdata", "botocore"):  # they report every step
        logging.getLogger(name).setLevel(logging.WARNING)
    return litdata


def absolute(address: str) -> str:
    """An address without a slash at its end; a folder's whole path."""
    return address.rstrip("/") if "://" in address else str(Path(address).expanduser().resolve())


def recordings(address: str) -> str:
    """The hash of the recordings that the shards at an address were made of."""
    return about(absolute(address))[0]["recordings"]


def fixed(hparams: MutableMapping[str, Any]) -> dict[str, Any]:
    """The settings of a data module that its shards depend on, as JSON has them."""
    return json.loads(json.dumps({name: value for name, value in hparams.items() if name not in FREE}, default=list))


def about(address: str) -> tuple[dict[str, Any], Tensor]:
    """What is known of the shards, and the labels of the training set.

    Raises:
        ValueError: there are no shards at this address.
    """
    text, labels = open_items(f"{address}/{ABOUT}")[0]
    return json.loads(text), labels.long()


def open_items(address: str, **settings: Any) -> Any:
    """A ``litdata.StreamingDataset``.

    Raises:
        ValueError: there is none at this address.
    """
    kind = litdata().StreamingDataset
    if "://" not in address and not Path(address, "index.json").is_file():  # litdata would make one of what is there
        raise ValueError(f"{address}: no shards can be read there: they are missing, or were not written to their end")
    try:
        # Its default decodes 32 items to use one.
        found = kind(address, cache_dir=str(cache_folder() / "shards"), batch_decode=0, **settings)
        if found.posix_fast:  # on network file systems it hands out whole shards, and leaves out the same clips each time
            found.posix_fast = replace(found.posix_fast, kind="posix")
        found.distributed_env.num_nodes = 1  # which it guesses; with several, some clips would come twice
        len(found)
    except Exception as error:  # each kind of store has errors of its own
        raise ValueError(f"{address}: no shards can be read there: {' '.join(str(error).split())}") from error
    return found


def check_complete(address: str, n_items: int) -> None:
    """Check that all items are there, before several processes begin to share them.

    Raises:
        ValueError: there are more or fewer.
    """
    if (found := len(open_items(address))) != n_items:
        raise ValueError(
            f"{address}: holds {found} items instead of {n_items}: its writing was interrupted; write the shards again"
        )


def _restored(address: str, known: dict[str, Any]) -> dict[str, list[Clip]]:
    """Source -> its recordings, written into the cache folder unless they are there.

    Raises:
        ValueError: a recording is damaged.
    """
    folder, items = cache_folder() / "shards" / known["recordings"], None
    found: dict[str, list[Clip]] = {OWN: []}
    for n, (source, row) in enumerate(known["clips"]):
        path = folder / (source or "own") / row["name"]
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{address}: a recording named {row['name']}, which is outside its folder")
        if not path.is_file():
            items = items or open_items(f"{address}/{RECORDINGS}")
            if git_blob(content := items[n]) != row["blob"]:
                raise ValueError(f"{address}: the recording {row['name']} is damaged: write the shards again")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)
        found.setdefault(source, []).append(Clip(path=path, **row))
    return found


class Streamed:
    """Shuffled batches of the training set, whose order depends on seed and epoch alone.

    Of several processes, each takes its share of the clips; all take equally many. An incomplete last batch is dropped.

    Args:
        address: of the training set.
        batch_size: clips in a batch.
        seed: of the order.
        reshuffle: false repeats the first epoch's batches, for ``overfit_batches``.
    """

    def __init__(self, address: str, batch_size: int, seed: int, reshuffle: bool = True) -> None:
        self.stream = open_items(address, shuffle=True, item_shuffle_window="full", seed=seed)
        self.batch_size, self.reshuffle, self.epoch = min(batch_size, len(self.stream)), reshuffle, 0
        self.sampler = self  # Lightning calls set_epoch on an attribute of this name

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch if self.reshuffle else 0

    def __len__(self) -> int:
        return len(self.stream) // self.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.stream.set_epoch(self.epoch + 1)  # litdata counts from one
        batch = []
        for item in self.stream:
            batch.append(item)
            if len(batch) == self.batch_size:
                log_mels, labels = zip(*batch, strict=True)
                yield torch.stack(log_mels), torch.tensor(labels)
                batch = []


class TrainItems(Labelled):
    """The training set by position.

    Args:
        address: of the training set.
        labels: of all of it, shape (items,).
    """

    def __init__(self, address: str, labels: Tensor) -> None:
        self.stream, self.labels = open_items(address), labels

    def __getitems__(self, positions: Sequence[int]) -> tuple[Tensor, Tensor]:
        return torch.stack([self.stream[n][0] for n in positions]), self.labels[list(positions)]


class ShardsDataModule(DigitsDataModule):
    """Serves what :mod:`digits.training.write_shards` wrote: training batches from shards, the rest from the recordings there.

    Args:
        shards: a folder, or an address like ``s3://bucket/folder``.
        others: as :class:`digits.training.datamodule.DigitsDataModule`; the same as when the shards were written, but for seed,
            batch size and test conditions.

    Raises:
        ValueError: as that class; there are no shards at this address, or they were written with other settings.
    """

    def __init__(self, shards: str, **others: Any) -> None:
        super().__init__(**others)
        self.address = absolute(shards)

    def _load_corpus(self) -> Corpus:
        """Of the recordings beside the shards."""
        self._about, self._labels = about(self.address)
        wanted = fixed(self.hparams)
        for name, written in self._about["settings"].items():
            if (here := wanted.get(name)) != written:
                shown = f"data.{name} = {written}, this run has {here}" if _is_short(written, here) else f"another data.{name}"
                raise ValueError(f"{self.address}: was written with {shown}: give the settings of write_shards")
        if self._about["code"] != code_digest():
            log.warning(
                "%s: was written by another version of the code or its packages; validation and test use this one", self.address
            )
        check_complete(f"{self.address}/{TRAIN}", len(self._labels))
        clips = _restored(self.address, self._about)
        own = clips.pop(OWN)
        self._loaded |= clips
        return Corpus(self._about["corpus"], own)

    def train_copies(self) -> list[Copy]:
        return []

    def setup(self, stage: str) -> None:
        if hasattr(self, "train_set"):
            return
        super().setup(stage)
        self.train_set = TrainItems(f"{self.address}/{TRAIN}", self._labels)

    def train_dataloader(self) -> Streamed:  # type: ignore[override]  # Lightning takes any iterable
        trainer: Any = self.trainer
        overfits = bool(trainer and trainer.overfit_batches)
        return Streamed(f"{self.address}/{TRAIN}", self.hparams["batch_size"], self.hparams["seed"], reshuffle=not overfits)

    @property
    def recordings(self) -> str:
        return self._about["recordings"]

    @property
    def n_train_clips(self) -> int:
        return self._about["n_train_clips"]


def _is_short(*values: Any) -> bool:
    return all(len(str(value)) < MAX_SHOWN for value in values)
