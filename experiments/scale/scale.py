"""Time and memory of large corpora: ``python -m experiments.scale.scale`` writes report.md (extras ``[espeak]`` and ``[shards]``).

* Corpora: one of any size is made of links to FSDD's recordings. Each is read twice, by a process of its own: with an empty cache,
  and again. The log-mels are computed by as many processes as torch has threads.
* Rendering: copies of FSDD with all effects of ``live``, computed by one process and by two.
* Shards: the batches of an epoch from the cache and from shards of the same clips.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from digits import cli
from digits.corpora import espeak, fsdd
from digits.corpora.corpus import cache_folder
from digits.training import runs
from digits.training.log_mels import log_mels
from experiments import tables

POLL_S = 0.02
REPEATS = 3
RENDERED_COPIES, STREAMED_COPIES = 3, 20
LIVES_OTHER_PARTS = [f"data.train_sets.{part}.copies=0" for part in ("clean", "synthetic", "words", "fragments", "pairs", "noises")]


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


def read(folder: str) -> dict[str, float]:
    """Seconds until the data module is ready and for an epoch's batches, and the most memory that this took, MB."""
    from digits.training.datamodule import DigitsDataModule

    peak, done = [0.0], threading.Event()
    watch = threading.Thread(target=_watch, args=(peak, done))
    watch.start()
    before = _anonymous_mb()
    started = time.perf_counter()
    data = DigitsDataModule("folder", folder)
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


def render(n_processes: str) -> dict[str, float]:
    """Seconds for copies of FSDD with the effects of ``live``, and their number."""
    import torch

    torch.set_num_threads(int(n_processes))
    data = _data("experiment=live", "conditions=clean", *LIVES_OTHER_PARTS, f"data.train_sets.air.copies={RENDERED_COPIES}")
    data.read()
    renders = [copy.render for copy in data.train_copies()]
    started = time.perf_counter()
    log_mels(renders)
    return {"s": time.perf_counter() - started, "clips": sum(len(render.clips) for render in renders)}


def stream(folder: str) -> dict[str, float]:
    """Seconds to write copies of FSDD's training clips as shards; clips per second of batches from them and from the cache."""
    from digits.training.write_shards import write

    copies = f"data.train_sets.clean.copies={STREAMED_COPIES}"
    from_cache, from_shards = _data(copies), _data("data=shards", f"data.shards={folder}", copies)
    started = time.perf_counter()
    write(_data(copies), folder)
    found = {"write_s": time.perf_counter() - started}
    for name, data in (("cache", from_cache), ("shards", from_shards)):
        data.setup("fit")
        rates = []
        for _ in range(REPEATS):
            started = time.perf_counter()
            n_clips = sum(len(labels) for _, labels in data.train_dataloader())
            rates.append(n_clips / (time.perf_counter() - started))
        found |= {name: statistics.median(rates), "clips": n_clips}
    return found | {"mb": sum(path.stat().st_size for path in Path(folder).rglob("*.bin")) / 1e6}


MEASURES = {"corpus": read, "rendering": render, "shards": stream}


def _data(*overrides: str) -> Any:
    with initialize_config_dir(cli.CONF, version_base="1.3"):
        return instantiate(compose("train", overrides=["name=scale", "run_dir=.", *overrides]).data)


def in_a_process(cache: Path, *arguments: str) -> dict[str, float]:
    """What this program measures with these arguments and an own cache."""
    command = [sys.executable, "-m", "experiments.scale.scale", "--measure", *arguments]
    known = {"DIGITS_CACHE": str(cache), "FSDD_ROOT": str(fsdd.load().clips[0].path.parent)}
    done = subprocess.run(command, env=os.environ | known, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def corpora(numbers: list[int]) -> str:
    rows = []
    for n_clips in numbers:
        with tempfile.TemporaryDirectory() as folder:
            corpus, cache = Path(folder, "corpus"), Path(folder, "cache")
            make_corpus(corpus, n_clips)
            cold, warm = in_a_process(cache, "corpus", str(corpus)), in_a_process(cache, "corpus", str(corpus))
            size = sum(path.stat().st_size for path in cache.rglob("*.npy"))
        memory = max(cold["mb"], warm["mb"])
        times = [f"{cold['setup_s']:.1f}", f"{warm['setup_s']:.2f}", f"{warm['epoch_s']:.2f}"]
        rows.append([f"{n_clips:,}", *times, f"{memory:.0f}", f"{memory * 1024 / n_clips:.1f}", f"{size / 1e6:.0f}"])
        print(rows[-1], flush=True)
    columns = [
        "clips",
        "ready, nothing cached, s",
        "ready, cached, s",
        "an epoch's batches, s",
        "memory, MB",
        "kB per clip",
        "disk, MB",
    ]
    return tables.table(columns, rows)


def rendering() -> str:
    """By one process and by two."""
    espeak.load("espeak")  # babble is made of it
    found = {}
    for n_processes in (1, 2):
        with tempfile.TemporaryDirectory() as cache:
            for voices in cache_folder().glob("espeak-*"):
                Path(cache, voices.name).symlink_to(voices)
            found[n_processes] = in_a_process(Path(cache), "rendering", str(n_processes))
    seconds = {n: measured["s"] for n, measured in found.items()}
    clips = found[1]["clips"]
    rows = [[str(n), f"{clips:,.0f}", f"{s:.1f}", f"{clips / s:.0f}", f"{seconds[1] / s:.2f}"] for n, s in seconds.items()]
    print(rows, flush=True)
    return tables.table(["processes", "clips with effects", "s", "clips per s", "times as fast"], rows)


def streaming() -> str:
    with tempfile.TemporaryDirectory() as folder:
        found = in_a_process(Path(folder, "cache"), "shards", str(Path(folder, "shards")))
    written = {"cache": ["-", "-"], "shards": [f"{found['write_s']:.0f}", f"{found['mb']:.0f}"]}
    rows = [[name, f"{found['clips']:,.0f}", f"{found[name]:,.0f}", *columns] for name, columns in written.items()]
    print(rows, flush=True)
    return tables.table(["batches from", "clips", "clips per s", "to write, s", "disk, MB"], rows)


def main() -> int:
    parser = argparse.ArgumentParser(description="Time and memory of large corpora.")
    parser.add_argument("--clips", type=int, nargs="+", default=[3000, 30_000, 100_000], help="sizes of the corpora")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where to write report.md")
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "OF"), help=f"one of {', '.join(MEASURES)} in this process, as JSON")
    options = parser.parse_args()
    if options.measure:
        what, of = options.measure
        print(json.dumps(MEASURES[what](of)))
        return 0
    sections = {"Corpora": corpora(options.clips), "Rendering": rendering(), "Shards": streaming()}
    options.out.mkdir(parents=True, exist_ok=True)
    closing = f"Machine: {runs.environment()['machine']}. Commit: {runs.git_commit()}."
    tables.write_report(options.out / "report.md", "Large corpora", sections, closing)
    return 0


if __name__ == "__main__":
    sys.exit(main())
