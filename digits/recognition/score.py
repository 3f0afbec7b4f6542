"""How well a model does on labelled recordings."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from digits.corpora.corpus import NO_DIGIT
from digits.recognition.recognizer import Prediction

Z_95 = 1.959964  # of the normal distribution


@dataclass(frozen=True)
class Score:
    """Counts of digits and of other sounds.

    Args:
        digits: recordings of digits.
        right: of these, those whose most probable digit is the spoken one.
        accepted: of the digits, those at or above the threshold.
        wrong: of the accepted, those that are another digit.
        macro: mean over the speakers of the share that is right; None without digits.
        speakers: of the digits.
        others: recordings of other sounds.
        others_accepted: of these, those taken for a digit.
    """

    digits: int
    right: int
    accepted: int
    wrong: int
    macro: float | None
    speakers: int
    others: int
    others_accepted: int

    def __str__(self) -> str:
        lines = []
        if self.macro is not None:
            lines += [
                f"right     {_share(self.right, self.digits)}",
                f"          {self.macro:.1%} in the mean over {self.speakers} speaker{'s' if self.speakers > 1 else ''}",
                f"accepted  {_share(self.accepted, self.digits)}; {self.wrong} of them wrong",
            ]
        if self.others:
            lines.append(f"other sounds taken for a digit  {_share(self.others_accepted, self.others)}")
        return "\n".join(lines)


def score(answers: Iterable[tuple[int, str, Prediction]]) -> Score:
    """Compare predictions with the digits (:data:`~digits.corpora.corpus.NO_DIGIT`: another sound) that speakers said."""
    by_speaker: dict[str, list[bool]] = defaultdict(list)
    accepted = wrong = others = others_accepted = 0
    for digit, speaker, prediction in answers:
        if digit == NO_DIGIT:
            others += 1
            others_accepted += prediction.accepted
            continue
        is_right = prediction.digit == digit
        by_speaker[speaker].append(is_right)
        accepted += prediction.accepted
        wrong += prediction.accepted and not is_right
    rights = [is_right for of_speaker in by_speaker.values() for is_right in of_speaker]
    macro = statistics.fmean(map(statistics.fmean, by_speaker.values())) if rights else None
    return Score(len(rights), sum(rights), accepted, wrong, macro, len(by_speaker), others, others_accepted)


def wilson(correct: float, total: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (J. Am. Stat. Assoc. 22, 1927, 209-212); ``correct`` may be a mean over seeds."""
    proportion = correct / total
    centre = (proportion + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(proportion * (1 - proportion) / total + z * z / (4 * total * total))
    return max(0.0, centre - half), min(1.0, centre + half)


def _share(part: int, total: int) -> str:
    low, high = wilson(part, total)
    return f"{part / total:.1%} ({part} of {total}; 95 % interval {100 * low:.1f} to {100 * high:.1f})"
