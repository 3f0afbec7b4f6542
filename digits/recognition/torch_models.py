"""Models in torch: checkpoints of ``digits train`` (.ckpt) and plain archives of weights (.npz), read without executing anything.

A plain archive is a numpy file without pickle: the network's arrays and, as JSON, its settings, front end, calibration and origin.
"""

import io
import json
import pickle
import warnings
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from digits import networks, settings
from digits.features import FrontEnd
from digits.files import write_whole
from digits.recognition import calibration
from digits.recognition.calibration import Calibration
from digits.word_window import WordWindow

PLAIN_PRETRAINED_PATH = Path(__file__).parent.parent / "pretrained" / "public.npz"
OUTPUTS = ("probabilities", "log_mel", "features")  # of a model, as in an exported file
FORMAT = 1
FACTS = ("experiment", "corpus", "seed")  # what a checkpoint says about its training
DAMAGED = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,
    EOFError,
    ArithmeticError,
    IndexError,
)  # what content of a wrong kind leads to
PARTS = {"state_dict": (), "hyper_parameters": ("network",), "datamodule_hyper_parameters": ("front_end", "source")}


@dataclass(frozen=True)
class Trained:
    """A trained network in eval mode, its front end and its calibration; a :class:`digits.recognition.model_files.Model`."""

    network: nn.Module
    front_end: FrontEnd
    calibration: Calibration = field(default_factory=Calibration)

    @property
    def window(self) -> WordWindow:
        return self.front_end.window

    @property
    def threshold(self) -> float:
        return self.calibration.threshold

    def compute(self, windows: Tensor) -> tuple[Tensor, ...]:
        """The :data:`OUTPUTS` for windows (batch, samples), as an exported model computes them."""
        log_mel = self.front_end.log_mel(windows)
        features = self.network.features(log_mel)  # type: ignore[operator]
        logits = self.network.head(features)  # type: ignore[operator]
        return calibration.probabilities(logits, self.calibration.temperature), log_mel, features

    def outputs(self, windows: NDArray[numpy.float32]) -> dict[str, NDArray[numpy.float32]]:
        with torch.inference_mode():
            computed = self.compute(torch.from_numpy(windows))
        return {name: output.numpy() for name, output in zip(OUTPUTS, computed, strict=True)}

    def __call__(self, windows: NDArray[numpy.float32]) -> NDArray[numpy.float32]:
        return self.outputs(windows)["probabilities"]


def load(path: str | Path) -> Trained:
    """``pretrained``, a plain archive (.npz), or a checkpoint (.ckpt).

    Raises:
        FileNotFoundError, ValueError: as :func:`read_plain` and :func:`restore_checkpoint`.
    """
    if str(path) == "pretrained":
        path = PLAIN_PRETRAINED_PATH
    return read_plain(path) if Path(path).suffix == ".npz" else restore_checkpoint(path)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint of ``digits train`` as plain values and tensors, :data:`FACTS` among its hyperparameters.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, holds anything but plain values and tensors, or is another program's.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint")
    try:
        _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch asks for a bug report when it refuses a pickle
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path}: refused, because it is damaged or holds more than plain values and tensors") from error
    except Exception as error:  # a foreign or damaged file leads the unpickler anywhere: IndexError, KeyError, RuntimeError...
        raise ValueError(f"{path}: damaged or truncated, or not a checkpoint at all") from error
    if not isinstance(checkpoint, dict) or not all(
        isinstance(checkpoint.get(part), dict) and set(names) <= set(checkpoint[part]) for part, names in PARTS.items()
    ):
        raise ValueError(f"{path}: not a checkpoint written by digits train")
    hparams = checkpoint["hyper_parameters"]
    earlier = run if isinstance(run := hparams.get("run"), dict) else {}  # where they lay until 0.1.0
    hparams |= {name: earlier.get(name) for name in FACTS if name not in hparams}
    return checkpoint


