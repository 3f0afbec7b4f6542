"""The table of effects and how a config's effects are applied; each family has its own tests beside these."""

import zlib

import pytest
import torch
from omegaconf import OmegaConf
from signals import RATE, clip, corrupt, word
from support import compose_config

from digits import effects
from digits.effects import Effects
from digits.effects.scene import Scene


def test_p_is_a_probability() -> None:
    half: Effects = {"dc_offset": {"offset": 0.5, "p": 0.3}}
    changed = [not torch.equal(effects.apply(clip(), RATE, half, str(key)), clip()) for key in range(300)]
    assert 0.2 < sum(changed) / len(changed) < 0.4


def test_every_condition_of_the_battery_works_on_a_word_and_is_the_same_each_time() -> None:
    battery = OmegaConf.to_container(compose_config("conditions=battery", "name=x", "run_dir=x").conditions)
    assert isinstance(battery, dict)
    used = {effect for condition in battery.values() for effect in condition}
    of_training = {"speed", "voice", "fragment", "pair", "bursts", "tones"}
    assert set(effects.EFFECTS) - used == {"recorded_noise", "recorded_room"} | of_training
    voices = [word(digit) for digit in range(10)]
    for name, condition in battery.items():
        first, again, other = (effects.apply(word(), RATE, condition, key, voices) for key in ("a", "a", "b"))
        assert torch.isfinite(first).all(), name
        assert torch.equal(first, again), name
        drawn = {"white_noise", "pink_noise", "hum", "babble", "reverb", "equalizer", "place", "drop_packets"} & set(condition)
        assert bool(drawn) != torch.equal(first, other), name


def test_no_effects_leave_the_clip_alone() -> None:
    assert torch.equal(effects.apply(clip(), RATE, {}, "x"), clip())


def test_effects_say_what_they_need() -> None:
    with_voices = {name for name in effects.EFFECTS if effects.need_voices({name: {}})}
    assert with_voices == {"babble", "pair"}
    with_files = {name for name in effects.EFFECTS if effects.read_files({name: {}})}
    assert with_files == {"recorded_noise", "recorded_room"}
    several = {"white_noise": {"snr_db": 5}, "babble": {"snr_db": 5}}
    assert effects.need_voices(several)
    assert not effects.read_files(several)
    assert not effects.need_voices({})


def test_an_unknown_effect_is_named_wherever_it_turns_up() -> None:
    for ask in (effects.need_voices, effects.read_files, effects.check, lambda unknown: effects.apply(clip(), RATE, unknown, "x")):
        with pytest.raises(ValueError, match="unknown effect echo; there are white_noise, pink_noise"):
            ask({"echo": {}})


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"white_noise": {"snr": 5}}, "effect white_noise with .*: .*unexpected keyword argument 'snr'"),
        ({"white_noise": {"snr_db": [5]}}, r"effect white_noise: snr_db must be a number or \[lowest, highest\], got \[5\]"),
        ({"white_noise": {"snr_db": 5, "p": 1.5}}, "effect white_noise: p must be a number from 0 to 1, got 1.5"),
        ({"white_noise": {"snr_db": 5, "p": "often"}}, "effect white_noise: p must be a number from 0 to 1, got often"),
        ({"white_noise": {"snr_db": "loud"}}, "effect white_noise with .*loud"),
        ({"white_noise": 5}, "effect white_noise with 5: its arguments must be a group"),
        ({"bursts": {"number": [3, 0]}}, "effect bursts with .*number must be at least 1"),
        ({"speed": {"factor": [1.0, -1.0]}}, "effect speed with "),
        ({"recorded_noise": {"snr_db": 5, "root": None}}, "its folder is not set"),
        ({"dc_offset": {"offset": 0.1}, "echo": {}}, "unknown effect echo"),
    ],
)
def test_effects_are_tried_before_hours_are_spent_on_them(chosen: Effects, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        effects.check(chosen)


def test_a_renamed_effect_keeps_its_random_numbers() -> None:
    """The seed is that of the name it had before: the very same blocks are lost."""
    seed = zlib.crc32(b'["clip 0", {"dropout": {"fraction": 0.5}}]')
    scene = Scene(RATE, torch.Generator().manual_seed(seed))
    expected = effects.EFFECTS["drop_packets"](torch.ones(RATE), scene, fraction=0.5)
    assert torch.equal(effects.apply(torch.ones(RATE), RATE, {"drop_packets": {"fraction": 0.5}}, "clip 0"), expected)


def test_effects_are_applied_in_their_order() -> None:
    quiet: Effects = {"level": {"peak_db": -20}}
    loud: Effects = {"dc_offset": {"offset": 0.5}}
    one, other = (effects.apply(clip(), RATE, both, "x") for both in ({**quiet, **loud}, {**loud, **quiet}))
    assert float(one.max()) == pytest.approx(0.15, abs=1e-3)
    assert float(other.max()) == pytest.approx(0.1, abs=1e-3)


def test_a_range_is_drawn_anew_for_each_key() -> None:
    offsets = [float(corrupt(clip(), "dc_offset", str(key), offset=[0.2, 0.4])[0] / 0.3) for key in range(50)]
    assert 0.2 <= min(offsets) < 0.25
    assert 0.35 < max(offsets) <= 0.4


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"effect hum with .*unexpected keyword argument 'snr'"):
        corrupt(clip(), "hum", snr=5)
    for wrong in (
        {"white_noise": 10},
        {"reverb": None},
        {"codec": {"format": "mp3", "compression": 0.5}},
        {"speed": {"factor": 0.01}},
        {"bursts": {"number": 0}},
    ):
        with pytest.raises(ValueError, match=f"effect {next(iter(wrong))} with "):
            effects.apply(clip(), RATE, wrong, "x")  # type: ignore[arg-type]
