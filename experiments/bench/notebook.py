"""The notebook way of training, which the bench compares with: each clip is loaded and transformed whenever it is drawn."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from digits import audio, word_window
from digits._torchaudio import torchaudio
from digits.training.datamodule import DigitsDataModule


class NotebookDataset(Dataset[tuple[Tensor, int]]):
    """What notebooks do: load, resample and transform a clip whenever it is drawn.

    Args:
        data: says which clips there are, and with which settings they become log-mels.
        indices: of the clips in the corpus.
    """

    def __init__(self, data: DigitsDataModule, indices: Sequence[int]) -> None:
        self.clips = [data.corpus.clips[i] for i in indices]
        settings: dict[str, Any] = {**data.front_end["log_mel"]}
        top_db = settings.pop("top_db")
        self.mel = torchaudio.transforms.MelSpectrogram(audio.SAMPLE_RATE, **settings)
        self.to_db = torchaudio.transforms.AmplitudeToDB(top_db=top_db)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        clip = self.clips[index]
        waveform, sample_rate = audio.read(clip.path)
        resampled = torchaudio.functional.resample(torch.from_numpy(waveform), sample_rate, audio.SAMPLE_RATE)
        return self.to_db(self.mel(torch.from_numpy(word_window.fit(resampled.numpy(), audio.SAMPLE_RATE))))[None], clip.digit


class NotebookCNN(nn.Sequential):
    """A network as in notebooks: three blocks of convolution, batch norm, ReLU and pooling, 32, 64 and 128 wide, and two layers."""

    def __init__(self, bands: int = 40, frames: int = 101) -> None:
        blocks = [
            layer
            for wide, wider in pairwise((1, 32, 64, 128))
            for layer in (nn.Conv2d(wide, wider, 3, padding=1), nn.BatchNorm2d(wider), nn.ReLU(), nn.MaxPool2d(2))
        ]
        head = [nn.Linear(128 * (bands // 8) * (frames // 8), 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 10)]
        super().__init__(*blocks, nn.Flatten(), *head)


def train(data: DigitsDataModule, network: nn.Module, batch_size: int, epochs: int) -> None:
    """Passes over the training clips with Adam."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    network.train()
    for _ in range(epochs):
        for log_mel, label in DataLoader(NotebookDataset(data, data.parts.train), batch_size=batch_size, shuffle=True):
            loss = nn.functional.cross_entropy(network(log_mel), label)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def accuracy(data: DigitsDataModule, network: nn.Module) -> float:
    """On the test part."""
    loader = DataLoader(NotebookDataset(data, data.parts.test), batch_size=100)
    network.eval()
    with torch.inference_mode():
        return float(torch.cat([network(log_mel).argmax(dim=1) == label for log_mel, label in loader]).float().mean())
