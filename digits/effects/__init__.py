"""What can happen to a waveform before the front end sees it: one table of effects, for training copies and test conditions alike.

Effects are written as a config writes them, a dictionary of names and arguments that are applied in order:
``{reverb: {rt60_s: 0.6}, white_noise: {snr_db: 10}}``. An argument given as ``[low, high]`` is drawn uniformly for each clip, and
an effect with ``p`` is applied with that probability. An empty dictionary leaves the clip as it is.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from digits import audio
from digits.effects import channel, noise, non_digits, rooms, voices
from digits.effects.scene import Effect, Scene

FAMILIES = (noise, rooms, channel, voices, non_digits)
EFFECTS = {name: item for family in FAMILIES for name, item in vars(family).items() if isinstance(item, Effect)}
_SEED_NAMES = {"drop_packets": "dropout"}  # still seeded by its old name, so that renaming it changed no figure

CHECKED_RATE_HZ = 16_000
MAX_ARGUMENT = 24_000  # no frequency, level, duration or count above this makes sense

Effects = Mapping[str, Mapping[str, Any]]


def apply(waveform: Tensor, sample_rate: int, effects: Effects, key: str, voices: Sequence[Tensor] = ()) -> Tensor:
    """Apply effects to one clip; the result depends on the arguments alone, ``key`` (clip and seed) among them.

    Args:
        waveform: shape (samples,).
        sample_rate: of the waveform, Hz.
        effects: name -> arguments, see the module's description.
        key: seeds the random values, together with the effects.
        voices: other recordings at that rate, shape (samples,) each, for effects that need them.

    Raises:
        ValueError: an unknown effect or argument, or a value outside its range.
    """
    scene = Scene(sample_rate, torch.Generator().manual_seed(_seed(effects, key)), voices)
    for name, arguments in effects.items():
        _known([name])
        try:
            if "p" in arguments and scene.uniform(0, 1) >= arguments["p"]:
                continue
            drawn = {argument: _draw(value, scene) for argument, value in arguments.items() if argument != "p"}
            waveform = EFFECTS[name](waveform, scene, **drawn)
        except (TypeError, ValueError, KeyError, ArithmeticError, RuntimeError) as error:
            raise ValueError(f"effect {name} with {arguments}: {error}") from error
    return waveform


def _seed(effects: Effects, key: str) -> int:
    """Not of where the user's recordings lie: the same ones in another folder give the same result."""
    seeds = {
        _SEED_NAMES.get(name, name): {argument: value for argument, value in _group(name, arguments).items() if argument != "root"}
        for name, arguments in effects.items()
    }
    return zlib.crc32(json.dumps([key, seeds], sort_keys=True).encode())


def _draw(value: Any, scene: Scene) -> Any:
    return scene.uniform(*value) if isinstance(value, list | tuple) else value


def need_voices(effects: Effects) -> bool:
    """Whether any of the effects needs other recordings."""
    return any(EFFECTS[name].needs_voices for name in _known(effects))


def read_files(effects: Effects) -> bool:
    """Whether any of the effects reads the user's own files, which may change between runs."""
    return any(EFFECTS[name].reads_files for name in _known(effects))


def check(effects: Effects) -> None:
    """Try each effect on a test sound, at both ends of each argument's range.

    Raises:
        ValueError: an unknown effect or argument, a value outside its range, or a result that is silent or not finite.
    """
    time_s = torch.arange(CHECKED_RATE_HZ // 2) / CHECKED_RATE_HZ
    sound = torch.sin(3000 * time_s**1.3) * torch.hann_window(len(time_s))
    for name, arguments in effects.items():
        p = _group(name, arguments).get("p", 1)
        if not isinstance(p, int | float) or not 0 <= p <= 1:
            raise ValueError(f"effect {name}: p must be a number from 0 to 1, got {p}")
        for end in (0, 1):
            ends = {key: _ends(name, key, value)[end] for key, value in arguments.items() if key != "p"}
            changed = apply(sound, CHECKED_RATE_HZ, {name: ends}, "check", [sound])
            if not torch.isfinite(changed).all() or changed.abs().max() < audio.MIN_PEAK:
                raise ValueError(f"effect {name} with {ends}: leaves nothing to hear")


def _group(name: str, arguments: Any) -> Mapping[str, Any]:
    if not isinstance(arguments, Mapping):
        raise ValueError(f"effect {name} with {arguments}: its arguments must be a group, {{}} if there are none")
    return arguments


def _ends(name: str, argument: str, value: Any) -> Sequence[Any]:
    ends = value if isinstance(value, list | tuple) else [value, value]
    if len(ends) != 2 or any(isinstance(end, bool) for end in ends):
        raise ValueError(f"effect {name}: {argument} must be a number or [lowest, highest], got {value}")
    if any(isinstance(end, int | float) and not abs(end) <= MAX_ARGUMENT for end in ends):
        raise ValueError(f"effect {name}: {argument} must be at most {MAX_ARGUMENT}, got {value}")
    return ends


def _known(effects: Sequence[str] | Effects) -> Sequence[str] | Effects:
    for name in effects:
        if name not in EFFECTS:
            raise ValueError(f"unknown effect {name}; there are {', '.join(EFFECTS)}")
    return effects
