"""From a waveform to a digit: a trained model behind the front end that it was trained with. Needs torch for checkpoints only."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy
from numpy.typing import ArrayLike, NDArray

from digits import results
from digits.audio import Waveform, WordWindow

NO_DIGIT, NOT_SURE = "no digit", "not sure"
PRETRAINED = "pretrained"  # the name of the model that comes with the package
NEEDS_TORCH = "it takes torch: pip install '.[train]'; ckpt_path=pretrained and .onnx files do not"
MIN_NOISE = 4096  # samples; shorter noise is repeated, since noisereduce needs some of its windows of 1,024
PRETRAINED_PATH = Path(__file__).parent / "pretrained" / "live.onnx"


@dataclass(frozen=True)
class Prediction:
    """The most probable digit, its probability, those of all ten, and why it is refused (:data:`NO_DIGIT`, :data:`NOT_SURE`, None).

    What the ten probabilities lack to 1 is that of a sound that is no digit.
    """

    digit: int
    probability: float
    probabilities: tuple[float, ...]
    reason: str | None

    @property
    def accepted(self) -> bool:
        """Whether it is a digit, and the model sure enough to say it."""
        return self.reason is None


class Recognizer:
    """Recognises one spoken digit in a waveform.

    >>> recognizer = Recognizer.load("pretrained")
    >>> recognizer(*digits.audio.read("seven.wav")).digit
    7

    Args:
        window: the front end's first part.
        model: windows (batch, samples) -> probabilities (batch, 10).
        threshold: of the probability, from which on a digit is accepted, if it is also more probable than no digit.
    """

    def __init__(
        self, window: WordWindow, model: Callable[[NDArray[numpy.float32]], NDArray[numpy.float32]], threshold: float = 0.0
    ) -> None:
        self.window, self.model, self.threshold = window, model, threshold

    @classmethod
    def load(cls, path: str | Path) -> "Recognizer":
        """``pretrained``, a file of :mod:`digits.export` (.onnx) or :mod:`digits.weights` (.npz), or a checkpoint of
        ``digits.train``, whose probabilities are not calibrated and which has no threshold. Nothing in them is executed.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is damaged or another program's, or the package that runs it is missing.
        """
        if str(path) == PRETRAINED:
            path = PRETRAINED_PATH
        if Path(path).suffix == ".onnx":
            return cls.from_onnx(path)
        try:
            from digits import weights
        except ImportError as error:
            raise ValueError(f"{path}: {NEEDS_TORCH}") from error
        return weights.load(path).recognizer()

    @classmethod
    def load_best(cls, outputs: str | Path, prefer: Sequence[str]) -> tuple["Recognizer", str]:
        """From :func:`digits.results.find_best`, or the pretrained model where there is no run; with a word on which it is."""
        best = results.find_best(outputs, prefer)
        return cls.load(best or PRETRAINED), str(best or f"{PRETRAINED} (no finished run below {outputs})")

    @classmethod
    def from_onnx(cls, model: str | Path | bytes) -> "Recognizer":
        """From the path or the content of a file of :mod:`digits.export`, run by onnxruntime on one thread.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is damaged or another program's, or onnxruntime is missing.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise ValueError("an .onnx model needs onnxruntime: pip install '.[live]'") from error
        if not isinstance(model, bytes) and not Path(model).is_file():
            raise FileNotFoundError(f"{model}: no such model")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            metadata = session.get_modelmeta().custom_metadata_map
            front_end, calibration = json.loads(metadata["front_end"]), json.loads(metadata["calibration"])
            threshold = float(calibration["threshold"])
            window = WordWindow(**{name: front_end[name] for name in ("sample_rate", "window_s", "trim")})
        except Exception as error:  # onnxruntime has a class of its own for each fault
            name = "the content" if isinstance(model, bytes) else model
            raise ValueError(f"{name}: not a model that digits.export wrote, or damaged") from error
        return cls(window, lambda windows: session.run(None, {"waveform": windows})[0], threshold)

    def __call__(self, waveform: ArrayLike, sample_rate: int) -> Prediction:
        """Recognise the word in a waveform, shape (samples,), at any sample rate.

        Raises:
            ValueError: the waveform cannot hold a word (:func:`digits.audio.check`).
        """
        (probabilities,) = self.model(self.window(waveform, sample_rate)[None])
        digit = int(probabilities.argmax())
        probability = float(probabilities[digit])
        reason = None
        if 1 - probabilities.sum() > probability:
            reason = NO_DIGIT
        elif probability < self.threshold:
            reason = NOT_SURE
        return Prediction(digit, probability, tuple(probabilities.tolist()), reason)


def denoise(waveform: Waveform, sample_rate: int, noise: Waveform) -> Waveform:
    """Spectral gating by noisereduce, with a stretch of the noise alone to learn it from; without any it stays as it is.

    Off wherever it is an option: cleaning before recognition tends to do more harm than noise (arXiv 2512.17562).
    """
    try:
        import noisereduce
    except ImportError as error:
        raise ValueError("denoise=true needs noisereduce: pip install '.[denoise]'") from error
    if not len(noise):
        return waveform
    noise = numpy.resize(noise, max(len(noise), MIN_NOISE))
    return noisereduce.reduce_noise(y=waveform, sr=sample_rate, y_noise=noise, stationary=True).astype(numpy.float32)
