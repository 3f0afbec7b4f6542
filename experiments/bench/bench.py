"""Measure the speed of training and recognition (``make bench``) and write a table. Needs FSDD; takes a quarter of an hour.

Figures are medians over repeats on one machine, but for a cold cache (measured once) and latency (percentiles). To compare
machines, look at the ratios, not at the seconds.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch.utils.data import DataLoader

from digits import audio, cli, train
from digits.features import FrontEnd
from digits.networks import DigitCNN
from digits.recognition import torch_models
from digits.recognition.model_files import PRETRAINED
from digits.recognition.recognizer import Recognizer
from digits.training import runs
from digits.training.datamodule import DigitsDataModule
from digits.training.render import BATCH
from experiments import tables
from experiments.bench import notebook

TARGET = 0.9933  # accuracy on the official parts; the time to reach it is measured
REPEATS = 3
NOTEBOOK_EPOCHS = 30
ONE_WAV = Path(tempfile.gettempdir()) / "digits_bench.wav"
START_UPS = {
    "import digits": ["-c", "import digits"],
    "digits --help": ["-m", "digits", "--help"],
    "digits predict --help": ["-m", "digits", "predict", "--help"],
    "digits predict one.wav": ["-m", "digits", "predict", "--ckpt-path=pretrained", str(ONE_WAV)],
    "digits mic input=one.wav": ["-m", "digits", "mic", "ckpt_path=pretrained", f"input={ONE_WAV}"],
    "digits mic list_devices=true": ["-m", "digits", "mic", "list_devices=true"],
}


def seconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def median_seconds(function: Callable[[], object], repeats: int = REPEATS) -> float:
    return statistics.median(seconds(function) for _ in range(repeats))


class Stopwatch(lightning.Callback):
    """Seconds of each epoch's training steps, and when validation and test accuracy first reached the target."""

    def __init__(self, data: DigitsDataModule) -> None:
        self.data = data
        self.epochs: list[float] = []
        self.reached: dict[str, tuple[int, float]] = {}

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.started = time.perf_counter()

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.epochs.append(time.perf_counter() - self.started)

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        with torch.inference_mode():
            test = (pl_module(self.data.test_sets["clean"].all()).argmax(dim=1) == self.data.test_labels).float().mean().item()
        metrics: Any = pl_module.val_metrics
        for part, accuracy in (("validation", metrics["acc"].compute().item()), ("test", test)):
            if accuracy >= TARGET - 1e-4 and part not in self.reached:
                self.reached[part] = (len(self.epochs), sum(self.epochs))


def bench_front_end(data: DigitsDataModule) -> Iterator[tuple[str, str]]:
    clips, front_end = data.corpus.clips, FrontEnd(**data.front_end)

    def cold() -> None:
        for start in range(0, len(clips), BATCH):
            front_end([audio.read(clip.path) for clip in clips[start : start + BATCH]])

    cold_s = median_seconds(cold)
    yield "front end, from files, nothing cached", f"{len(clips) / cold_s:,.0f} clips/s ({cold_s:.1f} s for {len(clips):,})"


def bench_cache(make_data: Callable[[], DigitsDataModule]) -> Iterator[tuple[str, str]]:
    before = os.environ.get("DIGITS_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DIGITS_CACHE"] = folder
        cold = seconds(lambda: make_data().setup("fit"))
        warm = median_seconds(lambda: make_data().setup("fit"))
    del os.environ["DIGITS_CACHE"]
    if before is not None:
        os.environ["DIGITS_CACHE"] = before
    yield "data module, cold cache (3,000 clips and 4 noise conditions of 300)", f"{cold:.1f} s"
    yield "data module, warm cache (checksums verified)", f"{warm:.2f} s"


