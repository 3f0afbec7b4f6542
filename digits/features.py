"""The front end: turns a waveform at any sample rate into the log-mel spectrogram that every model sees."""

import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from digits import audio, word_window
from digits._torchaudio import torchaudio


class LogMel(nn.Module):
    """Mel spectrogram in dB on the HTK mel scale, (batch, samples) -> (batch, 1, n_mels, frames).

    The short-time Fourier transform is a matrix product with only those frequencies that the mel bands use. It is as fast as an
    FFT over all of them, and gives the same graph in torch and in an exported model, whose runtime has no FFT of this length.

    Values are clipped to ``top_db`` below the clip's own maximum, which hides zero padding and the noise floor of a typical
    microphone.

    Raises:
        ValueError: the settings contradict each other.
    """

    cosines: Tensor
    sines: Tensor
    filters: Tensor

    def __init__(
        self,
        sample_rate: int = audio.SAMPLE_RATE,
        n_fft: int = 1536,
        win_length: int = 1200,
        hop_length: int = 480,
        n_mels: int = 40,
        f_min: float = 60.0,
        f_max: float = 4000.0,
        top_db: float = 60.0,
    ) -> None:
        super().__init__()
        if not 0 <= f_min < f_max <= sample_rate / 2:
            raise ValueError(f"f_min and f_max must satisfy 0 <= f_min < f_max <= {sample_rate / 2}, got {f_min} and {f_max}")
        if win_length > n_fft:
            raise ValueError(f"win_length must be at most n_fft = {n_fft}, got {win_length}")
        if top_db <= 0:
            raise ValueError(f"top_db must be positive, got {top_db}")
        if win_length % 2:
            raise ValueError(f"win_length must be even, got {win_length}")
        self.top_db, self.win_length, self.hop_length = top_db, win_length, hop_length
        filters = torchaudio.functional.melscale_fbanks(n_fft // 2 + 1, f_min, f_max, n_mels, sample_rate)
        if not filters.any():
            raise ValueError(f"f_min and f_max must have a frequency of the transform between them, got {f_min} and {f_max}")
        n_used = int(filters.any(dim=1).nonzero().max()) + 1
        middle = win_length // 2
        angle = 2 * math.pi / n_fft * torch.outer(torch.arange(middle, dtype=torch.float64), torch.arange(n_used))
        window = torch.hann_window(win_length, dtype=torch.float64)[middle:, None]  # symmetric about its middle
        self.register_buffer("cosines", (window * angle.cos()).float(), persistent=False)  # (middle, n_used)
        self.register_buffer("sines", (window * angle.sin())[1:].float(), persistent=False)  # (middle - 1, n_used)
        self.register_buffer("filters", filters[:n_used].contiguous(), persistent=False)
        self.to_db = torchaudio.transforms.AmplitudeToDB(stype="power")  # its own top_db would apply to the whole batch at once

    def forward(self, waveforms: Tensor) -> Tensor:
        even, odd = self._fold(self._frames(waveforms))
        power = (even @ self.cosines).square() + (odd @ self.sines).square()  # (batch, frames, n_used)
        log_mel = self.to_db(power @ self.filters).transpose(1, 2).unsqueeze(1)  # (batch, 1, n_mels, frames)
        return torch.maximum(log_mel, log_mel.amax(dim=(2, 3), keepdim=True) - self.top_db)

    def _frames(self, waveforms: Tensor) -> Tensor:
        """(batch, samples) -> (batch, frames, win_length); the first frame is centred on sample 0, the ends are mirrored."""
        n_frames = waveforms.shape[1] // self.hop_length + 1
        n_hops = -(-self.win_length // self.hop_length)  # hops that a frame touches: whole hops are views, not copies
        mirrored = F.pad(waveforms[:, None], 2 * (self.win_length // 2,), mode="reflect")[:, 0]
        mirrored = F.pad(mirrored, (0, (n_frames + n_hops - 1) * self.hop_length - mirrored.shape[1]))
        hops = mirrored.reshape(-1, n_frames + n_hops - 1, self.hop_length)
        return torch.cat([hops[:, first : first + n_frames] for first in range(n_hops)], dim=2)[:, :, : self.win_length]

    def _fold(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """A frame's even and odd parts about its middle: cosines see only the even, sines only the odd, which halves the work."""
        middle = self.win_length // 2
        after, before = frames[:, :, middle:], frames[:, :, 1:middle].flip(2)  # the window is zero at the frame's first sample
        return torch.cat([after[:, :, :1], after[:, :, 1:] + before], dim=2), after[:, :, 1:] - before


class FrontEnd:
    """Turns waveforms of one word each, at any rate, into log-mels: :class:`digits.word_window.WordWindow`, then :class:`LogMel`.

    Args:
        sample_rate, window_s, trim: arguments of :class:`digits.word_window.WordWindow`.
        log_mel: arguments of :class:`LogMel` besides the sample rate.
    """

    def __init__(
        self,
        sample_rate: int = audio.SAMPLE_RATE,
        window_s: float = 1.0,
        trim: dict[str, float] | None = None,
        log_mel: dict[str, float] | None = None,
    ) -> None:
        self.window = word_window.WordWindow(sample_rate, window_s, trim or {})
        self.log_mel = LogMel(sample_rate, **(log_mel or {}))  # type: ignore[arg-type]
        self.settings = asdict(self.window) | {"log_mel": log_mel or {}}

    def __call__(self, waveforms: Sequence[tuple[audio.Waveform, int]]) -> Tensor:
        """Log-mels of (waveform, sample rate) pairs, shape (batch, 1, n_mels, frames), dB."""
        windows = numpy.stack([self.window(waveform, sample_rate) for waveform, sample_rate in waveforms])
        with torch.inference_mode():
            return self.log_mel(torch.from_numpy(windows))
