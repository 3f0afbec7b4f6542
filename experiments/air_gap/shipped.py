"""What the shipped model makes of unseen speakers: ``python experiments/air_gap/shipped.py --unseen FOLDER``.

The other figures of the study are those of the recipe; the shipped file has heard all of FSDD, so only other people can test it.
"""

import argparse
import sys
from pathlib import Path

from digits import Recognizer, audio
from digits.corpora.corpus import read_folder
from digits.recognition.score import score
from experiments import tables


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What the shipped model makes of unseen speakers.")
    parser.add_argument("--unseen", type=Path, required=True, help="folder of other people's digits, {digit}_{speaker}_{n}.wav")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where to write shipped.md")
    options = parser.parse_args(arguments)
    recognizer = Recognizer.load("pretrained")
    clips = read_folder(options.unseen, "unseen").clips
    found = score((clip.digit, clip.speaker, recognizer(*audio.read(clip.path))) for clip in clips)
    assert found.macro is not None
    row = [*map(str, (found.digits, found.right, found.accepted, found.wrong)), f"{100 * found.macro:.1f}"]
    header = ["recordings", "right", "accepted at its threshold", "wrong among the accepted", "right, macro by speaker, %"]
    table = tables.table(header, [row], left=0)
    tables.write_report(options.out / "shipped.md", "The shipped model", {"Unseen speakers": table})
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
