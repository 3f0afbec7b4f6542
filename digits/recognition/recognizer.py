"""From a waveform to a digit: a trained model behind the front end that it was trained with."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy
from numpy.typing import ArrayLike, NDArray

from digits import settings
from digits.audio import Waveform
from digits.recognition import model_files
from digits.word_window import WordWindow

NO_DIGIT, NOT_SURE = "no digit", "not sure"
MIN_NOISE = 4096  # samples; noisereduce needs several of its windows of 1,024, so shorter noise is repeated


@dataclass(frozen=True)
class Prediction:
    """The most probable digit, its probability, and the probabilities of all ten.

    Their remainder to 1 is the probability that the sound is not a digit. ``reason`` says why the digit is rejected:
    :data:`NO_DIGIT`, :data:`NOT_SURE`, or None if it is accepted.
    """

    digit: int
    probability: float
    probabilities: tuple[float, ...]
    reason: str | None

    @property
    def accepted(self) -> bool:
        """Whether the model is sure enough that the sound is this digit."""
        return self.reason is None


class Recognizer:
    """Recognises one spoken digit in a waveform.

    >>> recognizer = Recognizer.load("pretrained")
    >>> recognizer(*digits.audio.read("seven.wav")).digit
    7

    Args:
        window: first part of the front end.
        model: windows (batch, samples) -> probabilities (batch, 10).
        threshold: a digit is accepted if its probability is at least this, and above that of "no digit".

    Raises:
        ValueError: the threshold is not 0 to 1.
    """

    def __init__(
        self, window: WordWindow, model: Callable[[NDArray[numpy.float32]], NDArray[numpy.float32]], threshold: float = 0.0
    ) -> None:
        if not settings.PROBABILITY.allows(threshold):
            raise ValueError(f"threshold must {settings.PROBABILITY.must}, got {threshold}")
        self.window, self.model, self.threshold = window, model, threshold

    @classmethod
    def load(cls, path: str | Path, threshold: float | str | None = None) -> "Recognizer":
        """Load a model file.

        Args:
            path: see :func:`digits.recognition.model_files.load`.
            threshold: of the probability, 0 to 1; None or ``balanced`` is the model's own, which ``digits calibrate`` stored in its
                file, ``strict`` accepts less and ``eager`` more (:data:`digits.settings.THRESHOLDS`).

        Raises:
            FileNotFoundError, ValueError: as :func:`digits.recognition.model_files.load`; or an impossible threshold.
        """
        model = model_files.load(path)
        if threshold is not None and not settings.THRESHOLD.allows(threshold):
            raise ValueError(f"threshold must {settings.THRESHOLD.must}, got {threshold}")
        if threshold in ("strict", "eager") and model.threshold == 0:
            raise ValueError(f"{path}: not calibrated, so threshold={threshold} would change nothing; give a number from 0 to 1")
        return cls(model.window, model, _threshold(model.threshold, "balanced" if threshold is None else threshold))

    def __call__(self, waveform: ArrayLike, sample_rate: int) -> Prediction:
        """Recognise the word in a waveform, shape (samples,), at any sample rate.

        Raises:
            ValueError: the waveform cannot hold a word (see :func:`digits.audio.check`), or the model's answer cannot be used.
        """
        answer = self.model(self.window(waveform, sample_rate)[None])
        model_files.check_probabilities(answer, 1)
        (probabilities,) = answer
        digit = int(probabilities.argmax())
        probability = float(probabilities[digit])
        reason = None
        if 1 - probabilities.sum() > probability:
            reason = NO_DIGIT
        elif probability < self.threshold:
            reason = NOT_SURE
        return Prediction(digit, probability, tuple(probabilities.tolist()), reason)


def _threshold(own: float, wanted: float | str) -> float:
    if wanted not in settings.THRESHOLDS:
        return wanted  # type: ignore[return-value]
    return own / (own + (1 - own) / settings.THRESHOLDS[wanted])  # its odds, own / (1 - own), times the factor


def denoise(waveform: Waveform, sample_rate: int, noise: Waveform) -> Waveform:
    """Spectral gating by noisereduce with a noise profile from ``noise``; if that is empty, the waveform stays as it is.

    Off by default wherever it is an option: denoising before recognition tends to do more harm than the noise
    (arXiv 2512.17562, and experiments/live).

    Raises:
        ValueError: noisereduce is missing.
    """
    try:
        import noisereduce
    except ImportError as error:
        raise ValueError("denoise=true needs noisereduce: pip install '.[denoise]'") from error
    if not len(noise):
        return waveform
    noise = numpy.resize(noise, max(len(noise), MIN_NOISE))
    return noisereduce.reduce_noise(y=waveform, sr=sample_rate, y_noise=noise, stationary=True).astype(numpy.float32)