def bench_training(experiment: str) -> Iterator[tuple[str, str]]:
    reached: dict[str, list[tuple[int, float]]] = {"validation": [], "test": []}
    epoch_s: list[float] = []
    whole_s: list[float] = []
    for seed in range(REPEATS):
        with tempfile.TemporaryDirectory() as folder:
            cfg = config(f"experiment={experiment}", f"seed={seed}", f"run_dir={folder}")
            lightning.seed_everything(seed, verbose=False)
            data, classifier = instantiate(cfg.data), instantiate(cfg.classifier)
            data.setup("fit")
            stopwatch = Stopwatch(data)
            trainer = instantiate(
                cfg.trainer, callbacks=[stopwatch], logger=False, enable_progress_bar=False, enable_checkpointing=False
            )
            trainer.fit(classifier, data)
        epoch_s += stopwatch.epochs[1:]
        whole_s.append(sum(stopwatch.epochs))
        for part, found in stopwatch.reached.items():
            reached[part].append(found)
    yield f"one training epoch of {experiment} (2,400 clips, median)", f"{statistics.median(epoch_s):.2f} s"
    yield f"all {len(stopwatch.epochs)} epochs of {experiment}", f"{statistics.median(whole_s):.1f} s"
    for part, times in reached.items():
        counts = f"{len(times)} of {REPEATS} seeds"
        if times:
            epochs, taken = statistics.median(epoch for epoch, _ in times), statistics.median(taken for _, taken in times)
            counts += f", median {epochs:.0f} epochs, {taken:.1f} s"
        yield f"{experiment} to {TARGET:.2%} on the official {part}", counts


def bench_latency(data: DigitsDataModule) -> Iterator[tuple[str, str]]:
    """Latency for one recording at a time: as the file is, and at 48 kHz, as a microphone delivers it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    files = [audio.read(clip.path) for clip in data.test_clips]
    streams = [(audio.resample(*sound, audio.SAMPLE_RATE), audio.SAMPLE_RATE) for sound in files]
    exported, in_torch = Recognizer.load(PRETRAINED), Recognizer.load(torch_models.PLAIN_PRETRAINED_PATH)
    windows = [exported.window(*sound)[None] for sound in streams]
    yield "one clip, one thread: pretrained model, 8 kHz", percentiles(lambda sound: exported(*sound), files)
    yield "one clip, one thread: pretrained model, 48 kHz", percentiles(lambda sound: exported(*sound), streams)
    yield "of that: trimming and resampling", percentiles(lambda sound: exported.window(*sound), streams)
    yield "of that: log-mel and network, by onnxruntime", percentiles(exported.model, windows)
    yield "one clip, one thread: the same model in torch, 48 kHz", percentiles(lambda sound: in_torch(*sound), streams)
    torch.set_num_threads(threads)


def percentiles(function: Callable[[Any], object], arguments: list[Any]) -> str:
    for argument in arguments[:20]:
        function(argument)
    taken = [1000 * seconds(partial(function, argument)) for argument in arguments]
    p50, p95, p99 = numpy.percentile(taken, [50, 95, 99]).tolist()
    return f"p50 {p50:.2f} ms, p95 {p95:.2f} ms, p99 {p99:.2f} ms"


def bench_start_up() -> Iterator[tuple[str, str]]:
    for name, arguments in START_UPS.items():
        runs = [start(arguments) for _ in range(6)][1:]
        taken, memory = (statistics.median(values) for values in zip(*runs, strict=True))
        yield f"from the shell: {name}", f"{taken:.2f} s, {memory:.0f} MB"


def start(arguments: list[str]) -> tuple[float, float]:
    """Seconds that a Python program takes and its largest resident memory, MB (Linux)."""
    started, peak = time.perf_counter(), 0
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = max([peak, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))])
        time.sleep(0.002)
    assert process.returncode == 0, arguments
    return time.perf_counter() - started, peak / 1024


def bench_notebook(data: DigitsDataModule) -> Iterator[tuple[str, str]]:
    torch.manual_seed(0)
    same_s = median_seconds(lambda: notebook.train(data, DigitCNN(), 100, epochs=1))
    yield "one epoch the notebook way, with baseline's network and batches", f"{same_s:.1f} s"
    own = notebook.NotebookCNN()
    whole_s = seconds(lambda: notebook.train(data, own, 32, NOTEBOOK_EPOCHS))
    what = f"all {NOTEBOOK_EPOCHS} epochs the notebook way, with its own network (32-64-128 channels) and batches of 32"
    yield what, f"{whole_s:.0f} s, {notebook.accuracy(data, own):.2%} of the official test"
    loader = DataLoader(notebook.NotebookDataset(data, data.parts.train), batch_size=100, shuffle=True)
    notebook_batches_s = median_seconds(lambda: list(loader))
    our_batches_s = median_seconds(lambda: list(data.train_dataloader()))
    yield "an epoch's batches alone, the notebook way and ours", f"{notebook_batches_s:.2f} s, {our_batches_s:.3f} s"
    yield "ratio of the batches", f"{notebook_batches_s / our_batches_s:.0f}"


def bench_neighbour() -> Iterator[tuple[str, str]]:
    """Four epochs in all threads, alone and while another process keeps one core busy, by what a waiting thread does."""
    policies = {"": "spin, as OpenMP has it", "PASSIVE": "sleep, as digits train has it"}
    taken: dict[tuple[bool, str], list[float]] = {(busy, policy): [] for busy in (False, True) for policy in policies}
    for (busy, policy), times in [*taken.items()] * REPEATS:
        neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
        times.append(train_s({"OMP_WAIT_POLICY": policy}))
        if neighbour:
            neighbour.kill()
    for policy, waiting in policies.items():
        alone, beside = (statistics.median(taken[busy, policy]) for busy in (False, True))
        yield f"four epochs, alone and beside a busy process; waiting threads {waiting}", f"{alone:.1f} s, {beside:.1f} s"


def train_s(environment: dict[str, str]) -> float:
    """Seconds of training that four epochs of ``digits train`` take in a process of their own."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["conditions=clean", "export=false", "trainer.max_epochs=4", "logger=none", f"hydra.run.dir={folder}"]
        command = [sys.executable, "-m", "digits.train", *options]
        subprocess.run(command, env=os.environ | environment, check=True, capture_output=True)
        return float(json.loads(Path(folder, runs.METRICS).read_text())["train_s"])


