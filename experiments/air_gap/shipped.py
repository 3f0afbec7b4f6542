"""What the shipped model makes of unseen speakers: ``python experiments/air_gap/shipped.py --unseen FOLDER``.

The other figures of the study are those of the recipe; the shipped file has heard all of FSDD, so only other people can test it.
"""

import argparse
import statistics
import sys
from collections import defaultdict
from pathlib import Path

from digits import Recognizer, audio
from digits.corpora.corpus import read_folder
from experiments import tables


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What the shipped model makes of unseen speakers.")
    parser.add_argument("--unseen", type=Path, required=True, help="folder of other people's digits, {digit}_{speaker}_{n}.wav")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where to write shipped.md")
    options = parser.parse_args(arguments)
    recognizer = Recognizer.load("pretrained")
    answers = [(clip, recognizer(*audio.read(clip.path))) for clip in read_folder(options.unseen, "unseen").clips]
    wrong = [prediction for clip, prediction in answers if prediction.digit != clip.digit]
    by_speaker = defaultdict(list)
    for clip, prediction in answers:
        by_speaker[clip.speaker].append(prediction.digit == clip.digit)
    macro = statistics.fmean(statistics.fmean(right) for right in by_speaker.values())
    counts = [len(answers), len(answers) - len(wrong), sum(p.accepted for _, p in answers), sum(p.accepted for p in wrong)]
    row = [*map(str, counts), f"{100 * macro:.1f}"]
    header = ["recordings", "right", "accepted at its threshold", "wrong among the accepted", "right, macro by speaker, %"]
    table = tables.table(header, [row], left=0)
    tables.write_report(options.out / "shipped.md", "The shipped model", {"Unseen speakers": table})
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
