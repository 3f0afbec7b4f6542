"""How checkpoints are written."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from digits.files import write_whole


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all: after a full disk or a kill, the previous epoch's is still there."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_whole(Path(path), content.getvalue())
