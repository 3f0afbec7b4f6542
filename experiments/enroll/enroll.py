"""What a taught voice is worth, and what it costs others: ``python -m experiments.enroll.enroll RUNS --unseen F --words F``.

RUNS holds a run for each of FSDD's speakers, who was left out of its training. That speaker teaches the run's model on a few takes
of each digit, and the other takes are the test. Everything after the network's features is linear, so each recording goes through
it once.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy
from numpy.typing import NDArray

from digits import audio
from digits.corpora import fsdd
from digits.corpora.corpus import N_DIGITS, Clip
from digits.corpora.folder import read_folder
from digits.recognition import model_files, voice
from digits.recognition.model_files import Model
from digits.training import runs
from experiments import tables

TAKES = (1, 3, 5)
SHOWN = 3  # takes, in the table by speaker
DRAWS = 5  # of the takes to learn from

Judge = Callable[[voice.Examples], NDArray[numpy.float64]]


@dataclass(frozen=True)
class Draw:
    """Shares before and after a voice was taught, of one draw of takes.

    Args:
        own: of the person's other recordings, right.
        accepted: of those, right and accepted at the model's threshold.
        others: of the official test clips of the speakers whom the model knows, right.
        unseen: of other people's digits, right.
        words: of other words, accepted as digits.
    """

    speaker: str
    takes: int
    own: tuple[float, float]
    accepted: tuple[float, float]
    others: tuple[float, float]
    unseen: tuple[float, float]
    words: tuple[float, float]


@dataclass(frozen=True)
class Heard:
    """All recordings as a model hears them."""

    model: Model
    fsdd: voice.Examples
    unseen: voice.Examples
    words: voice.Examples


def hear(model: Model, clips: Sequence[Clip], unseen: Sequence[Clip], words: Sequence[Path]) -> Heard:
    def only_tested(paths: Sequence[Path], labels: Sequence[int]) -> voice.Examples:
        seen, logits = voice.features(model, [audio.read(path) for path in paths])
        return voice.Examples(numpy.array(labels), seen, logits, seen, logits)

    learnt = voice.examples(model, [audio.read(clip.path) for clip in clips], [clip.digit for clip in clips])
    foreign = only_tested([clip.path for clip in unseen], [clip.digit for clip in unseen])
    return Heard(model, learnt, foreign, only_tested(words, [N_DIGITS] * len(words)))


def draw(heard: Heard, clips: Sequence[Clip], speaker: str, takes: int, seed: int) -> Draw:
    """Teach a voice on some takes of each digit, and try it on everything else."""
    random = numpy.random.default_rng(seed)
    is_own = numpy.array([clip.speaker == speaker for clip in clips])
    learnt = numpy.zeros(len(clips), dtype=bool)
    for digit in range(N_DIGITS):
        learnt[random.permutation(numpy.flatnonzero(is_own & (heard.fsdd.labels == digit)))[:takes]] = True
    own = voice.fit(heard.fsdd.part(learnt))
    test = heard.fsdd.part(is_own & ~learnt)
    others = heard.fsdd.part(~is_own & numpy.array([clip.take < 5 for clip in clips]))

    def both(measure: Callable[[NDArray[numpy.float64], NDArray[numpy.int64]], float], seen: voice.Examples) -> tuple[float, float]:
        before, after = (_probabilities(seen, shift) for shift in (0.0, own.shift(seen.features)))
        return measure(before, seen.labels), measure(after, seen.labels)

    def accepted(probabilities: NDArray[numpy.float64], labels: NDArray[numpy.int64]) -> float:
        return float((_accepted(probabilities, heard.model.threshold) & (probabilities.argmax(axis=1) == labels)).mean())

    def taken(probabilities: NDArray[numpy.float64], _: NDArray[numpy.int64]) -> float:
        return float(_accepted(probabilities, heard.model.threshold).mean())

    return Draw(
        speaker,
        takes,
        both(_right, test),
        both(accepted, test),
        both(_right, others),
        both(_right, heard.unseen),
        both(taken, heard.words),
    )


def _probabilities(seen: voice.Examples, shift: NDArray[numpy.float64] | float) -> NDArray[numpy.float64]:
    powers = numpy.exp(seen.logits + shift)
    return powers / powers.sum(axis=1, keepdims=True)


def _right(probabilities: NDArray[numpy.float64], labels: NDArray[numpy.int64]) -> float:
    return float((probabilities.argmax(axis=1) == labels).mean())


def _accepted(probabilities: NDArray[numpy.float64], threshold: float) -> NDArray[numpy.bool_]:
    """Whether a digit wins, by at least the threshold."""
    return (probabilities.argmax(axis=1) < N_DIGITS) & (probabilities.max(axis=1) >= threshold)


def change(draws: Sequence[Draw], measure: str) -> str:
    """``91.8 -> 96.4``, in per cent, means over draws."""
    before, after = ([getattr(one, measure)[n] for one in draws] for n in (0, 1))
    return f"{100 * statistics.fmean(before):.1f} → {100 * statistics.fmean(after):.1f}"


def gone(draws: Sequence[Draw]) -> str:
    """Share of the own errors that are gone, in per cent."""
    before, after = (1 - statistics.fmean(one.own[n] for one in draws) for n in (0, 1))
    return f"{100 * (1 - after / before):.0f}" if before else "-"


def worst(draws: Sequence[Draw], measure: str) -> str:
    """The worst change of any speaker, means over draws, in points."""
    changes = [
        statistics.fmean(getattr(one, measure)[1] - getattr(one, measure)[0] for one in draws if one.speaker == speaker)
        for speaker in {one.speaker for one in draws}
    ]
    return f"{100 * min(changes):+.1f}"


MEASURES = {
    "own": "own digits right, %",
    "accepted": "own digits right and accepted, %",
    "others": "other speakers that it knows, right, %",
    "unseen": "unseen speakers right, %",
    "words": "other words accepted, %",
}


WORST = {"own digits": "own", "other speakers that it knows": "others", "unseen speakers": "unseen"}


def by_speaker(draws: Sequence[Draw]) -> str:
    """The effect for each speaker, with :data:`SHOWN` takes."""
    chosen = [one for one in draws if one.takes == SHOWN]
    header = ["speaker", "own errors gone, %", *MEASURES.values()]
    rows = []
    for speaker in [*sorted({one.speaker for one in chosen}), "all"]:
        own = [one for one in chosen if speaker in (one.speaker, "all")]
        rows.append([speaker, gone(own), *(change(own, measure) for measure in MEASURES)])
    return tables.table(header, rows)


def by_takes(draws: Sequence[Draw]) -> str:
    """The effect of more takes, all speakers together."""
    header = ["takes of each digit", "own errors gone, %", *(f"{of}: worst change by any voice, points" for of in WORST)]
    rows = []
    for takes in TAKES:
        own = [one for one in draws if one.takes == takes]
        rows.append([str(takes), gone(own), *(worst(own, of) for of in WORST.values()), *(change(own, name) for name in MEASURES)])
    return tables.table([*header, *MEASURES.values()], rows)


def shipped(clips: Sequence[Clip], unseen: Sequence[Clip], words: Sequence[Path]) -> str:
    """The pretrained model with the voice of each of FSDD's speakers, whom it has heard: what others notice of it."""
    heard = hear(model_files.load(model_files.PRETRAINED), clips, unseen, words)
    rows = []
    for speaker in sorted({clip.speaker for clip in clips}):
        own = [draw(heard, clips, speaker, SHOWN, seed) for seed in range(DRAWS)]
        rows.append([speaker, *(change(own, measure) for measure in ("own", "others", "unseen", "words"))])
    header = ["voice of", *(MEASURES[measure] for measure in ("own", "others", "unseen", "words"))]
    return tables.table(header, rows)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="a folder SPEAKER/best.ckpt for each speaker")
    parser.add_argument("--unseen", type=Path, required=True, help="recordings of other people's digits, 7_ann_0.wav")
    parser.add_argument("--words", type=Path, required=True, help="recordings of other words")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args(arguments)
    clips, unseen, words = fsdd.load().clips, read_folder(options.unseen, "unseen").clips, audio.find_files(options.words)
    draws = []
    for path in sorted(options.runs.glob("*/best.ckpt")):
        heard = hear(model_files.load(path), clips, unseen, words)
        draws += [draw(heard, clips, path.parent.name, takes, seed) for takes in TAKES for seed in range(DRAWS)]
        print(path.parent.name, file=sys.stderr)
    sections = {
        "Speakers": by_speaker(draws),
        "Takes": by_takes(draws),
        "Pretrained": shipped(clips, unseen, words),
    }
    counts = f"{len(clips)} clips, {len(unseen)} unseen digits, {len(words)} words; {DRAWS} draws of takes"
    closing = f"{counts}. {tables.provenance([*runs.read_metrics(options.runs).values()])}"
    tables.write_report(options.out / "report.md", "Taught voices", sections, closing)


if __name__ == "__main__":
    main()
