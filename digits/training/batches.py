"""Batches of log-mels and labels: shuffled anew in each epoch for training, in order for evaluation."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from digits.training.log_mels import CHUNK, LogMels

EVAL_BATCH = 300
SEED_STEP = 100_003  # a prime larger than any number of epochs, so that no two seeds share an epoch's random numbers


class EpochBatches(Sampler[list[int]]):
    """Shuffled batches whose order depends on seed and epoch alone, so that a resumed run sees what an unbroken one would.

    Args:
        length: of the data set.
        batch_size: an incomplete last batch is dropped.
        seed: of the order.
        rank: of this process, which takes every ``world_size``-th batch.
        world_size: number of processes; all take equally many batches.
        reshuffle: false repeats the first epoch's batches, for ``overfit_batches``.
    """

    def __init__(self, length: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1, reshuffle: bool = True) -> None:
        self.length, self.batch_size, self.seed, self.epoch = length, min(batch_size, length), seed, 0
        self.rank, self.world_size, self.reshuffle = rank, world_size, reshuffle
        self.n_batches = self.length // self.batch_size
        self.sampler = self  # Lightning calls set_epoch on a batch sampler's attribute of this name

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch if self.reshuffle else 0

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(self.length, generator=torch.Generator().manual_seed(self.seed * SEED_STEP + self.epoch))
        for index in range(len(self)):
            batch = (index * self.world_size + self.rank) % self.n_batches  # the first ones again, if they do not divide evenly
            yield order[batch * self.batch_size : (batch + 1) * self.batch_size].tolist()

    def __len__(self) -> int:
        return math.ceil(self.n_batches / self.world_size)


class Labelled(Dataset[tuple[Tensor, Tensor]]):
    """Log-mels and their labels, handed out in whole batches by their positions instead of as items to be stacked again.

    Args:
        log_mels: of all clips.
        labels: shape (clips,).
    """

    def __init__(self, log_mels: LogMels, labels: Tensor) -> None:
        self.log_mels, self.labels = log_mels, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, positions: Sequence[int]) -> tuple[Tensor, Tensor]:
        return self.log_mels[positions], self.labels[positions]

    def loader(self, batches: Sampler[list[int]] | list[list[int]]) -> DataLoader[tuple[Tensor, Tensor]]:
        own = torch.Generator()  # an iterator draws a number when it starts, which must not come out of the epoch's
        return DataLoader(self, batch_sampler=batches, collate_fn=_as_it_is, generator=own)

    def in_order(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """All of it, for evaluation."""
        starts = range(0, len(self), EVAL_BATCH)
        return self.loader([list(range(start, min(start + EVAL_BATCH, len(self)))) for start in starts])


class OnDevice(Labelled):
    """Log-mels and labels in a device's own memory, where its batches are gathered: no log-mels are copied to it in a step.

    Args:
        of: what to keep there.
        device: where.
    """

    def __init__(self, of: Labelled, device: torch.device) -> None:
        log_mels = of.log_mels
        self.labels, self.device = of.labels.to(device), device
        self.kept = torch.empty((len(log_mels), *log_mels.shape), device=device)
        for start in range(0, len(log_mels), CHUNK):  # all at once would need as much memory of the computer's
            positions = range(start, min(start + CHUNK, len(log_mels)))
            self.kept[start : positions.stop] = log_mels[positions].to(device)

    def __getitems__(self, positions: Sequence[int]) -> tuple[Tensor, Tensor]:
        index = torch.as_tensor(positions, device=self.device)
        return self.kept[index], self.labels[index]


def fits(log_mels: LogMels, device: torch.device) -> bool:
    """Whether log-mels take less than half of a GPU's free memory; false for other devices."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return 2 * 4 * len(log_mels) * log_mels.shape.numel() < free  # float32


def _as_it_is(batch: Any) -> Any:
    return batch
