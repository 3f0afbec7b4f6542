"""How far a probability can be trusted: temperature, calibration error, and when to say "not sure"."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from digits.corpus import N_DIGITS


@dataclass(frozen=True)
class Calibration:
    """Logits are divided by ``temperature``; an answer whose probability is below ``threshold`` is "not sure"."""

    temperature: float = 1.0
    threshold: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.temperature < math.inf and 0 <= self.threshold <= 1):
            raise ValueError(f"temperature must be positive and threshold in [0, 1], got {self.temperature} and {self.threshold}")


def probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Of the ten digits, (clips, outputs) -> (clips, 10); what is missing to 1 is the probability that it is no digit."""
    return (logits / temperature).softmax(dim=1)[:, :N_DIGITS]


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature of lowest cross entropy on held-out clips (arXiv 1706.04599); logits (clips, outputs), labels (clips,)."""
    from scipy.optimize import minimize_scalar  # here, since recognising needs neither this nor torchmetrics

    found = minimize_scalar(
        lambda log_temperature: float(F.cross_entropy(logits.double() / math.exp(log_temperature), labels)), bounds=(-3, 3)
    )
    return math.exp(found.x)


def expected_calibration_error(probabilities: Tensor, labels: Tensor, n_bins: int = 10) -> float:
    """Mean distance between the confidence and the accuracy of ``n_bins`` equally wide bins, weighted by their clips."""
    from torchmetrics.functional.classification import multiclass_calibration_error

    return float(multiclass_calibration_error(probabilities, labels, probabilities.shape[1], n_bins=n_bins, norm="l1"))


def risk_coverage(confidence: Tensor, correct: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The most confident clips first: threshold, coverage (share accepted) and risk (share wrong of those), each (clips,)."""
    order = confidence.argsort(descending=True, stable=True)
    accepted = torch.arange(1, len(order) + 1)
    return confidence[order], accepted / len(order), (~correct[order].bool()).cumsum(0) / accepted


def choose_threshold(confidence: Tensor, correct: Tensor, max_risk: float) -> float:
    """The lowest threshold at which at most ``max_risk`` of the accepted answers are wrong.

    Raises:
        ValueError: even the most confident answers are wrong more often.
    """
    threshold, _, risk = risk_coverage(confidence, correct)
    last_of_equals = torch.cat([threshold[:-1] != threshold[1:], torch.tensor([True])])  # a threshold accepts all of them
    allowed = ((risk <= max_risk) & last_of_equals).nonzero()
    if not len(allowed):
        raise ValueError(f"no threshold keeps the risk at {max_risk}: the most confident answer is wrong")
    return float(threshold[int(allowed[-1])])
