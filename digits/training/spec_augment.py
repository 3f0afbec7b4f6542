"""Augmentation of log-mels, on whole batches and only in training. A strength of 0 turns that part off."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from digits._torchaudio import torchaudio

N_GAINS = 6  # points of the random gain curve, from the lowest to the highest band


class SpecAugment(nn.Module):
    """Random equaliser and time shift, then SpecAugment's time and frequency masks (arXiv 1904.08779), drawn for each clip.

    Args:
        time_shift: largest shift in frames, in either direction; the gap is filled with the clip's minimum.
        time_mask_param: a time mask covers 0 to this many frames.
        freq_mask_param: a frequency mask covers 0 to this many mel bands.
        n_masks: number of masks of each kind, filled with the clip's mean.
        equalizer_db: standard deviation of a random gain curve over the mel bands, interpolated between six points.

    Raises:
        ValueError: a negative strength.
    """

    def __init__(
        self,
        time_shift: int = 0,
        time_mask_param: int = 0,
        freq_mask_param: int = 0,
        n_masks: int = 1,
        equalizer_db: float = 0.0,
    ) -> None:
        super().__init__()
        strengths = {"time_shift": time_shift, "time_mask_param": time_mask_param, "freq_mask_param": freq_mask_param}
        for name, value in (strengths | {"equalizer_db": equalizer_db}).items():
            if value < 0:
                raise ValueError(f"augment.{name} must be 0 (off) or positive, got {value}")
        self.equalizer_db = equalizer_db
        self.time_shift = time_shift
        self.time_mask_param = time_mask_param
        self.freq_mask_param = freq_mask_param
        self.n_masks = n_masks

    def forward(self, log_mel: Tensor) -> Tensor:
        """(batch, 1, n_mels, frames) -> the same shape; unchanged in eval mode."""
        if not self.training:
            return log_mel
        if self.equalizer_db:
            log_mel = self._equalize(log_mel)
        if self.time_shift:
            log_mel = self._shift(log_mel)
        if self.time_mask_param or self.freq_mask_param:
            log_mel = self._mask(log_mel)
        return log_mel

    def _equalize(self, log_mel: Tensor) -> Tensor:
        gains = self.equalizer_db * torch.randn(len(log_mel), 1, N_GAINS, 1, device=log_mel.device)
        return log_mel + F.interpolate(gains, size=(log_mel.shape[2], 1), mode="bilinear", align_corners=True)

    def _shift(self, log_mel: Tensor) -> Tensor:
        frames = log_mel.shape[-1]
        shift = torch.randint(-self.time_shift, self.time_shift + 1, (len(log_mel), 1, 1, 1), device=log_mel.device)
        source = torch.arange(frames, device=log_mel.device) - shift  # (batch, 1, 1, frames)
        moved = log_mel.gather(-1, source.clamp(0, frames - 1).expand_as(log_mel))
        return torch.where((source >= 0) & (source < frames), moved, log_mel.amin(dim=(2, 3), keepdim=True))

    def _mask(self, log_mel: Tensor) -> Tensor:
        mean = log_mel.mean(dim=(2, 3), keepdim=True)  # torchaudio would fill the whole batch with one value
        masked = log_mel - mean
        for _ in range(self.n_masks):
            for axis, mask_param in ((2, self.freq_mask_param), (3, self.time_mask_param)):
                masked = torchaudio.functional.mask_along_axis_iid(masked, mask_param, mask_value=0.0, axis=axis)
        return masked + mean
