"""Does the network know a clip's corpus? ``python experiments/public/probe.py outputs/.../best.ckpt --out experiments/public``

Some digits of Speech Commands are rare in training. A network that could tell that corpus might use it to guess the digit. A linear
probe learns to tell it from FSDD, from the network's embedding of clips that its training left out.
"""

import argparse
import sys
from pathlib import Path

import numpy
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from digits.corpora import catalog
from digits.corpora.corpus import TEST_FOLD, VAL_FOLD, Clip
from digits.recognition import torch_models
from digits.training.log_mels import log_mels
from digits.training.render import Render
from experiments import tables

CORPORA = ("fsdd", "speech_commands_subset")
COMMON = (0, 1, 5, 8)  # in both corpora; the others would tell the corpus by the digit
FOLDS = 5


def held_out(corpus: str) -> list[Clip]:
    """Clips of the common digits that a run of the official split has not heard."""
    return [clip for clip in catalog.get(corpus).load(None).clips if clip.fold in (TEST_FOLD, VAL_FOLD) and clip.digit in COMMON]


def embed(network: torch.nn.Module, log_mel: Tensor) -> Tensor:
    """What the network's last layer receives, shape (clips, features)."""
    kept: list[Tensor] = []
    handle = network.get_submodule("head").register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0]))
    with torch.inference_mode():
        for batch in log_mel.chunk(-(-len(log_mel) // 256)):
            network(batch)
    handle.remove()
    return torch.cat(kept)


def balanced_accuracy(features: NDArray, is_second: NDArray, groups: NDArray) -> float:
    """Of telling the two corpora, cross-validated over speakers; 0.5 is chance."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000))
    told = cross_val_predict(probe, features, is_second, groups=groups, cv=GroupKFold(FOLDS))
    return float(numpy.mean([(told[is_second == kind] == kind).mean() for kind in (False, True)]))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Whether the corpus of a clip can be told from the network's embedding.")
    parser.add_argument("model", help="best.ckpt of a run of experiment=public on the official split")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where to write probe.md")
    options = parser.parse_args(arguments)
    trained = torch_models.load(options.model)
    clips = {name: held_out(name) for name in CORPORA}
    log_mel = torch.cat([own.all() for own in log_mels([Render(own, trained.front_end.settings) for own in clips.values()])])
    both = [clip for own in clips.values() for clip in own]
    is_second = numpy.array([name == CORPORA[1] for name, own in clips.items() for _ in own])
    groups = numpy.unique([clip.speaker for clip in both], return_inverse=True)[1]
    inputs = {
        "each band's mean level": log_mel.mean(dim=(1, 3)),
        "the network's embedding": embed(trained.network.eval(), log_mel),
    }
    rows = [[name, f"{100 * balanced_accuracy(features.numpy(), is_second, groups):.1f}"] for name, features in inputs.items()]
    table = tables.table(["corpus told from", "balanced accuracy, %"], rows)
    counts = " and ".join(f"{len(own)} clips of {name}" for name, own in clips.items())
    tables.write_report(options.out / "probe.md", "Does the network know the corpus?", {"Probe": f"{table}\n\n{counts}."})
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
