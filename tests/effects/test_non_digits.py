import torch
from support import spoken

from digits import audio, effects, word_window
from digits.effects import non_digits
from digits.effects.scene import Scene, band_power

RATE = 16_000


def word(digit: int = 3) -> torch.Tensor:
    return torch.from_numpy(audio.resample(spoken(digit, 0, 0), 8000, RATE))


def make(effect: str, key: str = "x", **arguments: float) -> torch.Tensor:
    return effects.apply(word(), RATE, {effect: arguments}, key, [word(5)])


def test_a_fragment_is_a_stretch_of_its_word() -> None:
    (trimmed,) = torch.from_numpy(word_window.trim(word().numpy(), RATE, margin_ms=0))[None]
    for key in "abcdef":
        fragment = make("fragment", key, share=0.4)
        assert abs(len(fragment) / len(trimmed) - 0.4) < 0.01
        inner = fragment[100:-100]  # without the smoothed ends
        places = trimmed.unfold(0, len(inner), 1)
        assert (places - inner).abs().amax(dim=1).min() == 0
        assert fragment[0] == fragment[-1] == 0


def test_a_pair_is_one_word_after_the_other_at_the_same_power() -> None:
    first, second = (word_window.trim(word(digit).numpy(), RATE, margin_ms=0) for digit in (3, 5))
    pair = make("pair", gap_s=0.05)
    assert len(pair) == len(first) + len(second) + 0.05 * RATE
    powers = [part.square().mean() for part in (pair[: len(first)], pair[-len(second) :])]
    torch.testing.assert_close(powers[0], powers[1], rtol=1e-3, atol=0)
    kept = word_window.trim(torch.nn.functional.pad(pair, (RATE, RATE)).numpy(), RATE, margin_ms=0)
    assert len(kept) > 0.9 * len(pair)  # the front end must see both, or it would be the digit that it is not


def test_bursts_and_tones_take_the_place_of_the_recording_or_join_it() -> None:
    for effect in ("bursts", "tones"):
        replaced = [make(effect, key, number=3) for key in "abcdefgh"]
        lengths = [len(sound) / RATE for sound in replaced]
        assert all(non_digits.REPLACED_S[0] <= length <= non_digits.REPLACED_S[1] for length in lengths)
        assert len(set(lengths)) == 8
        assert all(sound.isfinite().all() and sound.abs().max() > 0 for sound in replaced)
        joined = make(effect, number=3, snr_db=10)
        assert len(joined) == len(word())
        ratio = band_power(word(), RATE) / band_power(joined - word(), RATE)
        torch.testing.assert_close(10 * ratio.log10(), torch.tensor(10.0), atol=0.1, rtol=0)


def test_tones_have_pitches_and_bursts_have_none() -> None:
    """Spectral flatness of the loudest 100 ms: near 0 for a few harmonics, far above for noise."""

    def flatness(sound: torch.Tensor) -> float:
        loudest = int(sound.square().unfold(0, 1600, 400).mean(dim=1).argmax()) * 400
        power = torch.fft.rfft(sound[loudest : loudest + 1600] * torch.hann_window(1600)).abs().square()[5:400] + 1e-12
        return float(power.log().mean().exp() / power.mean())

    keys = [str(key) for key in range(20)]
    tonal, noisy = (sorted(flatness(make(effect, key, number=1)) for key in keys)[10] for effect in ("tones", "bursts"))
    assert tonal < 0.1 * noisy


def test_a_swell_rises_and_falls_by_sixty_decibels_in_its_own_times() -> None:
    scene = Scene(RATE, torch.Generator().manual_seed(0))
    falls = []
    for _ in range(40):
        envelope = 20 * non_digits._swell(RATE, scene).clamp_min(1e-6).log10()
        assert -3 < envelope.max() <= 0
        peak = int(envelope.argmax())
        quiet = (envelope[peak:] < -60).nonzero()
        falls.append(int(quiet[0]) / RATE if len(quiet) else 1.0)
        assert (envelope[peak:].diff() <= 0).all()
        assert (envelope[: peak + 1].diff() >= 0).all()
    assert min(falls) < 0.03
    assert max(falls) > 0.3
