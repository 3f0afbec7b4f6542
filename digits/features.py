"""The front end: from a waveform at any sample rate to the log-mel image that every model sees."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from digits import audio
from digits._torchaudio import torchaudio


class LogMel(nn.Module):
    """Mel spectrogram in dB, (batch, samples) -> (batch, 1, n_mels, frames), HTK mel scale.

    Values lie between the clip's own maximum and ``top_db`` below it, so neither the padding with zeros nor anything quieter than
    a usual microphone's noise is visible.
    """

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
        self.top_db = top_db
        self.mel = torchaudio.transforms.MelSpectrogram(
            sample_rate=sample_rate,
            n_fft=n_fft,
            win_length=win_length,
            hop_length=hop_length,
            n_mels=n_mels,
            f_min=f_min,
            f_max=f_max,
        )
        self.to_db = torchaudio.transforms.AmplitudeToDB(stype="power")  # its own top_db would look at the whole batch

    def forward(self, waveforms: Tensor) -> Tensor:
        log_mel = self.to_db(self.mel(waveforms)).unsqueeze(1)  # (batch, 1, n_mels, frames)
        return torch.maximum(log_mel, log_mel.amax(dim=(2, 3), keepdim=True) - self.top_db)


class FrontEnd:
    """Waveform at any rate -> resampled, trimmed to its word, fitted to one window -> log-mel.

    Args:
        sample_rate: Hz that every waveform is resampled to.
        window_s: seconds of the window that the word is centred in.
        trim: arguments of :func:`digits.audio.trim`.
        log_mel: arguments of :class:`LogMel`.
    """

    def __init__(
        self,
        sample_rate: int = audio.SAMPLE_RATE,
        window_s: float = 1.0,
        trim: dict[str, float] | None = None,
        log_mel: dict[str, float] | None = None,
    ) -> None:
        self.sample_rate = sample_rate
        self.window_length = round(window_s * sample_rate)
        self.trim = trim or {}
        self.log_mel = LogMel(sample_rate, **(log_mel or {}))  # type: ignore[arg-type]

    def window(self, waveform: Tensor, sample_rate: int) -> Tensor:
        """One word's waveform, shape (window_length,).

        Raises:
            ValueError: the waveform cannot hold a word (:func:`digits.audio.check`).
        """
        audio.check(waveform, sample_rate)
        waveform = waveform / waveform.abs().max()  # gain does not matter, and no level can overflow or vanish in the powers below
        waveform = audio.resample(waveform, sample_rate, self.sample_rate)
        return audio.fit(audio.trim(waveform, self.sample_rate, **self.trim), self.window_length)

    def __call__(self, waveforms: Sequence[tuple[Tensor, int]]) -> Tensor:
        """Log-mels of (waveform, sample rate) pairs, shape (batch, 1, n_mels, frames), dB."""
        windows = torch.stack([self.window(waveform, sample_rate) for waveform, sample_rate in waveforms])
        with torch.inference_mode():
            return self.log_mel(windows)
