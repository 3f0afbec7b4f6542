from itertools import chain

import pytest

from digits.training.batches import EpochBatches


@pytest.mark.parametrize(("length", "world_size"), [(80, 2), (80, 4), (95, 3), (70, 2), (50, 8)])
def test_processes_share_the_batches(length: int, world_size: int) -> None:
    """All batches, the same number for each, and none twice where they divide evenly."""
    shares = [EpochBatches(length, 10, 7, rank, world_size) for rank in range(world_size)]
    for epoch in (0, 3):
        alone = EpochBatches(length, 10, 7)
        for sampler in (alone, *shares):
            sampler.set_epoch(epoch)
        parts = [list(share) for share in shares]
        assert {len(part) for part in parts} == {len(share) for share in shares} == {-(-len(alone) // world_size)}
        together = sorted(chain.from_iterable(parts))
        assert sorted(alone) == (together if len(alone) % world_size == 0 else sorted(map(list, set(map(tuple, together)))))


def test_batches_are_shuffled_whole_and_the_same_in_each_epoch_only_if_asked() -> None:
    sampler = EpochBatches(95, 10, 7)
    first = list(sampler)
    assert len(sampler) == len(first) == 9
    assert {len(batch) for batch in first} == {10}
    assert len(set(chain.from_iterable(first))) == 90
    sampler.set_epoch(1)
    assert list(sampler) != first
    repeating = EpochBatches(95, 10, 7, reshuffle=False)
    repeating.set_epoch(1)
    assert list(repeating) == first
    assert len(EpochBatches(5, 10, 7)) == 1  # fewer clips than a batch are one
