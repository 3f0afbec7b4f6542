"""What the shipped model makes of people, words, speech and noises that it never heard.

``python experiments/public/shipped.py --unseen FOLDER --words FOLDER --speech FOLDER --noises FOLDER``

The other figures are those of the recipe. The shipped file has heard all of FSDD, so only other recordings can test it.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy

from digits import Recognizer, audio
from digits.corpora import catalog
from digits.corpora.corpus import NO_DIGIT
from digits.corpora.folder import read_folder
from digits.recognition.recognizer import Prediction
from digits.recognition.score import score
from digits.recognition.torch_models import PLAIN_PRETRAINED_PATH
from digits.settings import THRESHOLDS
from experiments import tables
from experiments.live import live
from experiments.live.streams import SENTENCE_PAUSE_S, Stream, digit_streams, load, mixtures, recordings, speech_stream

STREAMS = {"in quiet": "unseen speakers, quiet", "at 10 dB": "unseen speakers, 10 dB"}


@dataclass(frozen=True)
class Answers:
    """What the model says of each recording, without a threshold, and the streams of such recordings."""

    digits: list[tuple[int, str, Prediction]]  # digit, speaker
    words: dict[str, list[Prediction]]  # by corpus
    streams: list[tuple[Stream, list[live.Heard]]]


def listen(recognizer: Recognizer, options: argparse.Namespace) -> Answers:
    clips = read_folder(options.unseen, "unseen").clips
    words = {
        folder.name: [recognizer(*audio.read(path)) for path in audio.find_files(folder)]
        for folder in sorted(options.words.iterdir())
        if folder.is_dir()
    }
    noises = recordings(options.noises)
    streams = [stream for stream in digit_streams("unseen speakers", load(clips), numpy.concatenate(noises)) if _is_shown(stream)]
    streams += [speech_stream("speech", recordings(options.speech), SENTENCE_PAUSE_S), Stream("noise", mixtures(noises), [])]
    return Answers(
        [(clip.digit, clip.speaker, recognizer(*audio.read(clip.path))) for clip in clips],
        words,
        [(stream, live.hear(recognizer, stream)) for stream in streams],
    )


def _is_shown(stream: Stream) -> bool:
    return stream.name in STREAMS.values()


def choices(answers: Answers, thresholds: dict[str, float]) -> str:
    """What each named threshold buys."""
    header = [
        "`threshold=`",
        "unseen speakers: right and accepted, %",
        *(f"found and right in their streams, {name}, %" for name in STREAMS),
        "real words accepted, %",
        "false digits per hour of speech",
        "false digits per hour of noise",
    ]
    rows = []
    for name, threshold in thresholds.items():
        right = [p.digit == digit and _accepts(p, threshold) for digit, _, p in answers.digits]
        words = [_accepts(p, threshold) for own in answers.words.values() for p in own]
        scores = {stream.name: live.score("shipped", stream, events, threshold) for stream, events in answers.streams}
        found = [scores[stream] for stream in STREAMS.values()]
        false = [scores[name] for name in ("speech", "noise")]
        rows.append(
            [
                f"{name} ({threshold:.3f})",
                tables.share(sum(right), len(right)),
                *(f"{100 * one.right / one.spoken:.1f}" for one in found),
                tables.share(sum(words), len(words)),
                *(f"{one.false / one.hours:.1f}" for one in false),
            ]
        )
    return tables.table(header, rows)


def _accepts(prediction: Prediction, threshold: float) -> bool:
    return prediction.accepted and prediction.probability >= threshold


def other_words(answers: Answers, threshold: float) -> str:
    """Real words accepted as digits, by corpus."""
    rows = [
        [name, str(len(own)), tables.share(sum(_accepts(p, threshold) for p in own), len(own))]
        for name, own in answers.words.items()
    ]
    return tables.table(["words of", "recordings", "accepted, %"], rows)


def unseen(answers: Answers, threshold: float) -> str:
    """The digits of unseen speakers."""
    found = score((digit, speaker, p) for digit, speaker, p in answers.digits)
    accepted = [p.digit == digit for digit, _, p in answers.digits if _accepts(p, threshold)]
    assert found.macro is not None
    row = [*map(str, (found.digits, found.right, len(accepted), accepted.count(False))), f"{100 * found.macro:.1f}"]
    header = ["recordings", "right", "accepted at its threshold", "wrong among the accepted", "right, macro by speaker, %"]
    return tables.table(header, [row], left=0)


def corpora() -> list[str]:
    """Names of the corpora that the shipped model was trained on."""
    with numpy.load(PLAIN_PRETRAINED_PATH, allow_pickle=False) as archive:
        return list(json.loads(str(archive["settings"]))["corpora"])


def data() -> str:
    """What these corpora hold, and whom to thank for them."""
    rows = []
    for name in corpora():
        clips = catalog.get(name).load(None).clips
        digits = sum(clip.digit != NO_DIGIT for clip in clips)
        counts = (digits, len(clips) - digits, len({clip.speaker for clip in clips}))
        rows.append([name, catalog.get(name).credit, *(f"{count:,}" for count in counts)])
    return tables.table(["corpus", "credit", "digits", "other words", "speakers"], rows, left=2)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What the shipped model makes of people, words, speech and noises it never heard.")
    parser.add_argument("--unseen", type=Path, required=True, help="folder of other people's digits, {digit}_{speaker}_{n}.wav")
    parser.add_argument("--words", type=Path, required=True, help="folder of folders of recordings of other words")
    parser.add_argument("--speech", type=Path, required=True, help="folder of recordings of speech without digits")
    parser.add_argument("--noises", type=Path, required=True, help="folder of recorded noises")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where to write shipped.md")
    options = parser.parse_args(arguments)
    thresholds = {name: Recognizer.load("pretrained", name).threshold for name in THRESHOLDS}
    answers = listen(Recognizer.load("pretrained", 0.0), options)
    sections = {
        "Data": data(),
        "Unseen speakers": unseen(answers, thresholds["balanced"]),
        "Choices": choices(answers, thresholds),
        "Other words": other_words(answers, thresholds["balanced"]),
    }
    tables.write_report(options.out / "shipped.md", "The shipped model", sections)
    print("\n\n".join(sections.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
