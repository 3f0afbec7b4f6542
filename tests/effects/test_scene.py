"""What effects are built from."""

import math
from pathlib import Path

import pytest
import soundfile
import torch
from signals import RATE, clip, power_below_4_khz, rms, sine

from digits.effects import scene
from digits.effects.scene import Scene


def make(seed: int = 0) -> Scene:
    return Scene(RATE, torch.Generator().manual_seed(seed), [clip(), sine(440)])


def test_all_randomness_comes_from_the_generator() -> None:
    one, again, other = ([s.uniform(2, 3), s.integer(100), *s.noise(3).tolist()] for s in (make(), make(), make(1)))
    assert one == again != other
    assert 2 <= one[0] < 3
    assert 0 <= one[1] < 100


def test_a_voice_is_one_of_the_others_and_none_is_an_error() -> None:
    one = make()
    assert {float(one.voice().abs().max()) > 0.5 for _ in range(20)} == {True, False}
    with pytest.raises(ValueError, match="no other recordings to take a voice from"):
        Scene(RATE, torch.Generator()).voice()


def test_an_effect_says_what_it_needs() -> None:
    def echo(waveform: torch.Tensor, scene: Scene, gain: float) -> torch.Tensor:
        return gain * waveform

    plain, needy = scene.effect()(echo), scene.effect(needs_voices=True, reads_files=True)(echo)
    assert (plain.needs_voices, plain.reads_files) == (False, False)
    assert (needy.needs_voices, needy.reads_files) == (True, True)
    assert torch.equal(plain(clip(), make(), gain=2.0), 2 * clip())


@pytest.mark.parametrize("length", [RATE, 12_345])
def test_band_power_is_the_power_below_4_khz(length: int) -> None:
    sound = (0.3 * sine(600) + 0.7 * sine(9000))[:length] + 0.1
    assert float(scene.band_power(sound, RATE)) == pytest.approx(power_below_4_khz(sound), rel=0.02)


def test_noise_is_added_at_its_ratio() -> None:
    noisy = scene.add(clip(), sine(1000), make(), 6.0)
    assert 20 * math.log10(rms(clip()) / rms(noisy - clip())) == pytest.approx(6, abs=0.05)


def test_a_gain_of_one_and_an_impulse_response_of_one_change_nothing() -> None:
    torch.testing.assert_close(scene.shape_spectrum(clip(), make(), torch.ones_like), clip(), atol=1e-5, rtol=0)
    torch.testing.assert_close(scene.convolve(clip(), torch.tensor([1.0])), clip(), atol=1e-5, rtol=0)


def test_gains_are_exact_at_the_octaves_and_linear_between() -> None:
    octaves = torch.arange(9.0)
    hertz = torch.tensor([20.0, 62.5, 1000.0, 1000 * math.sqrt(2), 15_999.0, 20_000.0])
    torch.testing.assert_close(scene.octave_gain_db(hertz, octaves), torch.tensor([0, 0, 4, 4.5, 8, 8]), atol=1e-3, rtol=0)


def test_tile_repeats_without_end() -> None:
    assert scene.tile(torch.tensor([1, 2, 3]), 7, 2).tolist() == [3, 1, 2, 3, 1, 2, 3]


def test_a_recording_comes_at_the_scene_s_rate(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "tone.wav", 0.5 * sine(500)[::3].numpy(), 16_000)
    found = scene.recording(str(tmp_path), make())
    assert abs(len(found) - RATE) < 10
    assert rms(found) == pytest.approx(0.5 / math.sqrt(2), rel=0.01)