def _check_archive(path: Path) -> None:
    """Check the checksums of a zip archive, the format of both kinds of file, before any of its content is used.

    Raises:
        ValueError: something in it is damaged or compressed, which could unpack to any size.
    """
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
            raise ValueError("it is compressed, as no model of this project is")
        if damaged := archive.testzip():
            raise ValueError(f"{damaged} in it is damaged")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _network(arguments: dict[str, Any], weights: dict[str, Tensor]) -> nn.Module:
    """A network with these weights, in eval mode. Memory is allocated only once they are known to fit.

    Raises:
        ValueError: settings out of range, or weights that do not fit them.
    """
    settings.check_values({"model": arguments}, settings.MODEL)
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in networks.build(**arguments).state_dict().items()}
    if any(value.dtype != torch.float32 for name, value in weights.items() if not name.endswith("num_batches_tracked")):
        raise ValueError("weights of another type than float32")
    if sum(shape.numel() for shape in shapes.values()) * torch.float32.itemsize > settings.MAX_MODEL_BYTES:
        raise ValueError("a network larger than any of this project")
    counters = {name for name in shapes if name.endswith("num_batches_tracked")}  # a plain archive does without
    if {name: value.shape for name, value in weights.items()} | {n: shapes[n] for n in counters} != shapes:
        raise ValueError(f"weights that do not fit {arguments['name']}")
    network = networks.build(**arguments)
    network.load_state_dict(weights, strict=False)
    return network.eval()


def restore_checkpoint(path: str | Path) -> Trained:
    """The model in a checkpoint of ``digits train``.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_checkpoint`, or settings and weights that do not fit.
    """
    checkpoint = read_checkpoint(path)
    try:
        prefix = "network."
        weights = {name.removeprefix(prefix): value for name, value in checkpoint["state_dict"].items() if name.startswith(prefix)}
        network = _network(checkpoint["hyper_parameters"]["network"], weights)
        front_end = _front_end(checkpoint["datamodule_hyper_parameters"]["front_end"] or {})
        return Trained(network, front_end, Calibration(**checkpoint.get("calibration", {})))
    except DAMAGED as error:
        raise ValueError(f"{path}: its settings and weights do not fit this version of digits ({_first_line(error)})") from error


def _front_end(arguments: dict[str, Any]) -> FrontEnd:
    settings.check_values({"data": {"front_end": arguments}}, settings.MODEL)
    return FrontEnd(**arguments)


def store_calibration(ckpt_path: str | Path, calibrated: Calibration) -> None:
    """Add a calibration to a checkpoint of ``digits train``; the file is replaced as a whole."""
    path = Path(ckpt_path)
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    content = io.BytesIO()
    torch.save(checkpoint | {"calibration": asdict(calibrated)}, content)
    write_whole(path, content.getvalue())


def read_plain(path: str | Path) -> Trained:
    """The model in a plain archive (.npz).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, of another version, or another program's.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such model")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: not a model that digits calibrate wrote, or damaged")
    try:
        _check_archive(path)
        with numpy.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        about: dict[str, Any] = json.loads(str(arrays.pop("settings")))
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']}, this version of digits reads {FORMAT}")
        network = _network(about["network"], {name: torch.from_numpy(array) for name, array in arrays.items()})
        return Trained(network, _front_end(about["front_end"]), Calibration(**about["calibration"]))
    except (*DAMAGED, OSError, zipfile.BadZipFile, MemoryError) as error:
        raise ValueError(f"{path}: not a model that digits calibrate wrote, or damaged ({_first_line(error)})") from error


def write_plain(path: str | Path, ckpt_path: str | Path, calibrated: Calibration, git_commit: str | None) -> None:
    """Turn a checkpoint of ``digits train`` into a plain archive.

    Raises:
        FileNotFoundError, ValueError: as :func:`restore_checkpoint`; or a path that does not end in .npz.
    """
    if Path(path).suffix != ".npz":
        raise ValueError(f"{path}: the file's name must end in .npz")
    checkpoint = read_checkpoint(ckpt_path)
    about = {
        "format": FORMAT,
        "network": checkpoint["hyper_parameters"]["network"],
        "front_end": checkpoint["datamodule_hyper_parameters"]["front_end"],
        "calibration": asdict(calibrated),
        "about": {**{name: checkpoint["hyper_parameters"][name] for name in FACTS}, "git_commit": git_commit},
        "corpora": _corpora(checkpoint["datamodule_hyper_parameters"]),
    }
    weights = restore_checkpoint(ckpt_path).network.state_dict()
    arrays = {name: value.numpy() for name, value in weights.items() if "num_batches" not in name}
    numpy.savez(path, settings=numpy.array(json.dumps(about)), **arrays)


def _corpora(data: dict[str, Any]) -> list[str]:
    """Names of the corpora that a model was trained on."""
    parts = (data.get("train_sets") or {"clean": {}}).values()
    used = (part.get("source") or data["source"] for part in parts if part.get("copies", 1))
    return list(dict.fromkeys(used))
