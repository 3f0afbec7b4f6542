"""How far a probability can be trusted: temperature, calibration error, risk and coverage.

The arithmetic only: ``digits/calibrate.py`` fits a model's temperature and threshold with it and says how strict the threshold is.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from digits.corpora.corpus import N_DIGITS


@dataclass(frozen=True)
class Calibration:
    """Logits are divided by ``temperature``; an answer with a probability below ``threshold`` is "not sure".

    Raises:
        ValueError: the temperature is not positive, or the threshold not in [0, 1].
    """

    temperature: float = 1.0
    threshold: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.temperature < math.inf and 0 <= self.threshold <= 1):
            raise ValueError(f"temperature must be positive and threshold in [0, 1], got {self.temperature} and {self.threshold}")


def probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Probabilities of the ten digits, (clips, outputs) -> (clips, 10).

    With eleven outputs, the remainder to 1 in each row is the probability that the sound is not a digit.
    """
    return (logits / temperature).softmax(dim=1)[:, :N_DIGITS]


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature with the lowest cross entropy on held-out clips (arXiv 1706.04599).

    Args:
        logits: shape (clips, outputs).
        labels: shape (clips,).
    """
    from scipy.optimize import minimize_scalar  # here, because recognition needs neither this nor torchmetrics

    found = minimize_scalar(
        lambda log_temperature: float(F.cross_entropy(logits.double() / math.exp(log_temperature), labels)), bounds=(-3, 3)
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
