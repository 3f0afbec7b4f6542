"""Test the runs of ``+sweep=sample_rate`` on recordings made at 48 kHz: ``python experiments/sample_rate.py --recordings FOLDER``.

Each model hears each recording at its true rate; the one trained at 8 kHz also as if 48 kHz samples were 8 kHz ones.
"""

import argparse
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from digits import audio, corpus, espeak, results
from digits.corpus import Clip
from digits.recognizer import Recognizer
from experiments.compare import mean_std, wilson

Recording = tuple[Clip, audio.Waveform, int]
MISREAD = "native_8k, fed 48 kHz as if it were 8 kHz"


def read(clips: Sequence[Clip]) -> list[Recording]:
    """All at 48 kHz, as a microphone would deliver them."""
    recordings = []
    for clip in clips:
        waveform, sample_rate = audio.read(clip.path)
        recordings.append((clip, audio.resample(waveform, sample_rate, audio.SAMPLE_RATE), audio.SAMPLE_RATE))
    return recordings


def accuracy(recognizer: Recognizer, recordings: list[Recording], claimed_rate: int | None = None) -> float:
    """Share of recordings recognised; ``claimed_rate`` is passed on in place of the true one."""
    right = [recognizer(waveform, claimed_rate or rate).digit == clip.digit for clip, waveform, rate in recordings]
    return statistics.fmean(right)


def cell(values: list[float], total: int) -> str:
    mean, std = mean_std(values)
    low, high = wilson(mean * total, total)
    return f"{100 * mean:.1f} ± {100 * std:.1f} ({100 * low:.0f}-{100 * high:.0f})"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("outputs/sample_rate/fsdd"), help="the sweep's folder, trained on FSDD")
    parser.add_argument("--recordings", type=Path, required=True, help="a folder of 48 kHz recordings, {digit}_{speaker}_{n}.wav")
    options = parser.parse_args(arguments)
    sets = {
        options.recordings.name: read(corpus.read_folder(options.recordings, "recordings").clips),
        "synthetic voices": read([clip for clip in espeak.load().clips if clip.take < 5]),
    }
    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run_dir, metrics in results.read_metrics(options.runs).items():
        recognizer, name = Recognizer.load(run_dir / "best.ckpt"), metrics["experiment"]
        scores[name]["FSDD test"].append(metrics["test/acc"])
        for title, recordings in sets.items():
            scores[name][title].append(accuracy(recognizer, recordings))
            if name == "native_8k":
                scores[MISREAD][title].append(accuracy(recognizer, recordings, claimed_rate=8000))
    if not scores:
        sys.exit(f"sample_rate: no finished run below {options.runs}; first: python -m digits.train +sweep=sample_rate")
    totals = {"FSDD test": 300} | {title: len(recordings) for title, recordings in sets.items()}
    print("| model | " + " | ".join(f"{title} (n = {total}) %" for title, total in totals.items()) + " |")
    print("|---|" + "--:|" * len(totals))
    for name in sorted(scores):
        print(f"| {name} | " + " | ".join(cell(v, totals[t]) if (v := scores[name][t]) else "-" for t in totals) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
