"""What several tests use: a corpus that a network learns in seconds, trainings on it, and commands run as a user would."""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import pytest
import soundfile
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from digits import audio, cli
from digits.training import runs

REPOSITORY = Path(__file__).parent.parent
NO_SKIPS = bool(os.environ.get("DIGITS_NO_SKIPS"))  # set by CI: there a missing part is a failure, not a skip


def module_of(command: str) -> str:
    """The module that a command runs; a package runs its ``__main__``."""
    return f"digits.{command}.__main__" if (REPOSITORY / "digits" / command).is_dir() else f"digits.{command}"


def require(condition: object, reason: str) -> None:
    """Skip the test with its reason where something it needs is missing."""
    if not condition:
        if NO_SKIPS:
            pytest.fail(f"must run here, but {reason}")
        pytest.skip(reason)


def sine(frequency: float, sample_rate: int, seconds: float = 0.5, amplitude: float = 0.5) -> audio.Waveform:
    """A sine, shape (samples,)."""
    time = numpy.arange(round(seconds * sample_rate)) / sample_rate
    return (amplitude * numpy.sin(2 * math.pi * frequency * time)).astype(numpy.float32)


def spoken(digit: int, speaker: int, take: int, sample_rate: int = 8000) -> numpy.ndarray:
    """Something a network can learn: two gliding tones whose pitches tell the digit, with a little noise before, in and after."""
    random = numpy.random.default_rng((digit, speaker, take))
    length = int((0.25 + 0.1 * random.random()) * sample_rate)
    time = numpy.arange(length) / sample_rate
    low, high = 300 + 90 * digit, 1300 + 170 * ((digit * 7) % 10)
    glide = 1 + 0.2 * (digit % 3 - 1) * time
    tone = numpy.sin(2 * numpy.pi * low * time * glide) + 0.6 * numpy.sin(2 * numpy.pi * high * time * glide)
    pause = int(0.08 * sample_rate)
    sound = numpy.concatenate([numpy.zeros(pause), 0.25 * tone * numpy.hanning(length), numpy.zeros(pause)])
    return (sound + 0.001 * random.standard_normal(len(sound))).astype("float32")


def sequence(path: Path, digits: list[int], gap_s: float = 0.6, sample_rate: int = audio.SAMPLE_RATE) -> Path:
    """A recording of several words of the tiny corpus's kind, with a faint noise floor."""
    parts: list[numpy.ndarray] = [numpy.zeros(sample_rate)]
    for digit in digits:
        parts += [audio.resample(spoken(digit, 0, 50), 8000, sample_rate), numpy.zeros(round(gap_s * sample_rate))]
    sound = numpy.concatenate(parts)
    sound += 2e-4 * numpy.random.default_rng(0).standard_normal(len(sound))
    soundfile.write(path, sound, sample_rate, subtype="PCM_16")
    return path


def write_corpus(root: Path, takes: int = 12, speakers: tuple[str, ...] = ("ann", "bob")) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for digit in range(10):
        for index, speaker in enumerate(speakers):
            for take in range(takes):
                soundfile.write(root / f"{digit}_{speaker}_{take}.wav", spoken(digit, index, take), 8000)
    return root


def compose_config(*overrides: str, name: str = "train") -> DictConfig:
    """The config of ``digits train OVERRIDES``; Hydra's own interpolations need run_dir and name among them."""
    with initialize_config_dir(cli.CONF, version_base="1.3"):
        return compose(name, overrides=list(overrides))


def tiny_run(tiny_corpus: Path, run_dir: Path, *overrides: str) -> DictConfig:
    """A training on the tiny corpus, as short as it can be unless the overrides say otherwise."""
    place = [f"run_dir={run_dir}", "name=tiny", "data=folder", f"data.root={tiny_corpus}", "trainer.accelerator=cpu"]
    if not any(override.startswith("conditions=") for override in overrides):
        place.append("conditions=clean")
    return compose_config(*place, "export=false", *overrides)


@dataclass(frozen=True)
class Outcome:
    """What a command left behind when it ended."""

    returncode: int
    stdout: str
    stderr: str


def shell(
    *arguments: str, cwd: Path = REPOSITORY, extra: dict[str, str] | None = None, timeout_s: float = 120
) -> "subprocess.CompletedProcess[str]":
    """``digits ARGUMENTS`` in a process of its own."""
    command = [sys.executable, "-m", "digits", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=os.environ | (extra or {}), timeout=timeout_s, check=False
    )


def start(*arguments: str, extra: dict[str, str] | None = None) -> "subprocess.Popen[str]":
    """``digits ARGUMENTS``, still running."""
    command = [sys.executable, "-m", "digits", *arguments]
    return subprocess.Popen(
        command, cwd=REPOSITORY, env=os.environ | (extra or {}), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Return as soon as the condition holds, and fail if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"nothing happened for {seconds:.0f} s"
        time.sleep(0.02)


SPEAKERS = ("ann", "bob", "cid")


def answer_row(condition: str, clip: int, right: bool, confidence: float = 3.0) -> dict[str, Any]:
    """A row of a run's predictions."""
    digit = clip % 10
    predicted = digit if right else (digit + 1) % 10
    logits = [confidence if d == predicted else 0.0 for d in range(10)]
    name = SPEAKERS[clip % len(SPEAKERS)]
    return {
        "condition": condition,
        "clip": f"{digit}_{name}_{clip}.wav",
        "speaker": name,
        "digit": digit,
        "predicted": predicted,
        "probability": 0.5,
        "logits": logits,
    }


def add_run(folder: Path, experiment: str, seed: int, rows: list[dict[str, Any]]) -> None:
    """A finished run, as the studies read it."""
    folder.mkdir(parents=True)
    metrics = {"experiment": experiment, "corpus": "fsdd", "split": "official", "seed": seed, "val/acc": 1.0, "test/acc": 0.9}
    more = {"parameters": 10, "train_s": 5.0, "git_commit": "abc", "machine": "m", "versions": {"torch": "2"}}
    (folder / "metrics.json").write_text(json.dumps(metrics | more))
    runs.write_predictions(folder / "predictions.csv", rows)
