import math

import numpy
import pytest
import torch
from torch.nn import functional as F

from digits.recognition import calibration
from digits.recognition.calibration import Calibration


def honest(n: int = 20_000) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits whose softmax is the true probability of each label."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(n, 10, generator=generator)
    return logits, torch.multinomial(logits.softmax(dim=1), 1, generator=generator).flatten()


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_was_put_in_is_found(temperature: float) -> None:
    logits, labels = honest()
    assert calibration.fit_temperature(temperature * logits, labels) == pytest.approx(temperature, rel=0.03)


def test_what_the_digits_probabilities_lack_to_one_is_no_digit() -> None:
    logits = torch.randn(50, 11, generator=torch.Generator().manual_seed(0))
    probabilities = calibration.probabilities(logits, 0.5)
    assert probabilities.shape == (50, 10)
    torch.testing.assert_close(1 - probabilities.sum(dim=1), (2 * logits).softmax(dim=1)[:, 10])
    torch.testing.assert_close(calibration.probabilities(logits[:, :10]), logits[:, :10].softmax(dim=1))


def test_calibration_error_is_nothing_for_honest_and_grows_for_sharpened_probabilities() -> None:
    logits, labels = honest()
    assert calibration.expected_calibration_error(logits.softmax(dim=1), labels) < 0.01
    sharp = (3 * logits).softmax(dim=1)
    confidence, predicted = sharp.max(dim=1)
    bins = (confidence * 10).ceil().clamp(1, 10)
    by_hand = sum(
        (bins == b).double().mean() * ((confidence[bins == b]).mean() - (predicted == labels)[bins == b].float().mean()).abs()
        for b in range(1, 11)
        if (bins == b).any()
    )
    assert calibration.expected_calibration_error(sharp, labels) == pytest.approx(float(by_hand), abs=2e-3)
    assert by_hand > 0.1


def test_risk_and_coverage_by_hand() -> None:
    confidence, correct = torch.tensor([0.9, 0.5, 0.8, 0.7]), torch.tensor([1, 0, 1, 0])
    threshold, coverage, risk = calibration.risk_coverage(confidence, correct)
    numpy.testing.assert_allclose(threshold, [0.9, 0.8, 0.7, 0.5], rtol=1e-6)
    numpy.testing.assert_allclose(coverage, [0.25, 0.5, 0.75, 1.0])
    numpy.testing.assert_allclose(risk, [0, 0, 1 / 3, 1 / 2])


def test_the_threshold_keeps_the_risk_and_rejects_no_more_than_it_must() -> None:
    logits, labels = honest()
    confidence, predicted = logits.softmax(dim=1).max(dim=1)
    correct = predicted == labels
    threshold = calibration.choose_threshold(confidence, correct, max_risk=0.1)
    accepted = confidence >= threshold
    assert 0.09 < float((~correct[accepted]).float().mean()) <= 0.1
    equals, right = torch.tensor([0.9, 0.9, 0.9, 0.8]), torch.tensor([1, 1, 0, 1])  # no threshold can tell the first three apart
    assert calibration.choose_threshold(equals, right, max_risk=0.25) == pytest.approx(0.8)
    with pytest.raises(ValueError, match=r"no threshold keeps the risk at 0\.1"):
        calibration.choose_threshold(torch.tensor([0.9, 0.8]), torch.tensor([0, 1]), 0.1)


@pytest.mark.parametrize("values", [(0.0, 0.5), (math.inf, 0.5), (1.0, 1.5), (1.0, -0.1), (math.nan, 0.5)])
def test_impossible_calibrations_are_refused(values: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="temperature must be positive"):
        Calibration(*values)


def test_temperature_changes_no_answer() -> None:
    logits, _ = honest(100)
    assert torch.equal(logits.argmax(dim=1), (logits / 3).softmax(dim=1).argmax(dim=1))
    assert F.cross_entropy(logits, logits.argmax(dim=1)) < F.cross_entropy(logits / 3, logits.argmax(dim=1))


def test_few_clips_that_are_all_right_do_not_make_the_model_overconfident() -> None:
    labels = torch.arange(300) % 10
    logits = 4.0 * F.one_hot(labels, 10) + 0.3 * torch.randn(300, 10, generator=torch.Generator().manual_seed(0))
    plain, smoothed = calibration.calibrate(logits, labels), calibration.calibrate_on_few(logits, labels)
    assert plain.temperature < 0.06  # the lower bound: every probability becomes 1
    expected = 1 - 0.9 / 302  # the mean probability of the right digit that the smoothed labels ask for
    confidence = calibration.probabilities(logits, smoothed.temperature).amax(dim=1)
    assert float(confidence.mean()) == pytest.approx(expected, abs=2e-3)
    assert smoothed.threshold == pytest.approx(float(confidence.min()), abs=1e-4)
