"""Recognise the spoken digit in recordings: ``digits predict FILE...``, or ``python -m digits.predict FILE...``."""

import argparse
import csv
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from digits import cli

if TYPE_CHECKING:
    from digits.audio import Waveform
    from digits.recognition.recognizer import Prediction

STDIN = "-"
EXAMPLES = """examples:
  digits predict seven.wav four.flac           one line per file
  digits predict recordings/                   every recording in a folder
  digits predict --csv recordings/ > heard.csv
  digits predict --json - < seven.wav          standard input; one JSON object per recording
  digits predict --threshold 0.9 seven.wav     accept only what is at least 90 % probable
  digits predict --ckpt-path outputs/.../best.ckpt seven.wav"""


def main(arguments: list[str] | None = None) -> int:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a second thread of torch costs time when clips come one by one
    options = _parser().parse_args(arguments)

    from digits.recognition.recognizer import Recognizer  # here, so that --help is quick

    try:
        ckpt_path, note = (options.ckpt_path, "") if options.ckpt_path else _choose()
        recognizer = Recognizer.load(ckpt_path, options.threshold)
    except (ValueError, OSError) as error:
        print(f"digits predict: {error}", file=sys.stderr)
        return 1
    print(f"model: {ckpt_path}{note and f' ({note})'}", file=sys.stderr)
    table = csv.writer(sys.stdout, lineterminator="\n")
    if options.csv:
        table.writerow(["path", "digit", "probability", "accepted"])
    failed = False
    for path, read in _recordings(options.files):
        try:
            prediction = recognizer(*read())
        except (ValueError, OSError) as error:
            print(f"digits predict: {error}", file=sys.stderr)
            failed = True
            continue
        if options.csv:
            table.writerow([path, prediction.digit, f"{prediction.probability:.4f}", prediction.accepted])
        else:
            print(_json_line(path, prediction) if options.json else _text_line(path, prediction))
    return int(failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="digits predict",
        description="Recognise the spoken digit in each recording: any format that libsndfile reads, any rate, mono or stereo.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="a recording, a folder of recordings, or - for standard input")
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--csv", action="store_true", help="print path,digit,probability,accepted with a header")
    formats.add_argument("--json", action="store_true", help="print one JSON object per recording, with all ten probabilities")
    parser.add_argument(
        "--ckpt-path", help="model to use: pretrained, .onnx, .npz or .ckpt (default: the best run in outputs/, or else pretrained)"
    )
    parser.add_argument("--threshold", type=float, help="lowest probability that is accepted, 0 to 1 (default: the model's own)")
    return parser


def _recordings(files: list[str]) -> "Iterator[tuple[str, Callable[[], tuple[Waveform, int]]]]":
    """Name of each recording and a function that reads it."""
    from functools import partial

    from digits import audio

    for file in files:
        if file == STDIN:
            yield "<stdin>", lambda: audio.read("<stdin>", sys.stdin.buffer.read())
        elif Path(file).is_dir():
            found = audio.find_files(Path(file))
            yield from ((str(path), partial(audio.read, path)) for path in found)
            if not found:
                yield file, partial(_no_recordings, file)
        else:
            yield file, partial(audio.read, file)


def _no_recordings(folder: str) -> "tuple[Waveform, int]":
    from digits import audio

    raise ValueError(f"{folder}: no recordings in this folder ({', '.join(audio.FILE_SUFFIXES)})")


def _text_line(path: str, prediction: "Prediction") -> str:
    rejected = "" if prediction.accepted else f"  {prediction.reason}"
    return f"{path}: {prediction.digit}  {prediction.probability:.1%}{rejected}"


def _json_line(path: str, prediction: "Prediction") -> str:
    return json.dumps({"path": path, **asdict(prediction), "accepted": prediction.accepted})


def _choose() -> tuple[str, str]:
    """The model that ``digits mic`` would take."""
    from omegaconf import OmegaConf

    from digits.training import runs

    config = OmegaConf.load(Path(cli.CONF) / "mic.yaml")
    ckpt_path, note = runs.choose_model(config.outputs, config.prefer)
    return ckpt_path, note.replace("ckpt_path=", "--ckpt-path ")


if __name__ == "__main__":
    sys.exit(main())
