"""A person's own voice: a change to the answers of a trained model, fitted to a few recordings of each digit, without torch.

The model's log-probabilities are shifted by a function of the features that its head judges. The function is fitted by kernel
logistic regression with an L2 penalty, starting from the model as it is. Three things keep it from taking whatever is said for a
digit, and from harming others: features are counted from the mean of the recordings, so that only what tells the digits apart is
learnt; the recordings played backwards, which are speech but no digits, must keep the answers that they had; and the kernel, the
product of a linear and a Gaussian one, leaves alone what is unlike the recordings. experiments/enroll measures it.
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
MAX_BYTES = 20_000_000  # of a file; thirty recordings take 150,000
N_OUTPUTS = N_DIGITS + 1  # the last is "no digit"
PENALTY, WIDTH = 0.01, 0.5  # chosen in experiments/enroll
STEPS = 1000  # of gradient descent, which then has long converged
LEAST = 1e-7  # of a probability before its logarithm, float32's resolution
BATCH = 32
DAMAGED = "not a voice that digits enroll wrote, or damaged"

Recording = tuple[Waveform, int]  # and its sample rate, Hz
Numbers = NDArray[numpy.float64]


@dataclass(frozen=True)
class Voice:
    """What a voice changes, and of which model.

    Args:
        middle: mean features of the recordings, shape (n_features,).
        scale: their root mean square distance from it.
        examples: features of the recordings and of what was made from them, from the middle and in units of the scale, shape
            (examples, n_features).
        weights: of the examples in the shift of each log-probability, shape (examples, 11).
        model: name or path of the model file.
        sha256: SHA-256 of that file.
    """

    middle: Numbers
    scale: float
    examples: Numbers
    weights: Numbers
    model: str = ""
    sha256: str = ""

    def shift(self, features: Numbers) -> Numbers:
        """How the log-probabilities change, (batch, n_features) -> (batch, 11)."""
        return _kernel((features - self.middle) / self.scale, self.examples) @ self.weights

    def write(self, path: Path) -> None:
        """Write the voice as JSON; the file is replaced as a whole.

        Raises:
            OSError: it cannot be written.
        """
        numbers = {name: _rounded(getattr(self, name)) for name in ("middle", "scale", "examples", "weights")}
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
        return _checked(content)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path}: {DAMAGED} ({' '.join(str(error).split())})") from error


def _checked(content: dict[str, Any]) -> Voice:
    middle, scale, examples, weights = (
        numpy.array(content[name], dtype=numpy.float64) for name in ("middle", "scale", "examples", "weights")
    )
    if middle.ndim != 1 or scale.ndim or examples.shape != (len(examples), len(middle)):
        raise ValueError("numbers in another shape")
    if weights.shape != (len(examples), N_OUTPUTS):
        raise ValueError("weights in another shape")
    if not all(numpy.isfinite(numbers).all() for numbers in (middle, scale, examples, weights)) or scale <= 0:
        raise ValueError("numbers that are not finite")
    if not isinstance(content["model"], str) or not isinstance(content["sha256"], str):
        raise ValueError("no name of its model")
    return Voice(middle, float(scale), examples, weights, content["model"], content["sha256"])


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
        shifted = _softmax(_logarithms(outputs["probabilities"]) + self.voice.shift(outputs["features"].astype(numpy.float64)))
        return outputs | {"probabilities": shifted[:, :N_DIGITS].astype(numpy.float32)}

    def __call__(self, windows: NDArray[numpy.float32]) -> NDArray[numpy.float32]:
        return self.outputs(windows)["probabilities"]


def sha256(path: Path) -> str:
    """SHA-256 of a model file, by which a voice recognises its model."""
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
    backwards = [(waveform[::-1], sample_rate) for waveform, sample_rate in recordings]
    return Examples(numpy.array(labels), *features(model, recordings), *features(model, backwards))


def features(model: "Model", recordings: Sequence[Recording]) -> tuple[Numbers, Numbers]:
    """Features (recordings, n_features) and log-probabilities (recordings, 11) of recordings of one word each.

    Raises:
        ValueError: as :func:`examples`.
    """
    windows = [model.window(waveform, sample_rate) for waveform, sample_rate in recordings]
    batches = [model.outputs(numpy.stack(windows[start : start + BATCH])) for start in range(0, len(windows), BATCH)]
    if "features" not in batches[0]:
        raise ValueError("this model was exported by an older version of digits and cannot learn a voice: export it again")
    seen, probabilities = (numpy.concatenate([batch[name] for batch in batches]) for name in ("features", "probabilities"))
    return seen.astype(numpy.float64), _logarithms(probabilities)


def fit(seen: Examples) -> Voice:
    """Learn a voice, by accelerated gradient descent (Nesterov); repeatable to the last bit.

    Raises:
        ValueError: a digit without a recording.
    """
    if missing := sorted(set(range(N_DIGITS)) - set(seen.labels.tolist())):
        raise ValueError(f"at least one recording of each digit is needed; there is none of {', '.join(map(str, missing))}")
    middle = seen.features.mean(axis=0)
    scale = float(numpy.sqrt(((seen.features - middle) ** 2).sum(axis=1).mean())) or 1.0
    inputs = (numpy.concatenate([seen.features, seen.backwards]) - middle) / scale
    logits = numpy.concatenate([seen.logits, seen.backwards_logits])
    targets = numpy.concatenate([numpy.eye(N_OUTPUTS)[seen.labels], _softmax(seen.backwards_logits)])
    values, vectors = numpy.linalg.eigh(_kernel(inputs, inputs))
    roots = numpy.sqrt(numpy.maximum(values, 0))
    basis = vectors * roots  # the kernel is basis @ basis.T, so the problem is linear in the basis
    steepest = values[-1] / 2 + PENALTY  # bounds the second derivative: the softmax's is at most 1/2
    found = ahead = numpy.zeros((len(inputs), N_OUTPUTS))
    momentum = 1.0
    for _ in range(STEPS):
        gradient = basis.T @ (_softmax(logits + basis @ ahead) - targets) + PENALTY * ahead
        following, after = ahead - gradient / steepest, (1 + numpy.sqrt(1 + 4 * momentum**2)) / 2
        ahead = following + (momentum - 1) / after * (following - found)
        found, momentum = following, after
    weights = (targets - _softmax(logits + basis @ found)) / PENALTY  # where the gradient vanishes, found is basis.T @ weights
    return Voice(middle, scale, inputs, weights)


def answers(seen: Examples, voice: Voice | None = None) -> NDArray[numpy.int64]:
    """The outputs that win, shape (recordings,), 0 to 9 or 10 for "no digit"; without a voice, those of the model as it is."""
    return (seen.logits + (0 if voice is None else voice.shift(seen.features))).argmax(axis=1)


def _kernel(one: Numbers, other: Numbers) -> Numbers:
    """The linear kernel times a Gaussian one, (batch, n_features), (examples, n_features) -> (batch, examples)."""
    products = one @ other.T
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * products
    return products * numpy.exp(-numpy.maximum(squares, 0) / (2 * WIDTH**2))


def _logarithms(probabilities: NDArray[numpy.float32]) -> Numbers:
    """Of the digits' probabilities (batch, 10) and of what they lack to 1, (batch, 11)."""
    digits = probabilities.astype(numpy.float64)
    return numpy.log(numpy.maximum(numpy.column_stack([digits, 1 - digits.sum(axis=1)]), LEAST))


def _softmax(logits: Numbers) -> Numbers:
    powers = numpy.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _rounded(numbers: Any) -> Any:
    """As nested lists, with six digits each."""
    if numpy.ndim(numbers):
        return [_rounded(part) for part in numbers]
    return float(f"{numbers:.6g}")
