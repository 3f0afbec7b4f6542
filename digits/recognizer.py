"""From a waveform to a digit: a trained network behind the front end that it was trained with."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from torch import Tensor, nn

from digits import checkpoint, weights
from digits.calibration import Calibration
from digits.features import FrontEnd

PRETRAINED = "pretrained"  # the name of the model that comes with the package


@dataclass(frozen=True)
class Prediction:
    """The most probable digit, its probability, those of all ten, and whether the model is sure enough to say it."""

    digit: int
    probability: float
    probabilities: tuple[float, ...]
    accepted: bool


class Recognizer:
    """Recognises one spoken digit in a waveform.

    >>> recognizer = Recognizer.load("pretrained")
    >>> recognizer(*digits.audio.read("seven.wav")).digit
    7
    """

    def __init__(self, network: nn.Module, front_end: FrontEnd, calibration: Calibration | None = None) -> None:
        self.network = network.eval()
        self.front_end = front_end
        self.calibration = calibration or Calibration()

    @classmethod
    def load(cls, path: str | Path) -> "Recognizer":
        """``pretrained``, a file of :mod:`digits.weights` (.npz) or :mod:`digits.export` (.onnx), or a checkpoint of
        ``digits.train``, whose probabilities are not calibrated and which accepts everything. Nothing in them is executed.

        Raises:
            FileNotFoundError, ValueError: as :func:`digits.checkpoint.restore` and :func:`digits.weights.read`.
        """
        if str(path) == PRETRAINED:
            path = weights.PRETRAINED
        if Path(path).suffix == ".onnx":
            return cls.from_onnx(path)
        return cls(*weights.read(path)) if Path(path).suffix == ".npz" else cls(*checkpoint.restore(path))

    @classmethod
    def load_best(cls, outputs: str | Path, prefer: Sequence[str]) -> tuple["Recognizer", str]:
        """From :func:`digits.checkpoint.find_best`, or the pretrained model where there is no run; with a word on which it is."""
        best = checkpoint.find_best(outputs, prefer)
        return cls.load(best or PRETRAINED), str(best or f"{PRETRAINED} (no finished run below {outputs})")

    @classmethod
    def from_onnx(cls, model: str | Path | bytes) -> "Recognizer":
        """From the path or the content of a file of :mod:`digits.export`, run by onnxruntime on one thread.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is damaged or another program's, or onnxruntime is missing.
        """
        return _Exported(model)

    def __call__(self, waveform: Tensor, sample_rate: int) -> Prediction:
        """Recognise the word in a waveform, shape (samples,), at any sample rate.

        Raises:
            ValueError: the waveform cannot hold a word (:func:`digits.audio.check`).
        """
        probabilities = self._probabilities(waveform, sample_rate)
        digit = int(probabilities.argmax())
        probability = float(probabilities[digit])
        return Prediction(digit, probability, tuple(probabilities.tolist()), probability >= self.calibration.threshold)

    def _probabilities(self, waveform: Tensor, sample_rate: int) -> Tensor:
        """Shape (10,)."""
        with torch.inference_mode():
            return self.probabilities(self.front_end.window(waveform, sample_rate)[None])[0]

    def probabilities(self, windows: Tensor) -> Tensor:
        """Of windows of the front end, (batch, samples) -> (batch, 10): what an exported model holds."""
        return (self.network(self.front_end.log_mel(windows)) / self.calibration.temperature).softmax(dim=1)


class _Exported(Recognizer):
    """Runs a file of :mod:`digits.export`, which holds all that comes after the window."""

    def __init__(self, model: str | Path | bytes) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ValueError("an .onnx model needs onnxruntime: pip install '.[export]'") from error
        if not isinstance(model, bytes) and not Path(model).is_file():
            raise FileNotFoundError(f"{model}: no such model")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            metadata = {name: json.loads(text) for name, text in self.session.get_modelmeta().custom_metadata_map.items()}
            self.front_end = FrontEnd(**metadata["front_end"])
            self.calibration = Calibration(**metadata["calibration"])
        except Exception as error:  # onnxruntime has a class of its own for each fault
            name = "the content" if isinstance(model, bytes) else model
            raise ValueError(f"{name}: not a model that digits.export wrote, or damaged") from error

    def _probabilities(self, waveform: Tensor, sample_rate: int) -> Tensor:
        window = self.front_end.window(waveform, sample_rate)
        (probabilities,) = self.session.run(None, {"waveform": window.numpy()[None]})
        return torch.from_numpy(probabilities[0])


def denoise(waveform: Tensor, sample_rate: int, noise_s: float = 0.1) -> Tensor:
    """Spectral gating by noisereduce; the noise is that of the first and last ``noise_s`` seconds, around the word.

    Off wherever it is an option: cleaning before recognition tends to do more harm than noise (arXiv 2512.17562).
    """
    import noisereduce

    samples, n_noise = waveform.numpy(), round(noise_s * sample_rate)
    noise = numpy.concatenate([samples[:n_noise], samples[-n_noise:]])
    return torch.from_numpy(noisereduce.reduce_noise(y=samples, sr=sample_rate, y_noise=noise, stationary=True)).float()
