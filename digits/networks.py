"""Networks: log-mel (batch, 1, n_mels, frames) in dB -> logits (batch, n_outputs): the ten digits, optionally "no digit".

Each has ``features``, log-mel -> (batch, n_features), and a ``head``, whose only layer with weights is linear; forward is one after
the other. An enrolled voice is fitted to the features (:mod:`digits.recognition.voice`).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from digits.corpora.corpus import N_DIGITS


class DigitCNN(nn.Module):
    """Three convolutional blocks and a classifier head.

    Each clip is first normalised to zero mean and unit variance. A block is one or more 3 x 3 convolutions, each with batch norm
    and ReLU; 2 x 2 max pooling follows the first two blocks. The very first convolution has stride 2, which needs a quarter of the
    arithmetic for the same accuracy. The head sees each channel's mean and maximum: the maximum says that a sound occurred, no
    matter when or how briefly.

    Args:
        channels: output channels of the three blocks.
        dropout: probability, before the final linear layer.
        n_outputs: 10, or 11 for a network with a "no digit" output.
        convolutions: number of convolutions in each of the three blocks.
        first_kernel: kernel size of the very first convolution, odd.

    Raises:
        ValueError: a value outside its range.
    """

    def __init__(
        self,
        channels: Sequence[int] = (16, 32, 64),
        dropout: float = 0.2,
        n_outputs: int = N_DIGITS,
        convolutions: Sequence[int] = (2, 2, 2),
        first_kernel: int = 3,
    ) -> None:
        super().__init__()
        for name, numbers in (("channels", channels), ("convolutions", convolutions)):
            if len(numbers) != 3 or min(numbers) < 1:
                raise ValueError(f"model.{name} must be three numbers above 0, one per block, got {list(numbers)}")
        if first_kernel < 1 or first_kernel % 2 == 0:
            raise ValueError(f"model.first_kernel must be odd and above 0, got {first_kernel}")
        if not 0 <= dropout < 1:
            raise ValueError(f"model.dropout must lie in [0, 1), got {dropout}")
        _check_outputs(n_outputs)
        first, second, third = channels
        self.blocks = nn.Sequential(
            _block(1, first, convolutions[0], first_kernel, stride=2),
            nn.MaxPool2d(2),
            _block(first, second, convolutions[1]),
            nn.MaxPool2d(2),
            _block(second, third, convolutions[2]),
        )
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * third, n_outputs))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on a CPU

    def features(self, log_mel: Tensor) -> Tensor:
        maps = self.blocks(normalize(log_mel))  # (batch, channels[2], n_mels / 8, frames / 8)
        return torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)

    def forward(self, log_mel: Tensor) -> Tensor:
        return self.head(self.features(log_mel))


class DigitResNet(nn.Module):
    """A residual network that keeps its frequency axis to the end and pools over time by attention and maximum.

    A 5 x 5 convolution and three residual blocks, then all frequencies of a frame are projected to one embedding. Each feature of
    the embedding is pooled over time by attention weights of its own (arXiv 1803.10963 shares one set of weights) and by its
    maximum.

    Args:
        channels: output channels of the first convolution and the three blocks.
        embedding: features per frame.
        dropout: probability, before the final linear layer.
        n_mels: number of mel bands in the input.
        n_outputs: 10, or 11 for a network with a "no digit" output.

    Raises:
        ValueError: a value outside its range.
    """

    def __init__(
        self,
        channels: Sequence[int] = (16, 24, 32, 48),
        embedding: int = 128,
        dropout: float = 0.2,
        n_mels: int = 40,
        n_outputs: int = N_DIGITS,
    ) -> None:
        super().__init__()
        if len(channels) != 4:
            raise ValueError(f"model.channels must be four numbers: the first convolution and one per block, got {list(channels)}")
        if not 0 <= dropout < 1:
            raise ValueError(f"model.dropout must lie in [0, 1), got {dropout}")
        _check_outputs(n_outputs)
        first, second, third, fourth = channels
        self.blocks = nn.Sequential(
            nn.Conv2d(1, first, kernel_size=5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(inplace=True),
            Residual(first, second, stride=(2, 2)),
            Residual(second, third, stride=(1, 2)),
            Residual(third, fourth),
        )
        rows = -(-n_mels // 4)
        self.embed = nn.Sequential(
            nn.Conv1d(fourth * rows, embedding, kernel_size=1, bias=False), nn.BatchNorm1d(embedding), nn.ReLU(inplace=True)
        )
        self.attention = nn.Conv1d(embedding, embedding, kernel_size=1)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * embedding, n_outputs))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on a CPU

    def features(self, log_mel: Tensor) -> Tensor:
        # The reference is the loudest value: a clip's mean would depend on the length of its word. The log-mel spans 60 dB below it
        # (LogMel's top_db), which / 15 + 2 maps to [-2, 2], the range that batch norm and weight initialisation expect.
        loudest = log_mel.amax(dim=(1, 2, 3), keepdim=True)
        maps = self.blocks((log_mel - loudest) / 15 + 2)  # (batch, channels[3], n_mels / 4, frames / 8)
        frames = self.embed(maps.flatten(1, 2))  # (batch, embedding, frames / 8)
        weights = self.attention(frames).softmax(dim=-1)
        return torch.cat([(weights * frames).sum(dim=-1), frames.amax(dim=-1)], dim=1)

    def forward(self, log_mel: Tensor) -> Tensor:
        return self.head(self.features(log_mel))


class Residual(nn.Module):
    """Two 3 x 3 convolutions and a 1 x 1 shortcut, which averages before it strides."""

    def __init__(self, in_channels: int, out_channels: int, stride: tuple[int, int] = (1, 1)) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, stride=stride, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(stride, ceil_mode=True),
            nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, maps: Tensor) -> Tensor:
        return torch.relu(self.convolutions(maps) + self.shortcut(maps))


def normalize(log_mel: Tensor) -> Tensor:
    """Zero mean and unit variance per clip, which removes the recording's gain."""
    mean, std = log_mel.mean(dim=(1, 2, 3), keepdim=True), log_mel.std(dim=(1, 2, 3), keepdim=True)
    return (log_mel - mean) / (std + 1e-3)


def _check_outputs(n_outputs: int) -> None:
    if n_outputs not in (N_DIGITS, N_DIGITS + 1):
        raise ValueError(f'model.n_outputs must be {N_DIGITS}, or {N_DIGITS + 1} with a "no digit" output, got {n_outputs}')


def _block(in_channels: int, out_channels: int, convolutions: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolutions, of which the first has this kernel and stride."""
    layers: list[nn.Module] = []
    for channels, size, step in [(in_channels, kernel, stride), *[(out_channels, 3, 1)] * (convolutions - 1)]:
        layers += [
            nn.Conv2d(channels, out_channels, kernel_size=size, padding=size // 2, stride=step, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


# A new network is a class above, an entry here, and conf/model/NAME.yaml.
NETWORKS: dict[str, type[nn.Module]] = {"DigitCNN": DigitCNN, "DigitResNet": DigitResNet}


def build(name: str, **settings: Any) -> nn.Module:
    """Build a network by its name in :data:`NETWORKS`; a fixed table, so that no checkpoint can name other code.

    Raises:
        ValueError: an unknown network or setting.
    """
    if name not in NETWORKS:
        raise ValueError(f"model.name must be one of {', '.join(NETWORKS)}, got {name}")
    try:
        return NETWORKS[name](**settings)
    except TypeError as error:
        raise ValueError(f"model {name}: {error}") from error
