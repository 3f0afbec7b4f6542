"""A person's own voice: a change to the head of a trained model, fitted to a few recordings of each digit, without torch.

The model's log-probabilities are shifted by a linear function of the features that its head judges. The function is fitted by
multinomial logistic regression, starting from the model as it is and held close to it by a penalty. Two things keep it from taking
whatever the person says for a digit: features are counted from the mean of the recordings, so that only what tells the digits apart
is learnt, and the recordings played backwards, which are speech but no digits, must keep the answers that they had.
experiments/enroll measures it.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
from numpy.typing import NDArray

from digits.audio import Waveform
from digits.corpora.corpus import N_DIGITS
from digits.files import write_whole
from digits.word_window import WordWindow

if TYPE_CHECKING:
    from digits.recognition.model_files import Model

SUFFIX = ".voice"
FORMAT = 1
MAX_BYTES = 1_000_000  # ours have 50,000
N_OUTPUTS = N_DIGITS + 1  # the last is "no digit"
PENALTY = 0.05  # on squared weights; experiments/enroll
STEPS = 400  # of gradient descent, which then has long converged
LEAST = 1e-7  # of a probability before its logarithm, float32's resolution
BATCH = 32
DAMAGED = "not a voice that digits enroll wrote, or damaged"

Recording = tuple[Waveform, int]  # and its sample rate, Hz
Numbers = NDArray[numpy.float64]


@dataclass(frozen=True)
class Voice:
    """What a voice changes, and of which model.

    Args:
        weights: shape (11, n_features).
        bias: shape (11,).
        model: name or path of the model file.
        sha256: of that file.
    """

    weights: Numbers
    bias: Numbers
    model: str
    sha256: str

    def write(self, path: Path) -> None:
        """Write the voice as JSON; the file is replaced as a whole.

        Raises:
            OSError: it cannot be written.
        """
        numbers = {"weights": _rounded(self.weights), "bias": _rounded(self.bias)}
        content = {"format": FORMAT, "model": self.model, "sha256": self.sha256, **numbers}
        write_whole(path, json.dumps(content).encode())


def read(path: Path) -> Voice:
    """Read a voice; nothing in the file is executed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or another program's.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such voice")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES:,} bytes")
        content = json.loads(path.read_bytes())
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, this version of digits reads {FORMAT}")
        weights, bias = (numpy.array(content[name], dtype=numpy.float64) for name in ("weights", "bias"))
        if weights.ndim != 2 or len(weights) != N_OUTPUTS or bias.shape != (N_OUTPUTS,):
            raise ValueError("numbers in another shape")
        if not (numpy.isfinite(weights).all() and numpy.isfinite(bias).all()):
            raise ValueError("numbers that are not finite")
        if not isinstance(content["model"], str) or not isinstance(content["sha256"], str):
            raise ValueError("no name of its model")
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path}: {DAMAGED} ({' '.join(str(error).split())})") from error
    return Voice(weights, bias, content["model"], content["sha256"])


class PersonalModel:
    """A model with a voice; a :class:`digits.recognition.model_files.Model` itself."""

    def __init__(self, model: "Model", voice: Voice) -> None:
        self.model, self.voice = model, voice

    @property
    def window(self) -> WordWindow:
        return self.model.window

    @property
    def threshold(self) -> float:
        return self.model.threshold

    def outputs(self, windows: NDArray[numpy.float32]) -> dict[str, NDArray[numpy.float32]]:
        outputs = self.model.outputs(windows)
        shift = outputs["features"] @ self.voice.weights.T + self.voice.bias
        shifted = _softmax(_logarithms(outputs["probabilities"]) + shift)
        return outputs | {"probabilities": shifted[:, :N_DIGITS].astype(numpy.float32)}

    def __call__(self, windows: NDArray[numpy.float32]) -> NDArray[numpy.float32]:
        return self.outputs(windows)["probabilities"]


