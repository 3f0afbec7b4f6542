"""Decay and levels of reverberation, measured on the answer to a click."""

import math
from pathlib import Path

import numpy
import pytest
import soundfile
import torch
from signals import RATE, click, clip, corrupt, rms


@pytest.mark.parametrize("rt60_s", [0.3, 0.6, 1.0])
@pytest.mark.parametrize("drr_db", [None, -5.0])
def test_reverb_decays_by_60_db_in_rt60(rt60_s: float, drr_db: float | None) -> None:
    tail = corrupt(click(length=2 * RATE), "reverb", rt60_s=rt60_s, drr_db=drr_db).double().numpy()[1 : int(rt60_s * RATE)]
    energy = numpy.cumsum(tail[::-1] ** 2)[::-1]  # Schroeder's backward integration
    decay_db = 10 * numpy.log10(energy / energy[0])
    times = numpy.arange(len(decay_db)) / RATE
    part = (decay_db < -5) & (decay_db > -25)
    slope = numpy.polyfit(times[part], decay_db[part], 1)[0]
    assert abs(-60 / slope - rt60_s) < 0.1 * rt60_s


@pytest.mark.parametrize("drr_db", [-7.1, 0.0, 6.0])
def test_reverb_has_its_direct_to_reverberant_ratio(drr_db: float) -> None:
    energy = corrupt(click(), "reverb", rt60_s=0.5, drr_db=drr_db).double().square()
    assert abs(10 * math.log10(energy[0] / energy[1:].sum()) - drr_db) < 0.2


def test_recorded_room_convolves_from_the_direct_sound_on(tmp_path: Path) -> None:
    response = numpy.zeros(4800)
    response[1000], response[1480] = 0.5, 0.25
    soundfile.write(tmp_path / "room.wav", response, RATE)
    wet = corrupt(clip(), "recorded_room", root=str(tmp_path))
    echo = torch.cat([torch.zeros(480), clip()[:-480]])
    expected = clip() + 0.5 * echo
    torch.testing.assert_close(wet[:RATE] / rms(wet[:RATE]), expected / rms(expected), atol=2e-3, rtol=0)


def test_reverb_keeps_the_power() -> None:
    for drr_db in (None, 0.0):
        assert rms(corrupt(clip(), "reverb", rt60_s=0.5, drr_db=drr_db)[:RATE]) == pytest.approx(rms(clip()), rel=1e-4)


def test_a_recorded_room_needs_a_folder_with_recordings(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"room_root=FOLDER"):
        corrupt(clip(), "recorded_room", root=None)
    with pytest.raises(ValueError, match="no recordings in this folder"):
        corrupt(clip(), "recorded_room", root=str(tmp_path))
