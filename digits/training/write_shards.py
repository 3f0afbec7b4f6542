"""Write the training set of a run's settings as shards: ``python -m digits.training.write_shards ADDRESS [SETTINGS]``.

ADDRESS is a folder, or one like ``s3://bucket/folder``; SETTINGS are those of ``digits train``. After an interruption, the same
command writes what is not complete again. See :mod:`digits.training.shards`.
"""

import contextlib
import hashlib
import importlib
import json
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from digits import cli, settings
from digits.corpora.corpus import VAL_FOLD, Clip
from digits.training import shards
from digits.training.datamodule import Copy, DigitsDataModule
from digits.training.log_mels import CHUNK
from digits.training.render import code_digest, thinned

ORDER_SEED = 0
CLIP = ("name", "digit", "speaker", "take", "blob", "fold")  # what is kept of a clip
USAGE = "usage: python -m digits.training.write_shards ADDRESS [SETTINGS of digits train]"


@dataclass(frozen=True, eq=False)
class Rendered:
    """Computes the items of a training set, a chunk at a time.

    Args:
        copies: of the training clips.
        order: row n says which copy and which of its clips item n is, shape (items, 2).
    """

    copies: list[Copy]
    order: Tensor

    def __call__(self, n: int) -> tuple[Tensor, int]:
        """Log-mel, shape (1, n_mels, frames), and label."""
        chunk, place = divmod(n, CHUNK)
        return _chunk(self, chunk)[place]


@lru_cache(maxsize=1)
def _chunk(items: Rendered, number: int) -> list[tuple[Tensor, int]]:
    torch.set_num_threads(1)  # there is a process for each core
    wanted = items.order[number * CHUNK : (number + 1) * CHUNK]
    found: dict[int, tuple[Tensor, int]] = {}
    for index in sorted(set(wanted[:, 0].tolist())):
        copy, here = items.copies[index], (wanted[:, 0] == index).nonzero().flatten()
        places = wanted[here, 1].tolist()
        log_mels = copy.render.part([copy.used[place] for place in places]).compute()
        found |= dict(zip(here.tolist(), zip(log_mels, copy.labels[places].tolist(), strict=True), strict=True))
    return [found[place] for place in range(len(wanted))]


def _content(clips: list[Clip], n: int) -> bytes:
    return clips[n].path.read_bytes()


def _single(item: tuple[str, Tensor], n: int) -> tuple[str, Tensor]:
    return item


def write(data: DigitsDataModule, address: str) -> None:
    """Write the training set, computed by a process for each thread of torch, and the recordings that validation and test need.

    Args:
        data: says what is trained on, validated on and tested on.
        address: a folder, or an address like ``s3://bucket/folder``.

    Raises:
        ValueError: there are other shards at this address, or as :meth:`digits.training.render.Render.compute`.
    """
    address = shards.absolute(address)
    data.read()
    copies, recordings = data.train_copies(), _recordings(data)
    if not copies:
        raise ValueError(f"data.split={data.split} leaves nothing to train on")
    if any(copy.render.reads_files for copy in copies):
        raise ValueError(
            "data.train_sets: effects that read your own files are not known to those who read the shards: leave them out"
        )
    sizes = torch.tensor([len(copy.used) for copy in copies])
    numbered = torch.stack([torch.arange(len(copies)).repeat_interleave(sizes), torch.cat([torch.arange(n) for n in sizes])], dim=1)
    shuffled = torch.randperm(len(numbered), generator=torch.Generator().manual_seed(ORDER_SEED))
    kept = [(source, clip.name, clip.blob) for source, clip in recordings]
    content = [data.recordings, kept, *(copy.render.key for copy in copies)]
    about = {
        "corpus": data.corpus.name,
        "recordings": hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12],
        "settings": shards.fixed(data.hparams),
        "code": code_digest(),
        "n_train_clips": data.n_train_clips,
        "clips": [(source, {name: getattr(clip, name) for name in CLIP}) for source, clip in recordings],
    }
    about = json.loads(json.dumps(about))  # tuples become lists
    labels = torch.cat([copy.labels for copy in copies])[shuffled].to(torch.uint8)
    _write(f"{address}/{shards.ABOUT}", partial(_single, (json.dumps(about), labels)), 1, 1)
    if shards.about(address)[0] != about:
        raise ValueError(f"{address}: holds shards of other settings, recordings or code: name another place, or delete them")
    _write(f"{address}/{shards.RECORDINGS}", partial(_content, [clip for _, clip in recordings]), len(recordings), 1)
    _write(f"{address}/{shards.TRAIN}", Rendered(copies, numbered[shuffled]), len(numbered), torch.get_num_threads())


def _recordings(data: DigitsDataModule) -> list[tuple[str, Clip]]:
    """Those of the validation and test parts, and the voices of test conditions, in the order of their corpora."""
    kept = sorted({*thinned(data.parts.train), *data.parts.val, *data.parts.test})
    others = [(source, clip) for source in data.hparams["val_sources"] for clip in data.clips_of(source) if clip.fold == VAL_FOLD]
    return [*((shards.OWN, data.corpus.clips[n]) for n in kept), *others]


def _write(address: str, item: Callable[[int], Any], n_items: int, n_processes: int) -> None:
    """Write what an earlier call has not written to its end."""
    with contextlib.suppress(ValueError):
        shards.check_complete(address, n_items)
        return
    how = {"chunk_size": CHUNK, "num_workers": n_processes, "keep_data_ordered": True, "mode": "overwrite", "verbose": False}
    try:
        shards.litdata().optimize(item, inputs=list(range(n_items)), output_dir=address, **how)
    except Exception as error:  # each kind of store has errors of its own; those of other processes come with a traceback
        raise ValueError(f"{address}: not written: {_cause(error)}") from error
    shards.check_complete(address, n_items)


def _cause(error: Exception) -> str:
    """What went wrong in one line, even if the message is another process's traceback."""
    text = str(error).replace("\\n", "\n")
    told = re.findall(r"^ValueError: (.+)$", text, re.MULTILINE) or text.split("\n")
    return told[-1].strip() or type(error).__name__


def main() -> None:
    """Write what the command line asks for.

    Raises:
        ValueError: as :func:`write`, or an impossible setting.
    """
    from hydra import compose, initialize_config_dir
    from hydra.utils import instantiate

    if not sys.argv[1:] or sys.argv[1] in ("-h", "--help"):
        print(USAGE)
        return
    address, *overrides = sys.argv[1:]
    with initialize_config_dir(cli.CONF, version_base="1.3"):
        cfg = compose("train", overrides=["name=shards", "run_dir=.", *overrides])
    settings.check(cfg)
    if "shards" in cfg.data:
        raise ValueError("data=shards is what digits train reads; give the corpus that the shards are made of")
    write(instantiate(cfg.data), address)
    others = [override for override in overrides if not override.startswith(("data=", "data.root="))]
    where = ["data=shards", f"data.source={cfg.data.source}", f"data.shards={shards.absolute(address)}"]
    print(f"written; to train on it: {shlex.join(['digits', 'train', *where, *others])}")


if __name__ == "__main__":
    # under its own name: other processes import what they are to compute
    module = importlib.import_module("digits.training.write_shards")
    cli.run(module.main, "digits.training.write_shards")
