from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy

from digits.corpora.corpus import Clip
from digits.recognition import voice
from experiments.enroll import enroll


def clip(digit: int, speaker: str, take: int) -> Any:
    return SimpleNamespace(digit=digit, speaker=speaker, take=take, path=Path("x"))


def heard(clips: list[Clip]) -> enroll.Heard:
    """A model that is right about bob and knows nothing of ann, whose features tell her digits."""
    random = numpy.random.default_rng(0)
    labels = numpy.array([clip.digit for clip in clips])
    is_ann = numpy.array([clip.speaker == "ann" for clip in clips])
    features = 4 * numpy.eye(40)[labels + 20 * ~is_ann] + 0.2 * random.standard_normal((len(clips), 40))
    logits = numpy.where(is_ann[:, None], numpy.log(1 / 11), 9 * numpy.eye(11)[labels])
    seen = voice.Examples(labels, features, logits, features + 30, 9 * numpy.eye(11)[numpy.full(len(labels), 10)])
    model: Any = SimpleNamespace(threshold=0.3)
    return enroll.Heard(model, seen, seen.part(~is_ann), seen.part(~is_ann))


def test_a_draw_teaches_on_some_takes_and_tests_on_the_others() -> None:
    clips = [clip(digit, speaker, take) for digit in range(10) for speaker in ("ann", "bob") for take in range(8)]
    draw = enroll.draw(heard(clips), clips, "ann", 3, 0)
    assert (draw.speaker, draw.takes) == ("ann", 3)
    assert draw.own == (0.1, 1.0)  # ties go to zero
    assert draw.others == draw.unseen == (1.0, 1.0)
    assert draw.words == (1.0, 1.0)
    assert draw == enroll.draw(heard(clips), clips, "ann", 3, 0)


def result(speaker: str, before: float, after: float, takes: int = 3) -> enroll.Draw:
    pair = (before, after)
    return enroll.Draw(speaker, takes, pair, pair, pair, pair, pair)


def test_tables_by_hand() -> None:
    draws = [result("ann", 0.8, 0.9), result("ann", 0.8, 1.0), result("bob", 0.9, 0.8)]
    assert enroll.gone(draws[:2]) == "75"
    assert enroll.gone([result("cid", 1.0, 1.0)]) == "-"
    assert enroll.change(draws[:2], "own") == "80.0 → 95.0"
    assert enroll.worst(draws, "others") == "-10.0"
    rows = enroll.by_speaker(draws).splitlines()
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| ann", "| bob", "| all"]
    assert rows[-1].split(" | ")[1] == "40"  # of 50 points of errors, 20
