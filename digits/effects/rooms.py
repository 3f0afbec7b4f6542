"""Reverberation."""

import torch
from torch import Tensor

from digits.effects.scene import Scene, convolve, effect, recording

MAX_RT60_S = 20.0  # a large cathedral has ten


@effect()
def reverb(waveform: Tensor, scene: Scene, rt60_s: float, drr_db: float | None = None) -> Tensor:
    """Convolve with noise that decays by 60 dB in ``rt60_s`` seconds (Polack's model), keeping the clip's power.

    Args:
        rt60_s: reverberation time.
        drr_db: direct-to-reverberant ratio. None leaves out the direct sound, as far beyond the room's critical distance.
    """
    if not 0 < rt60_s <= MAX_RT60_S:
        raise ValueError(f"rt60_s must be above 0, at most {MAX_RT60_S}")
    time_s = torch.arange(round(rt60_s * scene.sample_rate)) / scene.sample_rate
    impulse_response = scene.noise(len(time_s)) * 10 ** (-3 * time_s / rt60_s)
    if drr_db is not None:
        impulse_response = impulse_response / impulse_response.square().sum().sqrt() * 10 ** (-drr_db / 20)
        impulse_response[0] = 1.0
    return convolve(waveform, impulse_response)


@effect(reads_files=True)
def recorded_room(waveform: Tensor, scene: Scene, root: str | None) -> Tensor:
    """Convolve with a random impulse response from the folder ``root``, from its direct sound on, keeping the clip's power."""
    impulse_response = recording(root, scene)
    return convolve(waveform, impulse_response[int(impulse_response.abs().argmax()) :])
