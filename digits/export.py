"""One file that runs without torch: ``python -m digits.export ckpt_path=... out=live.onnx``.

The ONNX graph takes windows of one word at 48 kHz, (batch, samples), and gives calibrated probabilities, (batch, 10): the log-mel,
the network and the temperature are inside. What the ten lack to 1 is the probability of no digit. What comes before the graph
(trimming at the recording's own rate, resampling, centring) is in the metadata as settings of :class:`digits.features.FrontEnd`,
as are the labels, the threshold of "not sure" and where the model comes from.
"""

import contextlib
import io
import itertools
import json
import logging
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import hydra
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from digits import audio, entry, fsdd, results, weights
from digits.corpus import N_DIGITS, Clip, read_folder
from digits.recognizer import Recognizer
from digits.weights import Trained

MAX_DIFFERENCE = 1e-4  # of any probability
NEEDS = "python -m digits.export needs onnx, onnxscript and onnxruntime: pip install '.[live,train,export]'"


class Graph(nn.Module):
    """:meth:`digits.weights.Trained.probabilities` as a module, whose parameters the exporter finds."""

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        self.log_mel, self.network = trained.front_end.log_mel, trained.network
        self.trained = trained

    def forward(self, waveform: Tensor) -> Tensor:
        return self.trained.probabilities(waveform)


def export(trained: Trained, origin: str) -> bytes:
    """The ONNX file's content.

    Args:
        origin: of the weights, for the metadata.

    Raises:
        ValueError: a package that it takes is missing.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch's exporter needs it and would say so less plainly
    except ImportError as error:
        raise ValueError(NEEDS) from error
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of packages that the graph does not use
    examples = torch.zeros(2, trained.front_end.window.length)  # one alone would fix the batch size
    examples[:, ::7] = 0.1
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Graph(trained).eval(),
            (examples,),
            dynamo=True,
            external_data=False,
            input_names=["waveform"],
            output_names=["probabilities"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    assert program is not None
    exported = program.model_proto
    metadata: dict[str, Any] = {
        "labels": list(range(N_DIGITS)),
        "front_end": trained.front_end.settings,
        "calibration": asdict(trained.calibration),
        "origin": origin,
        "git_commit": results.git_commit(),
    }
    onnx.helper.set_model_props(exported, {name: json.dumps(value) for name, value in metadata.items()})
    return exported.SerializeToString()


def largest_difference(one: Recognizer, other: Recognizer, clips: list[Clip]) -> float:
    """Largest difference of any probability over recordings."""
    heard = [(one(*sound), other(*sound)) for sound in (audio.read(clip.path) for clip in clips)]
    pairs = itertools.chain.from_iterable(zip(a.probabilities, b.probabilities, strict=True) for a, b in heard)
    return max(abs(a - b) for a, b in pairs)


@hydra.main(version_base="1.3", config_path=entry.CONF, config_name="export")
def main(cfg: DictConfig) -> None:
    try:
        write(cfg)
    except (ValueError, OSError) as error:
        sys.exit(f"digits.export: {entry.explain(error)}")


def write(cfg: DictConfig) -> None:
    """Export, check on recordings, and only then write.

    Raises:
        ValueError, OSError: no such model, recordings or folder, or the file does not answer as the model does.
    """
    trained = weights.load(cfg.ckpt_path)
    corpus = read_folder(cfg.root, "recordings") if cfg.root else fsdd.load()
    clips = corpus.clips[:: max(1, len(corpus.clips) // cfg.clips)]
    content = export(trained, Path(cfg.ckpt_path).name)
    difference = largest_difference(trained.recognizer(), Recognizer.from_onnx(content), clips)
    if not difference <= MAX_DIFFERENCE:
        raise ValueError(f"the exported file's probabilities differ by {difference:.1e} from those of {cfg.ckpt_path}: not written")
    out = Path(cfg.out).expanduser()
    out.write_bytes(content)
    print(f"{out}: {len(content):,} bytes; {len(clips)} recordings differ by at most {difference:.1e}")


if __name__ == "__main__":
    entry.run(main, "digits.export")
