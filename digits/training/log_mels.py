"""Log-mels of a corpus's clips, with or without effects: computed once and kept on disk."""

import ast
import hashlib
import io
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from digits import audio, effects
from digits.corpora.corpus import Clip, cache_folder
from digits.effects import Effects
from digits.features import FrontEnd
from digits.files import write_whole

CHUNK = 16  # clips per batch of the front end: larger batches fall out of the processor's cache and take up to three times as long
N_VOICES = 60  # other recordings that effects draw from
PACKAGES = ("torch", "torchaudio", "numpy", "scipy", "soxr", "soundfile")


def log_mels(
    clips: Sequence[Clip],
    front_end: dict[str, Any],
    effects: Effects | None = None,
    seed: int = 0,
    voices: Sequence[Clip] = (),
    effects_rate_hz: int | None = None,
) -> Tensor:
    """Log-mels of clips, from the cache if it has them.

    Args:
        clips: in the order of the result.
        front_end: arguments of :class:`digits.features.FrontEnd`.
        effects: applied to the waveforms first (:mod:`digits.effects`).
        seed: of the effects.
        voices: recordings for effects that need other talkers.
        effects_rate_hz: sample rate at which the effects work; None is the front end's.

    Returns:
        Shape (len(clips), 1, n_mels, frames), float32, dB.

    Raises:
        ValueError: a clip that cannot be read or holds no sound, or an effect that cannot be applied, named in the message.
    """
    render = Render(front_end, effects or {}, seed, tuple(voices[:: max(1, len(voices) // N_VOICES)]), effects_rate_hz)
    if render.reads_files:
        return torch.cat(_compute(clips, render))
    path = cache_folder() / "log_mels" / f"{_cache_key(clips, render)}.npy"
    cached = _load(path)
    if cached is None:
        cached = torch.cat(_compute(clips, render))
        _save(path, cached)
    return cached


@dataclass(frozen=True)
class Render:
    """How clips become log-mels; see :func:`log_mels`."""

    front_end: dict[str, Any]
    effects: Effects
    seed: int
    voices: tuple[Clip, ...]
    effects_rate_hz: int | None

    @property
    def reads_files(self) -> bool:
        """Whether the effects read the user's own files, which may change between runs."""
        return effects.read_files(self.effects)

    @property
    def used_voices(self) -> tuple[Clip, ...]:
        return self.voices if effects.need_voices(self.effects) else ()


def _compute(clips: Sequence[Clip], render: Render) -> list[Tensor]:
    front_end = FrontEnd(**render.front_end)
    rate = render.effects_rate_hz or front_end.window.sample_rate
    voices = {clip.name: torch.from_numpy(audio.resample(*audio.read(clip.path), rate)) for clip in render.used_voices}

    def read(clip: Clip) -> tuple[audio.Waveform, int]:
        waveform, own_rate = audio.read(clip.path)
        if not render.effects:
            return waveform, own_rate
        others = [voice for name, voice in voices.items() if name != clip.name]
        sound = torch.from_numpy(audio.resample(waveform, own_rate, rate))
        return effects.apply(sound, rate, render.effects, f"{clip.name} {render.seed}", others).numpy(), rate

    chunks = [clips[start : start + CHUNK] for start in range(0, len(clips), CHUNK)]
    return [front_end([read(clip) for clip in chunk]) for chunk in chunks]


def _cache_key(clips: Sequence[Clip], render: Render) -> str:
    content = [(clip.name, clip.blob) for clip in (*clips, *render.used_voices)]
    in_order = list(render.effects.items())
    settings = [_code_digest(), content, render.front_end, in_order, render.seed, render.effects_rate_hz]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:24]


@cache
def _code_digest() -> str:
    """Hash of the code that log-mels depend on, and of its packages' versions: other code may give other log-mels."""
    code = b"".join(path.read_bytes() for path in sorted(_modules("digits.training.log_mels", set())))
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


def _load(path: Path) -> Tensor | None:
    """A cache file's tensor, or None if there is none, or if its checksum says that it is damaged."""
    try:
        content = path.read_bytes()
    except (FileNotFoundError, PermissionError):  # the latter: another user's, in a shared cache
        return None
    digest, payload = content[:32], memoryview(content)[32:]
    if hashlib.sha256(payload).digest() != digest:
        warnings.warn(f"{path}: damaged, computed again", stacklevel=2)
        return None
    return torch.from_numpy(numpy.load(io.BytesIO(payload), allow_pickle=False))


def _save(path: Path, tensor: Tensor) -> None:
    payload = io.BytesIO()
    numpy.save(payload, tensor.numpy())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, hashlib.sha256(payload.getbuffer()).digest() + payload.getbuffer())
    except OSError as error:  # a full disk costs time in the next run, but not this run
        warnings.warn(f"{path}: log-mels not kept ({error.strerror})", stacklevel=2)
