"""Each effect's level against a computation of another kind: in the time domain, by Welch's method, by a sine's amplitude."""

import math
from pathlib import Path
from typing import Any

import numpy
import pytest
import soundfile
import torch
from conftest import compose_config, spoken
from omegaconf import OmegaConf
from scipy.signal import butter, sosfiltfilt, welch

from digits import audio, conditions

RATE = 48_000


def clip(sample_rate: int = RATE) -> torch.Tensor:
    time = torch.arange(sample_rate) / sample_rate
    return 0.3 * torch.sin(2 * math.pi * 600 * time) * torch.hann_window(sample_rate)


def sine(hz: float, seconds: float = 1.0) -> torch.Tensor:
    return torch.sin(2 * math.pi * hz * torch.arange(round(seconds * RATE)) / RATE)


def word(digit: int = 3) -> torch.Tensor:
    return torch.from_numpy(audio.resample(spoken(digit, 0, 0), 8000, RATE))


def corrupt(waveform: torch.Tensor, effect: str, key: str = "x", **arguments: Any) -> torch.Tensor:
    return conditions.apply(waveform, RATE, {effect: arguments}, key, voices=[word(digit) for digit in range(10)])


def power_below_4_khz(samples: torch.Tensor) -> float:
    low_pass = butter(10, 4000, fs=RATE, output="sos")
    return float(numpy.mean(sosfiltfilt(low_pass, samples.double().numpy()) ** 2))


def rms(samples: torch.Tensor) -> float:
    return float(samples.double().square().mean().sqrt())


@pytest.fixture
def noise_root(tmp_path: Path) -> Path:
    noise = numpy.random.default_rng(0).standard_normal(32_000) * 0.1
    soundfile.write(tmp_path / "rain.wav", noise, 16_000)
    return tmp_path


@pytest.mark.parametrize("effect", ["white_noise", "pink_noise", "hum", "babble", "recorded_noise"])
@pytest.mark.parametrize("snr_db", [20, 10, 5, 0])
def test_noise_has_its_snr_below_4_khz(effect: str, snr_db: int, noise_root: Path) -> None:
    more: dict[str, Any] = {"root": str(noise_root)} if effect == "recorded_noise" else {}
    noise = corrupt(clip(), effect, snr_db=snr_db, **more) - clip()
    measured = 10 * math.log10(power_below_4_khz(clip()) / power_below_4_khz(noise))
    assert abs(measured - snr_db) < 0.3


@pytest.mark.parametrize(
    ("effect", "slope_db", "expected"), [("white_noise", None, 0), ("pink_noise", None, -3), ("pink_noise", -6, -6)]
)
def test_noise_has_its_slope(effect: str, slope_db: float | None, expected: float) -> None:
    more: dict[str, Any] = {} if slope_db is None else {"slope_db": slope_db}
    noise = corrupt(clip().repeat(8), effect, snr_db=0, **more) - clip().repeat(8)
    frequencies, density = welch(noise.double().numpy(), RATE, nperseg=8192)
    part = (frequencies > 100) & (frequencies < 12_000)
    slope = numpy.polyfit(numpy.log2(frequencies[part]), 10 * numpy.log10(density[part]), 1)[0]
    assert abs(slope - expected) < 0.2


def test_hum_is_the_mains_and_its_harmonics() -> None:
    noise = corrupt(clip(), "hum", snr_db=0, mains_hz=60) - clip()
    spectrum = numpy.abs(numpy.fft.rfft(noise.double().numpy()))  # one second: a bin a hertz
    assert numpy.allclose(spectrum[[120, 180, 600]] / spectrum[60], [1 / 2, 1 / 3, 1 / 10], rtol=0.01)
    harmonics = numpy.zeros(len(spectrum), dtype=bool)
    harmonics[60:2001:60] = True
    assert numpy.sum(spectrum[~harmonics] ** 2) < 1e-4 * numpy.sum(spectrum**2)


def test_babble_without_other_recordings_is_refused() -> None:
    with pytest.raises(ValueError, match="no other recordings to mix babble from"):
        conditions.apply(clip(), RATE, {"babble": {"snr_db": 5}}, "x")


@pytest.mark.parametrize("rt60_s", [0.3, 0.6, 1.0])
@pytest.mark.parametrize("drr_db", [None, -5.0])
def test_reverb_decays_by_60_db_in_rt60(rt60_s: float, drr_db: float | None) -> None:
    click = torch.zeros(2 * RATE)
    click[0] = 1.0
    tail = corrupt(click, "reverb", rt60_s=rt60_s, drr_db=drr_db).double().numpy()[1 : int(rt60_s * RATE)]
    energy = numpy.cumsum(tail[::-1] ** 2)[::-1]  # Schroeder's backward integration
    decay_db = 10 * numpy.log10(energy / energy[0])
    times = numpy.arange(len(decay_db)) / RATE
    part = (decay_db < -5) & (decay_db > -25)
    slope = numpy.polyfit(times[part], decay_db[part], 1)[0]
    assert abs(-60 / slope - rt60_s) < 0.1 * rt60_s


