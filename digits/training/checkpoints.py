"""How checkpoints are written."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from digits.files import write_whole


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint as a whole or not at all: a full disk or a kill leaves that of the epoch before."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_whole(Path(path), content.getvalue())
