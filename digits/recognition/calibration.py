"""How far a probability can be trusted: temperature, the threshold of "not sure", calibration error, risk and coverage."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from digits.corpora.corpus import N_DIGITS, NO_DIGIT

MAX_RISK = 0.02  # largest share of wrong answers among those that the threshold accepts, on held-out clips
MAX_FALSE = 0.03  # largest share of other sounds that it accepts, none of which training has heard


@dataclass(frozen=True)
class Calibration:
    """Logits are divided by ``temperature``; an answer with a probability below ``threshold`` is "not sure".

    Raises:
        ValueError: the temperature is not positive, or the threshold not in [0, 1].
    """

    temperature: float = 1.0
    threshold: float = 0.0

    def __post_init__(self) -> None:
        numbers = all(type(value) in (int, float) for value in (self.temperature, self.threshold))
        if not (numbers and 0 < self.temperature < math.inf and 0 <= self.threshold <= 1):
            raise ValueError(f"temperature must be positive and threshold in [0, 1], got {self.temperature} and {self.threshold}")


def probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Probabilities of the ten digits, (clips, outputs) -> (clips, 10).

    With eleven outputs, the remainder to 1 in each row is the probability that the sound is not a digit.
    """
    return (logits / temperature).softmax(dim=1)[:, :N_DIGITS]


def calibrate(logits: Tensor, labels: Tensor, others: Sequence[Tensor] = (), smoothing: float = 0.0) -> Calibration:
    """Temperature and threshold from held-out clips.

    The temperature fits digits and other sounds together, so that what goes to "no digit" is not missing from the digits. The
    threshold is the strictest of several: the lowest at which at most :data:`MAX_RISK` of the accepted answers to digits are wrong,
    and for each collection of other sounds, the lowest at which at most :data:`MAX_FALSE` of them are accepted.

    Args:
        logits: of digits, shape (clips, outputs).
        labels: of the same clips, shape (clips,).
        others: collections of other sounds, none of them empty, logits of shape (sounds, 11) each.
        smoothing: see :func:`fit_temperature`.

    Raises:
        ValueError: no threshold keeps :data:`MAX_RISK`.
    """
    no_digit = [torch.full((len(sounds),), NO_DIGIT) for sounds in others]
    fitted = fit_temperature(torch.cat([logits, *others]), torch.cat([labels, *no_digit]), smoothing)
    temperature = round(fitted, 4)  # as it is stored, since the threshold depends on it
    confidence, predicted = probabilities(logits, temperature).max(dim=1)
    threshold = choose_threshold(confidence, predicted == labels, MAX_RISK)
    for sounds in others:
        ranked = probabilities(sounds, temperature).max(dim=1).values.sort(descending=True).values
        highest_rejected = float(ranked[int(MAX_FALSE * len(ranked))])
        threshold = max(threshold, min(1.0, math.nextafter(highest_rejected, 1)))
    return Calibration(temperature, math.ceil(1e4 * threshold) / 1e4)  # rounded up, to keep them all


def calibrate_on_few(logits: Tensor, labels: Tensor, others: Sequence[Tensor] = ()) -> Calibration:
    """:func:`calibrate` on clips that may all be right, where the best temperature would be 0.

    Labels are smoothed by 1 / (clips + 2), as for Platt scaling (Advances in Large Margin Classifiers, 1999, 61-74).
    """
    return calibrate(logits, labels, others, smoothing=1 / (len(labels) + 2))


def fit_temperature(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> float:
    """The temperature with the lowest cross entropy on held-out clips (arXiv 1706.04599).

    Args:
        logits: shape (clips, outputs).
        labels: shape (clips,).
        smoothing: share of each label that is spread over all outputs.
    """
    from scipy.optimize import minimize_scalar  # here, because recognition needs neither this nor torchmetrics

    found = minimize_scalar(
        lambda log_temperature: float(
            F.cross_entropy(logits.double() / math.exp(log_temperature), labels, label_smoothing=smoothing)
        ),
        bounds=(-3, 3),
    )
    return math.exp(found.x)


def expected_calibration_error(probabilities: Tensor, labels: Tensor, n_bins: int = 10) -> float:
    """Mean distance between confidence and accuracy over ``n_bins`` bins of equal width, weighted by their number of clips."""
    from torchmetrics.functional.classification import multiclass_calibration_error

    return float(multiclass_calibration_error(probabilities, labels, probabilities.shape[1], n_bins=n_bins, norm="l1"))


def risk_coverage(confidence: Tensor, correct: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Threshold, coverage (share accepted) and risk (share wrong among the accepted), each (clips,), most confident first."""
    order = confidence.argsort(descending=True, stable=True)
    accepted = torch.arange(1, len(order) + 1)
    return confidence[order], accepted / len(order), (~correct[order].bool()).cumsum(0) / accepted


def choose_threshold(confidence: Tensor, correct: Tensor, max_risk: float) -> float:
    """The lowest threshold at which at most ``max_risk`` of the accepted answers are wrong.

    Raises:
        ValueError: even the most confident answers are wrong more often.
    """
    threshold, _, risk = risk_coverage(confidence, correct)
    last_of_equals = torch.cat([threshold[:-1] != threshold[1:], torch.tensor([True])])  # a threshold accepts all or none of them
    allowed = ((risk <= max_risk) & last_of_equals).nonzero()
    if not len(allowed):
        raise ValueError(f"no threshold keeps the risk at {max_risk}: the most confident answer is wrong")
    return float(threshold[int(allowed[-1])])
