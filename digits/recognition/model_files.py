"""Model files: one :func:`load` for ``pretrained``, ``.onnx``, ``.npz``, ``.ckpt`` and ``.voice``. Nothing in a file is executed.

An ``.onnx`` file, which ``digits export`` writes, runs with onnxruntime. ``.npz`` and ``.ckpt`` need torch and are read by
:mod:`digits.recognition.torch_models`. A ``.voice``, which ``digits enroll`` writes, names one of the others, which it changes.
"""

import hashlib
import json
from pathlib import Path
from typing import Protocol

import numpy
from numpy.typing import NDArray

from digits import settings
from digits.corpora.corpus import N_DIGITS
from digits.recognition import voice
from digits.word_window import WordWindow

TOLERANCE = 1e-3  # of probabilities
PRETRAINED = "pretrained"  # the name of the model that comes with the package
PRETRAINED_PATH = Path(__file__).parent.parent / "pretrained" / "public.onnx"
LOOPS = (b"\x22\x04Loop", b"\x22\x04Scan")  # node types in protobuf's encoding; ours have none, and one might never end
SEAL = b"\x72\x4a\x0a\x06sha256\x12\x40"  # how protobuf begins a metadata entry "sha256" of 64 characters
NEEDS_TORCH = "this model needs torch: pip install '.[train]'; ckpt_path=pretrained and .onnx files do not"


class Model(Protocol):
    """A trained model behind its front end: windows (batch, samples), float32 -> probabilities of the digits (batch, 10)."""

    @property
    def window(self) -> WordWindow:
        """Makes its windows."""

    @property
    def threshold(self) -> float:
        """Lowest probability at which it considers itself sure."""

    def __call__(self, windows: NDArray[numpy.float32]) -> NDArray[numpy.float32]:
        """The remainder to 1 in each row is the probability that the sound is not a digit."""

    def outputs(self, windows: NDArray[numpy.float32]) -> dict[str, NDArray[numpy.float32]]:
        """``probabilities`` as above, and what led to them: ``log_mel`` (batch, 1, n_mels, frames), dB; ``features`` (batch, n).

        A file of an older ``digits export`` has only the probabilities.
        """


def load(path: str | Path) -> Model:
    """Load a model and check that it answers a test signal with probabilities.

    Args:
        path: ``pretrained``, a file of ``digits export`` (.onnx), ``digits calibrate`` (.npz) or ``digits enroll`` (.voice), or a
            checkpoint of ``digits train`` (.ckpt); ``last.ckpt`` is not calibrated and has no threshold.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or not a model of this project, its training diverged, or the package that runs it is
            missing.
    """
    model = _load(file_of(path))
    length = model.window.length
    try:
        sweep = numpy.sin(numpy.arange(2 * length) ** 1.3)  # noise would cost the import of numpy.random, 8 ms at each start
        windows = sweep.reshape(2, length).astype(numpy.float32)
        for batch in (windows, windows[:1]):
            check_probabilities(model(batch), len(batch))
    except Exception as error:  # whatever its graph or its settings do
        raise ValueError(f"{path}: its answer to a test signal cannot be used: {' '.join(str(error).split())}") from error
    return model


def file_of(path: str | Path) -> Path:
    """Where a model is, ``pretrained`` included."""
    return PRETRAINED_PATH if str(path) == PRETRAINED else Path(path)


def with_voice(path: Path, model: Model, sha256: str) -> voice.PersonalModel:
    """The model with the voice in a file.

    Args:
        path: of the voice.
        model: has been loaded.
        sha256: of the model's file.

    Raises:
        FileNotFoundError, ValueError: as :func:`digits.recognition.voice.read`; or the voice was fitted to another model.
    """
    own = voice.read(path)
    if own.sha256 != sha256:
        again = f"digits enroll name={path.stem} root=FOLDER fits it to this one, from its recordings"
        raise ValueError(f"{path}: fitted to another model, or to another version of {own.model}; {again}")
    return voice.PersonalModel(model, own)


