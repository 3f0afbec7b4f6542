"""Recognise the spoken digits in recordings: ``digits predict FILE...``, or ``python -m digits.predict FILE...``."""

import argparse
import csv
import io
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from digits import cli, files

if TYPE_CHECKING:
    from digits.audio import Waveform
    from digits.live.recording import Sound
    from digits.recognition.recognizer import Recognizer

STDIN = "-"
COLUMNS = ("path", "digit", "probability", "accepted", "start_s")
EXAMPLES = """examples:
  digits predict seven.wav four.flac           one line per file
  digits predict recordings/                   every recording in a folder
  digits predict lesson.mp3                    one line per sound, with its time, in what is longer than 2.5 s;
                                               digits in the middle of other speech are marked "in speech"
  digits predict --csv recordings/ > heard.csv
  digits predict --json - < seven.wav          standard input; one JSON object per sound
  digits predict --score recordings/           how many are right, by names like 7_ann_0.wav
  digits predict --threshold 0.9 seven.wav     accept only what is at least 90 % probable
  digits predict --ckpt-path outputs/.../best.ckpt seven.wav"""


def main(arguments: list[str] | None = None) -> int:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a second thread of torch costs time when clips come one by one
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names come out as they went in; what another encoding lacks is escaped
        sys.stdout.reconfigure(errors="surrogateescape" if sys.stdout.encoding.lower() == "utf-8" else "backslashreplace")
    try:
        status = _predict(options)
        sys.stdout.flush()
    except OSError as error:  # what is wrong with a recording is caught below
        return cli.give_up_output(error, "digits predict")
    except KeyboardInterrupt:
        print("digits predict: interrupted", file=sys.stderr)
        return 130
    return status


def _predict(options: argparse.Namespace) -> int:
    from digits.live.recording import sounds_in  # here, so that --help is quick
    from digits.recognition.recognizer import Recognizer

    try:
        ckpt_path, note = _choose() if options.ckpt_path is None else (options.ckpt_path, "")
        recognizer = Recognizer.load(ckpt_path, options.threshold)
    except (ValueError, OSError) as error:
        _say(error)
        return 1
    print(f"model: {ckpt_path}{note and f' ({note})'}", file=sys.stderr)
    if options.score:
        return _score(options.files, recognizer)
    if options.csv:
        _print_row(*COLUMNS)
    failed = False
    for path, open_recording in _recordings(options.files):
        try:
            _report(path, sounds_in(recognizer, *open_recording()), options)
        except (ValueError, FileNotFoundError, PermissionError) as error:
            _say(error)
            failed = True
    return int(failed)


def _say(error: Exception) -> None:
    print(f"digits predict: {cli.printable(str(error))}", file=sys.stderr)


def _score(names: list[str], recognizer: "Recognizer") -> int:
    """Print how many recordings of one word are recognised as what their file names say; each counts once."""
    from digits.corpora.folder import parse_name
    from digits.live.recording import ONE_WORD_S, sounds_in
    from digits.recognition.score import score

    answers, failed = {}, False
    for path, open_recording in _recordings(names):
        try:
            recording = open_recording()
            digit, speaker, _ = parse_name(Path(path), others=True)
            sound = next(sounds_in(recognizer, *recording), None)
            if sound is None or sound.prediction is None or sound.start_s is not None:
                raise ValueError(f"{path}: longer than {ONE_WORD_S} s, which is no recording of one word")
            answers[os.path.realpath(path)] = digit, speaker, sound.prediction
        except (ValueError, FileNotFoundError, PermissionError) as error:
            _say(error)
            failed = True
    if answers:
        print(score(answers.values()))
    return int(failed)


def _report(path: str, sounds: "Iterator[Sound]", options: argparse.Namespace) -> None:
    heard = False
    for sound in sounds:
        heard = True
        if options.csv:
            _print_csv(path, sound)
        else:
            print(_json_line(path, sound) if options.json else _text_line(path, sound))
    if not heard:
        print(f"{cli.printable(path)}: nothing was heard", file=sys.stderr if options.csv or options.json else sys.stdout)


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser(
        prog="digits predict",
        description="Recognise the spoken digits in recordings: any format that libsndfile reads, any rate, mono or stereo.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="a recording, a folder of recordings, or - for standard input")
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--csv", action="store_true", help=f"print {','.join(COLUMNS)} with a header")
    formats.add_argument("--json", action="store_true", help="print one JSON object per sound, with all ten probabilities")
    formats.add_argument("--score", action="store_true", help="count what is right, by names like 7_ann_0.wav (or none_ann_1.wav)")
    parser.add_argument(
        "--ckpt-path",
        help="pretrained, or a model file: .onnx, .npz, .ckpt, .voice (default: the best run in outputs/, or else pretrained)",
    )
    parser.add_argument(
        "--threshold",
        type=_number_if_possible,
        help="lowest probability that is accepted, 0 to 1, or strict, balanced or eager (default: balanced, the model's own)",
    )
    return parser


def _number_if_possible(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text  # whether it is a threshold's name is checked with the others


def _recordings(names: list[str]) -> "Iterator[tuple[str, Callable[[], tuple[Iterator[Waveform], int]]]]":
    """Name of each recording and a function that opens it."""
    from digits import audio

    for file in names:
        mode = files.mode(file)
        if file == STDIN:
            yield "<stdin>", _read_stdin
        elif not file or stat.S_ISCHR(mode):
            yield file, partial(_raise, ValueError(f"{file}: a device, not a recording" if file else "an empty file name"))
        elif stat.S_ISDIR(mode):
            try:
                found = audio.find_files(Path(file), audio.FILE_SUFFIXES + audio.UNREADABLE_SUFFIXES)
            except PermissionError as error:
                yield file, partial(_raise, error)
                continue
            yield from ((str(path), partial(audio.stream, path)) for path in found)
            if not found:
                yield file, partial(_raise, ValueError(f"{file}: no recordings in this folder ({', '.join(audio.FILE_SUFFIXES)})"))
        else:
            yield file, partial(audio.stream, file)


def _read_stdin() -> "tuple[Iterator[Waveform], int]":
    from digits import audio

    if sys.stdin is None:
        raise ValueError("standard input is closed")
    return audio.stream("<stdin>", sys.stdin.buffer.read())


def _raise(error: Exception) -> "tuple[Iterator[Waveform], int]":
    raise error


def _text_line(path: str, sound: "Sound") -> str:
    guess = f"{sound.prediction.digit}  {sound.prediction.probability:.1%}" if sound.prediction else "-"
    time = "" if sound.start_s is None else f"  at {sound.start_s:.2f} s"
    return f"{cli.printable(path)}: {guess}{time}" + (f"  {sound.reason}" if sound.reason else "")


def _print_csv(path: str, sound: "Sound") -> None:
    guess = (sound.prediction.digit, f"{sound.prediction.probability:.4f}") if sound.prediction else ("", "")
    _print_row(path, *guess, sound.reason is None, "" if sound.start_s is None else f"{sound.start_s:.3f}")


def _print_row(*cells: object) -> None:
    csv.writer(sys.stdout, lineterminator="\n").writerow(cells)


def _json_line(path: str, sound: "Sound") -> str:
    return json.dumps({"path": path, **sound.facts()})


def _choose() -> tuple[str, str]:
    """The model that ``digits mic`` would take."""
    from omegaconf import OmegaConf

    from digits.training import runs

    config = OmegaConf.load(Path(cli.CONF) / "mic.yaml")
    return runs.choose_model(config.outputs, config.prefer, "--ckpt-path pretrained is made for other people's voices")


if __name__ == "__main__":
    sys.exit(main())
