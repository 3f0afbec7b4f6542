import pytest
import torch

from digits.training.spec_augment import SpecAugment


def images(batch: int = 64) -> torch.Tensor:
    return torch.randn(batch, 1, 40, 101, generator=torch.Generator().manual_seed(0)) * 10 - 30


def test_strength_zero_is_off() -> None:
    assert torch.equal(SpecAugment().train()(images()), images())


def test_eval_mode_is_off() -> None:
    assert torch.equal(SpecAugment(10, 15, 6).eval()(images()), images())


def test_masks_have_at_most_their_width_and_the_clip_s_mean() -> None:
    torch.manual_seed(0)
    before, after = images(), SpecAugment(time_mask_param=15, freq_mask_param=6).train()(images())
    changed = (after - before).abs() > 1e-4
    whole_frames, whole_bands = changed.all(dim=2).sum(dim=(1, 2)), changed.all(dim=3).sum(dim=(1, 2))
    assert whole_frames.max() <= 15
    assert whole_bands.max() <= 6
    assert whole_frames.max() > 5  # they do occur, and not the same for all clips
    assert len(whole_frames.unique()) > 4
    mean = before.mean(dim=(2, 3), keepdim=True).expand_as(before)
    torch.testing.assert_close(after[changed], mean[changed], atol=1e-4, rtol=0)


def test_shift_moves_the_image_and_fills_with_the_minimum() -> None:
    torch.manual_seed(0)
    before, after = images(), SpecAugment(time_shift=10).train()(images())
    shifts = []
    for old, new in zip(before[:, 0], after[:, 0], strict=True):
        for shift in range(-10, 11):
            rolled = old.roll(shift, dims=1)
            inner = slice(max(0, shift), 101 + min(0, shift))
            if torch.equal(new[:, inner], rolled[:, inner]):
                outside = torch.ones(101, dtype=torch.bool)
                outside[inner] = False
                assert (new[:, outside] == old.min()).all()
                shifts.append(shift)
    assert len(shifts) == len(before)
    assert len(set(shifts)) > 10


def test_the_equaliser_is_smooth_the_same_for_all_frames_and_as_strong_as_asked() -> None:
    torch.manual_seed(0)
    gains = SpecAugment(equalizer_db=3).train()(images(1000)) - images(1000)
    torch.testing.assert_close(gains, gains[..., :1].expand_as(gains), atol=1e-4, rtol=0)
    ends = gains[:, 0, [0, -1], 0]
    assert abs(float(ends.std()) - 3) < 0.2
    assert float(gains[:, 0, :, 0].diff(dim=1).abs().max()) < 3


@pytest.mark.parametrize("name", ["time_shift", "time_mask_param", "freq_mask_param", "equalizer_db"])
def test_negative_strengths_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"augment.{name} must be 0 .* got -1"):
        SpecAugment(**{name: -1})
