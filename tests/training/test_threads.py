import os

import psutil
import pytest
import torch

from digits.training import threads


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A machine with four cores, and a list of what torch is told."""
    told: list[int] = []
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "AT_START", 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    return told


@pytest.mark.parametrize(("busy", "expected"), [(0, 4), (10, 4), (25, 3), (30, 3), (74, 1), (100, 1)])
def test_busy_cores_are_left_to_others(
    four_cores: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, busy: float, expected: int
) -> None:
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval, percpu: 4 * [busy])
    with caplog.at_level("INFO"):
        assert threads.use_free_cores() == expected
    assert four_cores == [expected]
    assert ("OMP_NUM_THREADS=4 uses all" in caplog.text) == (expected < 4)


def test_a_resumed_run_keeps_its_threads(four_cores: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval, percpu: 4 * [100.0])
    assert threads.use_free_cores(before=3) == 3
    assert four_cores == [3]


def test_the_user_decides(four_cores: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert threads.use_free_cores() == torch.get_num_threads()
    assert four_cores == []
