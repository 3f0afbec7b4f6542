"""Time and memory of large corpora: ``python experiments/scale/scale.py --clips 3000 30000 100000 --out experiments/scale``.

A corpus of any size is made of links to FSDD's recordings. Each is read twice, by a process of its own: with an empty cache, and
again. The log-mels are computed by as many processes as torch has threads.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from digits.corpora import fsdd
from digits.training import runs
from experiments import tables

POLL_S = 0.02


def make_corpus(folder: Path, n_clips: int) -> None:
    """Copies of FSDD's recordings, and links to them that are named like those of ever more speakers."""
    clips = fsdd.load().clips
    folder.mkdir()
    for n in range(n_clips):
        clip = clips[n % len(clips)]
        path = folder / f"{clip.digit}_{clip.speaker}{n // len(clips)}_{clip.take}.wav"
        if n < len(clips):
            shutil.copyfile(clip.path, path)
        else:
            path.hardlink_to(folder / f"{clip.digit}_{clip.speaker}0_{clip.take}.wav")


def measure(folder: Path) -> dict[str, float]:
    """Seconds until the data module is ready and for an epoch's batches, and the most memory that this took, MB."""
    from digits.training.datamodule import DigitsDataModule

    peak, done = [0.0], threading.Event()
    watch = threading.Thread(target=_watch, args=(peak, done))
    watch.start()
    before = _anonymous_mb()
    started = time.perf_counter()
    data = DigitsDataModule("folder", str(folder))
    data.setup("fit")
    ready = time.perf_counter()
    for _ in data.train_dataloader():
        pass
    ended = time.perf_counter()
    done.set()
    watch.join()
    return {"setup_s": ready - started, "epoch_s": ended - ready, "mb": peak[0] - before}


def _watch(peak: list[float], done: threading.Event) -> None:
    while not done.wait(POLL_S):
        peak[0] = max(peak[0], _anonymous_mb())


def _anonymous_mb() -> float:
    """Memory of this process that the system cannot drop: what it has mapped from files does not count."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def in_a_process(folder: Path, cache: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "experiments.scale.scale", "--measure", str(folder)]
    done = subprocess.run(command, env=os.environ | {"DIGITS_CACHE": str(cache)}, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description="Time and memory of large corpora.")
    parser.add_argument("--clips", type=int, nargs="+", default=[3000, 30_000, 100_000], help="sizes of the corpora")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where to write report.md")
    parser.add_argument("--measure", type=Path, metavar="FOLDER", help="measure this folder in this process, and print JSON")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return 0
    rows = []
    for n_clips in options.clips:
        with tempfile.TemporaryDirectory() as folder:
            corpus, cache = Path(folder, "corpus"), Path(folder, "cache")
            make_corpus(corpus, n_clips)
            cold, warm = in_a_process(corpus, cache), in_a_process(corpus, cache)
            size = sum(path.stat().st_size for path in cache.rglob("*.npy"))
        memory = max(cold["mb"], warm["mb"])
        rows.append(
            [
                f"{n_clips:,}",
                f"{cold['setup_s']:.1f}",
                f"{warm['setup_s']:.2f}",
                f"{warm['epoch_s']:.2f}",
                f"{memory:.0f}",
                f"{memory * 1024 / n_clips:.1f}",
                f"{size / 1e6:.0f}",
            ]
        )
        print(rows[-1], flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    header = [
        "clips",
        "ready, nothing cached, s",
        "ready, cached, s",
        "an epoch's batches, s",
        "memory, MB",
        "kB per clip",
        "disk, MB",
    ]
    closing = f"Machine: {runs.environment()['machine']}. Commit: {runs.git_commit()}."
    tables.write_report(options.out / "report.md", "Large corpora", {"Corpora": tables.table(header, rows)}, closing)
    return 0


if __name__ == "__main__":
    sys.exit(main())
