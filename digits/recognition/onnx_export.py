"""Writes a trained model as one ONNX file, and checks that the file gives the model's probabilities.

The ONNX graph takes windows of one word at the front end's rate, (batch, samples), and returns calibrated probabilities, (batch,
10); log-mel, network and temperature are inside. The remainder to 1 is the probability of no digit. Two more outputs show what led
there: ``log_mel``, (batch, 1, n_mels, frames), dB, and ``features``, (batch, n_features). What happens before the graph
(trimming at the recording's own rate, resampling, centring) is stored in the metadata as settings of
:class:`digits.features.FrontEnd`, beside the labels, the threshold and the origin of the weights.
"""

import contextlib
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from digits.audio import Waveform
from digits.corpora.corpus import N_DIGITS
from digits.recognition.model_files import OnnxModel, seal
from digits.recognition.recognizer import Recognizer
from digits.recognition.torch_models import OUTPUTS, Trained

MAX_DIFFERENCE = 1e-4  # of any probability
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


class Graph(nn.Module):
    """:meth:`Trained.compute` as a module whose parameters the exporter finds."""

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        self.log_mel, self.network = trained.front_end.log_mel, trained.network
        self.trained = trained

    def forward(self, waveform: Tensor) -> tuple[Tensor, ...]:
        return self.trained.compute(waveform)


def can_export() -> bool:
    """Whether the packages that exporting needs are installed."""
    return all(importlib.util.find_spec(name) for name in PACKAGES)


def export(
    trained: Trained, origin: str, git_commit: str | None, recordings: Sequence[tuple[Waveform, int]]
) -> tuple[bytes, float]:
    """Export a model and check the result on recordings.

    Args:
        trained: the model.
        origin: where the weights come from, for the metadata.
        git_commit: commit of the exporting code, for the metadata.
        recordings: waveforms and their sample rates.

    Returns:
        The content of the file, and the largest difference of any probability over the recordings.

    Raises:
        ValueError: a package is missing, or the exported model differs by more than :data:`MAX_DIFFERENCE`.
    """
    content = write_graph(trained, origin, git_commit)
    exported = OnnxModel(content)
    difference = largest_difference(
        Recognizer(trained.window, trained), Recognizer(exported.window, exported, exported.threshold), recordings
    )
    if not difference <= MAX_DIFFERENCE:
        raise ValueError(f"the exported file's probabilities differ by {difference:.1e} from those of {origin}: not written")
    return content, difference


def write_graph(trained: Trained, origin: str, git_commit: str | None) -> bytes:
    """The content of the ONNX file; see :func:`export`."""
    if not can_export():
        raise ValueError("exporting needs onnx, onnxscript and onnxruntime: pip install '.[live,train,export]'")
    import onnx

    examples = torch.zeros(2, trained.window.length)  # a single one would fix the batch size at 1
    examples[:, ::7] = 0.1
    exported = _exported(Graph(trained).eval(), examples)
    metadata: dict[str, Any] = {
        "labels": list(range(N_DIGITS)),
        "front_end": trained.front_end.settings,
        "calibration": asdict(trained.calibration),
        "origin": origin,
        "git_commit": git_commit,
    }
    _forget_source(exported.graph)
    onnx.helper.set_model_props(exported, {name: json.dumps(value) for name, value in metadata.items()})
    return seal(exported.SerializeToString())


def _forget_source(graph: Any) -> None:
    """Remove what the exporter notes about the code behind each node, which includes paths of this machine."""
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""


def _exported(graph: Graph, examples: Tensor) -> Any:
    for name in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)  # they report every step
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph,
            (examples,),
            dynamo=True,
            external_data=False,
            input_names=["waveform"],
            output_names=list(OUTPUTS),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def largest_difference(one: Recognizer, other: Recognizer, recordings: Sequence[tuple[Waveform, int]]) -> float:
    """Largest difference of any probability over recordings."""
    answers = ((one(*recording).probabilities, other(*recording).probabilities) for recording in recordings)
    return max(abs(a - b) for pair in answers for a, b in zip(*pair, strict=True))
