"""From a waveform to a digit: the network of a checkpoint behind the front end that it was trained with."""

from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from torch import Tensor, nn

from digits import checkpoint
from digits.features import FrontEnd


@dataclass(frozen=True)
class Prediction:
    """The most probable digit, its probability, and those of all ten."""

    digit: int
    probability: float
    probabilities: tuple[float, ...]


class Recognizer:
    """Recognises one spoken digit in a waveform.

    >>> recognizer = Recognizer.load("outputs/sweep/fsdd/robust/seed0/best.ckpt")
    >>> recognizer(*digits.audio.read("seven.wav")).digit
    7
    """

    def __init__(self, network: nn.Module, front_end: FrontEnd) -> None:
        self.network = network.eval()
        self.front_end = front_end

    @classmethod
    def load(cls, path: str | Path) -> "Recognizer":
        """From a checkpoint of ``digits.train``; nothing in it is executed.

        Raises:
            FileNotFoundError, ValueError: as :func:`digits.checkpoint.restore`.
        """
        return cls(*checkpoint.restore(path))

    def __call__(self, waveform: Tensor, sample_rate: int) -> Prediction:
        """Recognise the word in a waveform, shape (samples,), at any sample rate.

        Raises:
            ValueError: the waveform cannot hold a word (:func:`digits.audio.check`).
        """
        with torch.inference_mode():
            probabilities = self.network(self.front_end([(waveform, sample_rate)])).softmax(dim=1)[0]
        digit = int(probabilities.argmax())
        return Prediction(digit, float(probabilities[digit]), tuple(probabilities.tolist()))


def denoise(waveform: Tensor, sample_rate: int, noise_s: float = 0.1) -> Tensor:
    """Spectral gating by noisereduce; the noise is that of the first and last ``noise_s`` seconds, around the word.

    Off wherever it is an option: cleaning before recognition tends to do more harm than noise (arXiv 2512.17562).
    """
    import noisereduce

    samples, n_noise = waveform.numpy(), round(noise_s * sample_rate)
    noise = numpy.concatenate([samples[:n_noise], samples[-n_noise:]])
    return torch.from_numpy(noisereduce.reduce_noise(y=samples, sr=sample_rate, y_noise=noise, stationary=True)).float()