@pytest.mark.parametrize("drr_db", [-7.1, 0.0, 6.0])
def test_reverb_has_its_direct_to_reverberant_ratio(drr_db: float) -> None:
    click = torch.zeros(RATE)
    click[0] = 1.0
    energy = corrupt(click, "reverb", rt60_s=0.5, drr_db=drr_db).double().square()
    assert abs(10 * math.log10(energy[0] / energy[1:].sum()) - drr_db) < 0.2


def test_recorded_room_convolves_from_the_direct_sound_on(tmp_path: Path) -> None:
    response = numpy.zeros(4800)
    response[1000], response[1480] = 0.5, 0.25
    soundfile.write(tmp_path / "room.wav", response, RATE)
    wet = corrupt(clip(), "recorded_room", root=str(tmp_path))
    echo = torch.cat([torch.zeros(480), clip()[:-480]])
    expected = clip() + 0.5 * echo
    torch.testing.assert_close(wet[:RATE] / rms(wet[:RATE]), expected / rms(expected), atol=2e-3, rtol=0)


@pytest.mark.parametrize(("low_hz", "high_hz", "order"), [(300, 3400, 8), (500, 7000, 4)])
def test_band_is_3_db_down_at_its_edges(low_hz: float, high_hz: float, order: int) -> None:
    def gain_db(hz: float) -> float:
        middle = slice(RATE // 4, 3 * RATE // 4)
        filtered = corrupt(sine(hz), "band", low_hz=low_hz, high_hz=high_hz, order=order)
        return 20 * math.log10(rms(filtered[middle]) / rms(sine(hz)[middle]))

    assert abs(gain_db(low_hz) + 3) < 0.1
    assert abs(gain_db(high_hz) + 3) < 0.1
    assert abs(gain_db(math.sqrt(low_hz * high_hz))) < 0.1
    assert abs(gain_db(low_hz / 2) + 6.02 * order) < 0.5


def test_equalizer_stays_within_its_range_and_uses_it() -> None:
    click = torch.zeros(RATE)
    click[RATE // 2] = 1.0  # the filter has no delay: half of its answer comes before
    gains = [20 * torch.log10(torch.fft.rfft(corrupt(click, "equalizer", key, range_db=12)).abs()[100:8000]) for key in "abcdef"]
    assert max(float(gain.max()) for gain in gains) < 12.5
    assert max(float(gain.max() - gain.min()) for gain in gains) > 12


@pytest.mark.parametrize("drive_db", [10, 20])
def test_clipping_flattens_what_is_above_full_scale(drive_db: float) -> None:
    clipped = corrupt(sine(100), "clipping", drive_db=drive_db)
    share = float((clipped.abs() >= 1).float().mean())
    assert abs(share - (1 - 2 / math.pi * math.asin(10 ** (-drive_db / 20)))) < 0.01
    assert float(clipped.abs().max()) == 1


@pytest.mark.parametrize("peak_db", [-40, -20, 0])
def test_level_is_the_peak_in_16_bits(peak_db: float) -> None:
    levelled = corrupt(clip(), "level", peak_db=peak_db)
    assert abs(20 * math.log10(float(levelled.abs().max())) - peak_db) < 0.05
    steps = levelled.double() * 32767
    assert float((steps - steps.round()).abs().max()) < 1e-3


def test_dc_offset_is_a_constant() -> None:
    assert torch.allclose(corrupt(clip(), "dc_offset", offset=0.5) - clip(), torch.tensor(0.15), atol=1e-4)


def test_mu_law_keeps_4_khz_and_about_38_db() -> None:
    tone = 0.5 * sine(500)
    coded = corrupt(tone, "mu_law")
    middle = slice(RATE // 4, 3 * RATE // 4)
    assert 34 < 20 * math.log10(rms(tone[middle]) / rms(coded[middle] - tone[middle])) < 42  # G.711: about 38 dB over a wide range
    assert rms(corrupt(sine(6000) + sine(500), "mu_law")[middle]) < 1.05 * rms(corrupt(sine(500), "mu_law")[middle])


@pytest.mark.parametrize("file_format", ["MP3", "OGG"])
def test_codecs_lose_more_when_asked_for_smaller_files(file_format: str) -> None:
    def distance(compression: float) -> float:
        decoded = corrupt(word(), "codec", format=file_format, compression=compression)[: len(word())]
        lags = numpy.correlate(decoded.numpy(), word()[: len(decoded)].numpy(), "full")  # a codec may delay
        return 1 - lags.max() / math.sqrt(float(decoded.square().sum() * word().square().sum()))

    assert distance(0.0) < distance(0.99) < 0.3


@pytest.mark.parametrize("fraction", [0.05, 0.15])
def test_dropout_loses_whole_blocks(fraction: float) -> None:
    long = torch.ones(60 * RATE)
    blocks = corrupt(long, "dropout", fraction=fraction).unfold(0, 960, 960).mean(dim=1)
    assert set(blocks.tolist()) == {0.0, 1.0}
    assert abs(float((blocks == 0).float().mean()) - fraction) < 0.02


def test_place_puts_the_clip_into_its_noise() -> None:
    placed = corrupt(clip(), "place", before_s=0.5, after_s=0.25, snr_db=20)
    assert len(placed) == round(1.75 * RATE)
    noise = placed - torch.cat([torch.zeros(RATE // 2), clip(), torch.zeros(RATE // 4)])
    assert abs(10 * math.log10(power_below_4_khz(clip()) / power_below_4_khz(noise)) - 20) < 0.3
    assert rms(noise[: RATE // 4]) == pytest.approx(rms(noise[-RATE // 4 :]), rel=0.5)


def test_speed_changes_pitch_and_tempo_and_tempo_the_tempo_alone() -> None:
    for factor in (0.75, 1.25):
        fast, stretched = corrupt(sine(500), "speed", factor=factor), corrupt(sine(500), "tempo", factor=factor)
        for changed, hz in ((fast, 500 * factor), (stretched, 500)):
            assert abs(len(changed) - RATE / factor) < 10
            assert abs(float(torch.fft.rfft(changed).abs().argmax()) * RATE / len(changed) - hz) < 2


@pytest.mark.parametrize(("pitch", "tract"), [(1.5, 1.2), (2.0, 1.3), (0.85, 0.9)])
def test_voice_moves_pitch_and_resonances_apart(pitch: float, tract: float) -> None:
    """A pulse train of 100 Hz through a resonance at 1,500 Hz: its harmonics' spacing and their strongest region."""
    length = 2 * RATE
    pulses = torch.zeros(length)
    pulses[:: RATE // 100] = 1.0
    time = torch.arange(RATE // 20) / RATE
    resonance = torch.exp(-2 * math.pi * 150 * time) * torch.sin(2 * math.pi * 1500 * time)
    vowel = torch.nn.functional.conv1d(pulses[None, None], resonance.flip(0)[None, None], padding=len(time) - 1)[0, 0, :length]
    changed = corrupt(vowel, "voice", pitch=pitch, tract=tract)
    assert len(changed) == length
    frequencies, power = welch(changed.numpy(), RATE, nperseg=RATE // 4)
    within = (frequencies > 500) & (frequencies < 3500)
    centre = float((frequencies[within] * power[within]).sum() / power[within].sum())
    _, before = welch(vowel.numpy(), RATE, nperseg=RATE // 4)
    assert abs(centre / float((frequencies[within] * before[within]).sum() / before[within].sum()) - tract) < 0.08
    spectrum = numpy.abs(numpy.fft.rfft(numpy.log(power[: round(4000 / 4)])))  # of a comb: its peak is the spacing
    spacing = 4000 / (numpy.argmax(spectrum[12:80]) + 12)
    assert abs(spacing / (100 * pitch) - 1) < 0.06


def test_p_is_a_probability() -> None:
    effects: conditions.Effects = {"dc_offset": {"offset": 0.5, "p": 0.3}}
    changed = [not torch.equal(conditions.apply(clip(), RATE, effects, str(key)), clip()) for key in range(300)]
    assert 0.2 < sum(changed) / len(changed) < 0.4


def test_every_condition_of_the_battery_works_on_a_word_and_is_the_same_each_time() -> None:
    battery = OmegaConf.to_container(compose_config("conditions=battery", "name=x", "run_dir=x").conditions)
    assert isinstance(battery, dict)
    used = {effect for effects in battery.values() for effect in effects}
    of_training = {"speed", "voice", "fragment", "pair", "bursts", "tones"}
    assert set(conditions.EFFECTS) - used == {"recorded_noise", "recorded_room"} | of_training
    voices = [word(digit) for digit in range(10)]
    for name, effects in battery.items():
        first, again, other = (conditions.apply(word(), RATE, effects, key, voices) for key in ("a", "a", "b"))
        assert torch.isfinite(first).all(), name
        assert torch.equal(first, again), name
        drawn = {"white_noise", "pink_noise", "hum", "babble", "reverb", "equalizer", "place", "dropout"} & set(effects)
        assert bool(drawn) != torch.equal(first, other), name


def test_no_effects_leave_the_clip_alone() -> None:
    assert torch.equal(conditions.apply(clip(), RATE, {}, "x"), clip())


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="unknown effect echo; there are white_noise, pink_noise"):
        corrupt(clip(), "echo")
    with pytest.raises(ValueError, match=r"effect hum with .*unexpected keyword argument 'snr'"):
        corrupt(clip(), "hum", snr=5)
    with pytest.raises(ValueError, match=r"noise_root=FOLDER"):
        corrupt(clip(), "recorded_noise", snr_db=5, root=None)
    for effects in (
        {"white_noise": 10},
        {"reverb": None},
        {"codec": {"format": "mp3", "compression": 0.5}},
        {"speed": {"factor": 0.01}},
        {"bursts": {"number": 0}},
    ):
        with pytest.raises(ValueError, match=f"effect {next(iter(effects))} with "):
            conditions.apply(clip(), RATE, effects, "x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="/nowhere: no such folder"):
        corrupt(clip(), "recorded_noise", snr_db=5, root="/nowhere")
    with pytest.raises(ValueError, match="no recording in this folder"):
        corrupt(clip(), "recorded_room", root=str(Path(__file__).parent))