def config(*overrides: str) -> Any:
    with initialize_config_dir(cli.CONF, version_base="1.3"):
        return compose("train", overrides=["name=bench", "run_dir=.", "trainer.accelerator=cpu", *overrides])


def machine() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(": ", 1)[1] if lines else model
    versions = runs.environment()["versions"]
    return f"{model}, {os.cpu_count()} cores, {platform.system()}; Python {versions['python']}, torch {versions['torch']}"


def measure() -> Iterator[tuple[str, str]]:
    train.quieten()
    data: DigitsDataModule = instantiate(config().data)
    data.setup("fit")
    yield from bench_front_end(data)
    yield from bench_cache(lambda: instantiate(config().data))
    for experiment in ("baseline", "fast"):
        yield from bench_training(experiment)
    yield from bench_notebook(data)
    yield from bench_neighbour()
    yield from bench_latency(data)
    shutil.copy(data.test_clips[0].path, ONE_WAV)
    yield from bench_start_up()


def read_report(path: Path) -> dict[str, str]:
    """What was measured -> how much, of the last report, and its closing line; empty if there is none."""
    lines = path.read_text().splitlines() if path.is_file() else []
    rows = [line.strip("| ").split(" | ", 1) for line in lines if line.startswith("| ")]
    return {**{row[0]: row[1] for row in rows if len(row) == 2}, "closing": lines[-1]} if rows else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where to write report.md")
    out = parser.parse_args().out
    before = read_report(out / "report.md")
    rows = []
    for what, measured in measure():
        print(f"{what}: {measured} (before: {before.get(what, 'not measured')})", flush=True)
        rows.append([what, measured])
    print(f"before: {before['closing']}" if before else "no table to compare with")
    closing = f"Machine: {machine()}. Commit: {runs.git_commit()}."
    tables.write_report(out / "report.md", "Speed", {"Speed": tables.table(["what", "measured"], rows)}, closing)


if __name__ == "__main__":
    cli.run(main, "bench")
