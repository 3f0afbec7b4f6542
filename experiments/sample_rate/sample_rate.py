"""Test the runs of ``+sweep=sample_rate`` on 48 kHz recordings.

``python experiments/sample_rate/sample_rate.py --recordings FOLDER``. Each model hears each recording at its true rate. The model
trained at 8 kHz also hears 48 kHz samples as if they were 8 kHz samples.
"""

import argparse
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from digits import audio
from digits.corpora import espeak
from digits.corpora.corpus import Clip
from digits.corpora.folder import read_folder
from digits.recognition.recognizer import Recognizer
from digits.recognition.score import wilson
from digits.training import runs
from experiments import tables

Recording = tuple[Clip, audio.Waveform, int]
MISREAD = "native_8k, given 48 kHz as 8 kHz"


def read(clips: Sequence[Clip]) -> list[Recording]:
    """All at 48 kHz, as a microphone would deliver them."""
    recordings = []
    for clip in clips:
        waveform, sample_rate = audio.read(clip.path)
        recordings.append((clip, audio.resample(waveform, sample_rate, audio.SAMPLE_RATE), audio.SAMPLE_RATE))
    return recordings


def accuracy(recognizer: Recognizer, recordings: list[Recording], claimed_rate: int | None = None) -> float:
    """Share of recordings recognised; ``claimed_rate`` replaces the true sample rate."""
    right = [recognizer(waveform, claimed_rate or rate).digit == clip.digit for clip, waveform, rate in recordings]
    return statistics.fmean(right)


def cell(values: list[float], total: int) -> str:
    if not values:
        return "-"
    low, high = wilson(statistics.fmean(values) * total, total)
    return f"{tables.percent(values, 1)} ({100 * low:.0f}-{100 * high:.0f})"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("outputs/sample_rate/fsdd"), help="the sweep's folder, trained on FSDD")
    parser.add_argument("--recordings", type=Path, required=True, help="a folder of 48 kHz recordings, {digit}_{speaker}_{n}.wav")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where to write recordings.md")
    options = parser.parse_args(arguments)
    sets = {
        "recordings at 48 kHz": read(read_folder(options.recordings, "recordings").clips),
        "synthetic voices": read([clip for clip in espeak.load().clips if clip.take < 5]),
    }
    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run_dir, metrics in runs.read_metrics(options.runs).items():
        recognizer, name = Recognizer.load(run_dir / "best.ckpt"), metrics["experiment"]
        scores[name]["FSDD test"].append(metrics["test/acc"])
        for title, recordings in sets.items():
            scores[name][title].append(accuracy(recognizer, recordings))
            if name == "native_8k":
                scores[MISREAD][title].append(accuracy(recognizer, recordings, claimed_rate=8000))
    if not scores:
        sys.exit(f"sample_rate: no finished run in {options.runs}; run this first: digits train +sweep=sample_rate")
    totals = {"FSDD test": 300} | {title: len(recordings) for title, recordings in sets.items()}
    rows = [[name, *(cell(scores[name][title], total) for title, total in totals.items())] for name in sorted(scores)]
    table = tables.table(["model", *(f"{title} (n = {total})" for title, total in totals.items())], rows)
    tables.write_report(options.out / "recordings.md", "Recordings at 48 kHz", {"Recordings": table})
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
