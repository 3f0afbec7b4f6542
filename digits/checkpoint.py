"""Checkpoints, read without executing anything in them."""

import pickle
from pathlib import Path
from typing import Any

import torch

from digits import features, model

PARTS = {"state_dict": (), "hyper_parameters": ("network", "run"), "datamodule_hyper_parameters": ("front_end", "source")}


def read(path: str | Path) -> dict[str, Any]:
    """A checkpoint that ``digits.train`` wrote, as plain values and tensors.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, holds anything but plain values and tensors, or is another program's.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint; train one with: python -m digits.train, or take: pretrained")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path}: refused, since it is damaged or holds more than plain values and tensors") from error
    except Exception as error:  # a foreign or damaged file leads the unpickler anywhere: IndexError, KeyError, RuntimeError...
        raise ValueError(f"{path}: damaged or cut off, or no checkpoint at all") from error
    if not isinstance(checkpoint, dict) or not all(
        isinstance(checkpoint.get(part), dict) and set(names) <= set(checkpoint[part]) for part, names in PARTS.items()
    ):
        raise ValueError(f"{path}: a checkpoint of another program; digits.train writes the ones to use")
    return checkpoint


def restore(path: str | Path) -> tuple[torch.nn.Module, features.FrontEnd]:
    """The network, in eval mode, and the front end that it was trained with.

    Raises:
        FileNotFoundError, ValueError: as :func:`read`, or settings and weights that do not fit.
    """
    checkpoint = read(path)
    try:
        network = model.build(**checkpoint["hyper_parameters"]["network"])
        prefix = "network."
        weights = {name.removeprefix(prefix): value for name, value in checkpoint["state_dict"].items() if name.startswith(prefix)}
        network.load_state_dict(weights)
        front_end = features.FrontEnd(**(checkpoint["datamodule_hyper_parameters"]["front_end"] or {}))
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: its settings and weights do not fit this version of digits ({reason})") from error
    return network.eval(), front_end