def sha256(path: Path) -> str:
    """Of a model file, by which a voice knows its model."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Examples:
    """Recordings of digits, as a model's head sees them; ``backwards`` are the same recordings played backwards.

    Args:
        labels: shape (recordings,), the digits that were said.
        features, backwards: shape (recordings, n_features).
        logits, backwards_logits: shape (recordings, 11), log-probabilities.
    """

    labels: NDArray[numpy.int64]
    features: Numbers
    logits: Numbers
    backwards: Numbers
    backwards_logits: Numbers

    def part(self, chosen: NDArray[numpy.bool_]) -> "Examples":
        """Those that are chosen, by a mask of shape (recordings,)."""
        return Examples(*(values[chosen] for values in vars(self).values()))


def examples(model: "Model", recordings: Sequence[Recording], labels: Sequence[int]) -> Examples:
    """What a model makes of recordings of one digit each.

    Raises:
        ValueError: a recording that cannot hold a word, or a model that does not show its features.
    """
    windows = [model.window(waveform, sample_rate) for waveform, sample_rate in recordings]
    backwards = [model.window(waveform[::-1], sample_rate) for waveform, sample_rate in recordings]
    return Examples(numpy.array(labels), *_features(model, windows), *_features(model, backwards))


def _features(model: "Model", windows: list[Waveform]) -> tuple[Numbers, Numbers]:
    batches = [model.outputs(numpy.stack(windows[start : start + BATCH])) for start in range(0, len(windows), BATCH)]
    if "features" not in batches[0]:
        raise ValueError("this model was exported by an older version of digits and cannot learn a voice: export it again")
    features, probabilities = (numpy.concatenate([batch[name] for batch in batches]) for name in ("features", "probabilities"))
    return features.astype(numpy.float64), _logarithms(probabilities)


def fit(seen: Examples) -> tuple[Numbers, Numbers]:
    """Weights (11, n_features) and bias (11,) of a voice, by accelerated gradient descent (Nesterov); repeatable to the last bit.

    Raises:
        ValueError: a digit without a recording.
    """
    if missing := sorted(set(range(N_DIGITS)) - set(seen.labels.tolist())):
        raise ValueError(f"at least one recording of each digit is needed; there is none of {', '.join(map(str, missing))}")
    middle = seen.features.mean(axis=0)
    scale = numpy.sqrt(((seen.features - middle) ** 2).sum(axis=1).mean())
    inputs = (numpy.concatenate([seen.features, seen.backwards]) - middle) / scale
    logits = numpy.concatenate([seen.logits, seen.backwards_logits])
    targets = numpy.concatenate([numpy.eye(N_OUTPUTS)[seen.labels], _softmax(seen.backwards_logits)])
    steepest = numpy.linalg.eigvalsh(inputs @ inputs.T)[-1] / 2 + PENALTY  # bounds the second derivative: the softmax's is <= 1/2
    weights = ahead = numpy.zeros((N_OUTPUTS, inputs.shape[1]))
    momentum = 1.0
    for _ in range(STEPS):
        gradient = (_softmax(logits + inputs @ ahead.T) - targets).T @ inputs + PENALTY * ahead
        following, after = ahead - gradient / steepest, (1 + numpy.sqrt(1 + 4 * momentum**2)) / 2
        ahead = following + (momentum - 1) / after * (following - weights)
        weights, momentum = following, after
    weights = weights / scale
    return weights, -weights @ middle


def answers(seen: Examples, weights: Numbers | None = None, bias: Numbers | None = None) -> NDArray[numpy.int64]:
    """The outputs that win, shape (recordings,), 0 to 9 or 10 for "no digit"; without weights, those of the model as it is."""
    shift = 0 if weights is None or bias is None else seen.features @ weights.T + bias
    return (seen.logits + shift).argmax(axis=1)


def _logarithms(probabilities: NDArray[numpy.float32]) -> Numbers:
    """Of the digits' probabilities (batch, 10) and of what they lack to 1, (batch, 11)."""
    digits = probabilities.astype(numpy.float64)
    return numpy.log(numpy.maximum(numpy.column_stack([digits, 1 - digits.sum(axis=1)]), LEAST))


def _softmax(logits: Numbers) -> Numbers:
    powers = numpy.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _rounded(numbers: Numbers) -> Any:
    return [[*map(_significant, row)] for row in numbers.tolist()] if numbers.ndim == 2 else [*map(_significant, numbers.tolist())]


def _significant(number: float) -> float:
    return float(f"{number:.6g}")
