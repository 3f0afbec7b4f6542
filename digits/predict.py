"""Recognise the digit in each of some audio files: ``python -m digits.predict FILE...``."""

import argparse
import csv
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from digits.recognizer import Recognizer


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m digits.predict",
        description="Recognise the spoken digit in each file: any format that libsndfile reads, any sample rate, mono or stereo.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--csv", action="store_true", help="print path,digit,probability,accepted with a header")
    parser.add_argument(
        "--ckpt-path",
        help="checkpoint (default: the best below outputs/, as conf/mic.yaml says, or else pretrained)",
    )
    options = parser.parse_args(arguments)

    from digits import audio  # here, so that --help is quick
    from digits.recognizer import Recognizer

    try:
        recognizer, name = (Recognizer.load(options.ckpt_path), options.ckpt_path) if options.ckpt_path else _best()
    except (ValueError, OSError) as error:
        print(f"digits.predict: {error}", file=sys.stderr)
        return 1
    print(f"model: {name}", file=sys.stderr)
    table = csv.writer(sys.stdout, lineterminator="\n")
    if options.csv:
        table.writerow(["path", "digit", "probability", "accepted"])
    failed = False
    for path in options.files:
        try:
            prediction = recognizer(*audio.read(path))
        except (ValueError, OSError) as error:
            print(f"digits.predict: {error}", file=sys.stderr)
            failed = True
            continue
        if options.csv:
            table.writerow([path, prediction.digit, f"{prediction.probability:.4f}", prediction.accepted])
        else:
            refused = "" if prediction.accepted else f"  {prediction.reason}"
            print(f"{path}: {prediction.digit}  {prediction.probability:.1%}{refused}")
    return int(failed)


def _best() -> tuple["Recognizer", str]:
    """What the microphone would take."""
    from omegaconf import OmegaConf

    from digits import entry
    from digits.recognizer import Recognizer

    config = OmegaConf.load(Path(entry.CONF) / "mic.yaml")
    return Recognizer.load_best(config.outputs, config.prefer)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for one clip at a time, a second thread of torch only costs
    sys.exit(main())
