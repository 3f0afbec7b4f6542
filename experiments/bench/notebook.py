"""The notebook way of training, which the bench compares with: each clip is loaded and transformed whenever it is drawn."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from digits import audio, word_window
from digits._torchaudio import torchaudio
from digits.networks import DigitCNN
from digits.training.datamodule import DigitsDataModule


class NotebookDataset(Dataset[tuple[Tensor, int]]):
    """What notebooks do: load, resample and transform a clip whenever it is drawn."""

    def __init__(self, data: DigitsDataModule) -> None:
        self.clips = [data.corpus.clips[i] for i in data.parts.train]
        settings: dict[str, Any] = {**data.front_end["log_mel"]}
        settings.pop("top_db")
        self.mel = torchaudio.transforms.MelSpectrogram(audio.SAMPLE_RATE, **settings)
        self.to_db = torchaudio.transforms.AmplitudeToDB()

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        clip = self.clips[index]
        waveform, sample_rate = audio.read(clip.path)
        resampled = torchaudio.functional.resample(torch.from_numpy(waveform), sample_rate, audio.SAMPLE_RATE)
        return self.to_db(self.mel(torch.from_numpy(word_window.fit(resampled.numpy(), audio.SAMPLE_RATE))))[None], clip.digit


def train_epoch(data: DigitsDataModule) -> None:
    torch.manual_seed(0)
    network = DigitCNN()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for log_mel, label in DataLoader(NotebookDataset(data), batch_size=100, shuffle=True):
        loss = torch.nn.functional.cross_entropy(network(log_mel), label)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
