"""How clips become log-mels, with or without effects on their waveforms."""

import ast
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from digits import audio, effects
from digits.corpora.corpus import Clip
from digits.effects import Effects
from digits.features import FrontEnd

BATCH = 16  # clips per batch of the front end: larger batches fall out of the processor's cache and take up to three times as long
N_VOICES = 60  # other recordings that effects draw from
PACKAGES = ("torch", "torchaudio", "numpy", "scipy", "soxr", "soundfile")


@dataclass(frozen=True)
class Render:
    """Which clips become log-mels, and how.

    Args:
        clips: in the order of the result.
        front_end: arguments of :class:`digits.features.FrontEnd`.
        effects: applied to the waveforms first (:mod:`digits.effects`).
        seed: of the effects.
        voices: recordings for effects that need other talkers, of which :data:`N_VOICES` are used.
        effects_rate_hz: sample rate at which the effects work; None is the front end's.
    """

    clips: Sequence[Clip]
    front_end: dict[str, Any]
    effects: Effects = field(default_factory=dict)
    seed: int = 0
    voices: Sequence[Clip] = ()
    effects_rate_hz: int | None = None

    @property
    def reads_files(self) -> bool:
        """Whether the effects read the user's own files, which may change between runs."""
        return effects.read_files(self.effects)

    def divided(self, size: int) -> "list[Render]":
        """Parts of ``size`` clips, all with the same voices."""
        voices = self._used_voices()
        parts = [self.clips[start : start + size] for start in range(0, len(self.clips), size)]
        return [replace(self, clips=part, voices=voices) for part in parts]

    def part(self, positions: Sequence[int]) -> "Render":
        """Of the clips at these positions, with the same voices as any other part."""
        return replace(self, clips=[self.clips[n] for n in positions], voices=self._used_voices())

    def _used_voices(self) -> tuple[Clip, ...]:
        return tuple(thinned(self.voices)) if effects.need_voices(self.effects) else ()

    @property
    def key(self) -> str:
        """A hash of all that the result depends on: recordings, settings, code and packages."""
        content = [(clip.name, clip.blob) for clip in (*self.clips, *self.voices)]
        in_order = list(self.effects.items())
        settings = [code_digest(), content, self.front_end, in_order, self.seed, self.effects_rate_hz]
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:24]

    def compute(self) -> Tensor:
        """Shape (len(clips), 1, n_mels, frames), float32, dB.

        Raises:
            ValueError: a clip that cannot be read or holds no sound, or an effect that cannot be applied, named in the message.
        """
        front_end = FrontEnd(**self.front_end)
        rate = self.effects_rate_hz or front_end.window.sample_rate
        voices = _read_voices(tuple(self.voices), rate)
        batches = [self.clips[start : start + BATCH] for start in range(0, len(self.clips), BATCH)]
        return torch.cat([front_end([self._waveform(clip, rate, voices) for clip in batch]) for batch in batches])

    def _waveform(self, clip: Clip, rate: int, voices: dict[str, Tensor]) -> tuple[audio.Waveform, int]:
        waveform, own_rate = audio.read(clip.path)
        if not self.effects:
            return waveform, own_rate
        others = [voice for name, voice in voices.items() if name != clip.name]
        sound = torch.from_numpy(audio.resample(waveform, own_rate, rate))
        return effects.apply(sound, rate, self.effects, f"{clip.name} {self.seed}", others).numpy(), rate


def thinned(clips: Sequence[Any]) -> Sequence[Any]:
    """Some :data:`N_VOICES` of them, evenly spread."""
    return clips[:: max(1, len(clips) // N_VOICES)]


@lru_cache(maxsize=2)
def _read_voices(clips: tuple[Clip, ...], rate: int) -> dict[str, Tensor]:
    return {clip.name: torch.from_numpy(audio.resample(*audio.read(clip.path), rate)) for clip in clips}


@cache
def code_digest() -> str:
    """Hash of the code that log-mels depend on, and of its packages' versions: other code may give other log-mels."""
    code = b"".join(path.read_bytes() for path in sorted(_modules("digits.training.render", set())))
    return hashlib.sha256(code + repr([version(name) for name in PACKAGES]).encode()).hexdigest()


def _modules(name: str, found: set[Path]) -> set[Path]:
    """The files of a module of this package and of all modules of it that it imports, directly or not."""
    place = Path(__file__).parents[2].joinpath(*name.split("."))
    path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    if not name.startswith("digits.") or not path.is_file() or path in found:
        return found
    found.add(path)
    for imported in _imports(ast.parse(path.read_bytes())):
        _modules(imported, found)
    return found


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