def _load(path: Path) -> Model:
    if path.suffix == voice.SUFFIX:
        base = file_of(voice.read(path).model)
        if base.suffix == voice.SUFFIX:
            raise ValueError(f"{path}: {voice.DAMAGED} (it names another voice as its model)")
        try:
            return with_voice(path, _load(base), voice.sha256(base))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{path}: the model that this voice changes is gone ({error})") from error
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such model; {PRETRAINED} is the one that comes with the package")
    if path.stat().st_size > settings.MAX_MODEL_BYTES:
        raise ValueError(f"{path}: not a model of this project: it has more than {settings.MAX_MODEL_BYTES:,} bytes")
    if path.suffix == ".onnx":
        return OnnxModel(path)
    try:
        from digits.recognition import torch_models
    except ImportError as error:
        raise ValueError(f"{path}: {NEEDS_TORCH}") from error
    return torch_models.load(path)


def check_probabilities(probabilities: NDArray[numpy.float32], n_windows: int) -> None:
    """Check what a model answered.

    Raises:
        ValueError: it is not ten finite probabilities per window whose sum is at most 1.
    """
    if probabilities.shape != (n_windows, N_DIGITS):
        raise ValueError(f"it has the shape {probabilities.shape} instead of {(n_windows, N_DIGITS)}")
    if probabilities.dtype.kind != "f":
        raise ValueError(f"it has numbers of the type {probabilities.dtype}, which are no probabilities")
    if not numpy.isfinite(probabilities).all():
        raise ValueError("it has NaN or infinite probabilities: the file is damaged, or its training diverged")
    if probabilities.min() < -TOLERANCE or probabilities.sum(axis=1).max() > 1 + TOLERANCE:
        raise ValueError("its numbers are not probabilities")


def seal(content: bytes) -> bytes:
    """Append a model's SHA-256 as another metadata entry (protobuf allows fields in any order), so that damage is noticed."""
    return content + SEAL + hashlib.sha256(content).hexdigest().encode()


def _check_content(content: bytes) -> None:
    if any(loop in content for loop in LOOPS):
        raise ValueError("it has a loop")
    end = len(content) - len(SEAL) - 64
    if content != seal(content[: max(0, end)]):
        raise ValueError("its checksum is missing or wrong")


class OnnxModel:
    """A file of ``digits export``, run by onnxruntime on one thread.

    Args:
        model: its path, or its content.

    Raises:
        ValueError: it is damaged or was not written by ``digits export``, or onnxruntime is missing.
    """

    def __init__(self, model: str | Path | bytes) -> None:
        content = model if isinstance(model, bytes) else Path(model).read_bytes()
        try:
            import onnxruntime
        except ImportError as error:
            raise ValueError("an .onnx model needs onnxruntime: pip install '.[live]'") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            _check_content(content)
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            metadata = self._session.get_modelmeta().custom_metadata_map
            front_end, calibration = json.loads(metadata["front_end"]), json.loads(metadata["calibration"])
            settings.check_values({"data": {"front_end": front_end}, "threshold": calibration["threshold"]}, settings.MODEL)
            self.threshold = float(calibration["threshold"])
            self.window = WordWindow(front_end["sample_rate"], front_end["window_s"], front_end["trim"] or {})
        except Exception as error:  # onnxruntime has a class of its own for each fault
            name = "the content" if isinstance(model, bytes) else model
            reason = " ".join(str(error).split())
            raise ValueError(f"{name}: not a model that digits export wrote, or damaged ({reason})") from error

    def __call__(self, windows: NDArray[numpy.float32]) -> NDArray[numpy.float32]:
        return self._session.run(["probabilities"], {"waveform": windows})[0]

    def outputs(self, windows: NDArray[numpy.float32]) -> dict[str, NDArray[numpy.float32]]:
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, {"waveform": windows}), strict=True))
