"""How many streams ``digits web`` carries: ``python -m experiments.bench.load`` writes load.md.

Each client plays FSDD's official test clips with pauses between them, in real time and in blocks as long as the page's. A latency
is the time from the end of a word to the arrival of its answer. The server has one process, the clients another.
"""

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy
import psutil
from websockets.asyncio.client import connect

from digits import audio
from digits.corpora import fsdd
from digits.training import runs
from experiments import tables

RATE = audio.SAMPLE_RATE
BLOCK_S = 0.05  # the page's
PAUSE_S = 0.8
SECONDS = 30.0  # of sound in each measurement
STREAMS = (1, 50, 75, 100, 110, 120, 130, 140, 150)
MAX_MEDIAN_MS = 250.0
REPLAYED = 4  # streams that replay an hour
MARKS_S = (300, 1800, 3600)  # of sound, when the memory is read
MEGABYTE = 2**20


def sound(seed: int, seconds: float) -> bytes:
    """Digits with pauses, in 16-bit samples."""
    random = numpy.random.default_rng(seed)
    clips = [clip for clip in fsdd.load().clips if clip.take < 5]
    parts: list[numpy.ndarray] = [numpy.zeros(round(random.uniform(0, 1) * RATE), dtype=numpy.float32)]
    while sum(map(len, parts)) < seconds * RATE:
        clip = clips[random.integers(len(clips))]
        parts += [audio.resample(*audio.read(clip.path), RATE), numpy.zeros(round(PAUSE_S * RATE), dtype=numpy.float32)]
    waveform = numpy.concatenate(parts)[: round(seconds * RATE)]
    waveform = 0.5 * waveform + 1e-4 * random.standard_normal(len(waveform))
    return (numpy.clip(waveform, -1, 1) * 32767).astype("<i2").tobytes()


def in_blocks(content: bytes) -> Iterator[bytes]:
    size = 2 * round(BLOCK_S * RATE)
    return (content[start : start + size] for start in range(0, len(content), size))


@contextmanager
def server() -> Iterator[tuple[psutil.Process, str]]:
    """The server's process and its address."""
    command = [
        sys.executable,
        "-m",
        "digits",
        "web",
        "port=0",
        "ckpt_path=pretrained",
        "voices=null",
        "streams=1000",
        "speed=10000",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        (port,) = re.findall(r"localhost:(\d+)", process.stdout.readline())
        yield psutil.Process(process.pid), f"ws://127.0.0.1:{port}/v1/stream?sample_rate={RATE}&details"
    finally:
        process.terminate()
        process.wait()


async def play(address: str, content: bytes, delay_s: float) -> list[float]:
    """Play in real time; returns latencies in ms."""
    latencies: list[float] = []
    async with connect(address, max_size=None, compression=None) as connection:
        await asyncio.sleep(delay_s)
        began = time.perf_counter()

        async def listen() -> None:
            async for text in connection:
                message = json.loads(text)
                if message["type"] == "heard":
                    latencies.append(1000 * (time.perf_counter() - began - message["end_s"]))

        listening = asyncio.create_task(listen())
        for number, block in enumerate(in_blocks(content)):
            await asyncio.sleep(max(0.0, began + (number + 1) * BLOCK_S - time.perf_counter()))
            await connection.send(block)
        await connection.send('{"end": true}')
        await listening
    return latencies


async def crowd(process: psutil.Process, address: str, sounds: list[bytes], n_streams: int) -> tuple[list[float], float]:
    """Latencies of so many streams at once, in ms, and the server's share of a core."""
    before, began = process.cpu_times(), time.perf_counter()
    delays = numpy.random.default_rng(n_streams).uniform(0, 1, n_streams)
    found = await asyncio.gather(*(play(address, sounds[n % len(sounds)], delays[n]) for n in range(n_streams)))
    after, ended = process.cpu_times(), time.perf_counter()
    cpu_s = after.user + after.system - before.user - before.system
    return [latency for latencies in found for latency in latencies], cpu_s / (ended - began)


def latencies(process: psutil.Process, address: str) -> str:
    sounds = [sound(seed, SECONDS) for seed in range(20)]
    rows = []
    for n_streams in STREAMS:
        found, share = asyncio.run(crowd(process, address, sounds, n_streams))
        p50, p99 = statistics.median(found), float(numpy.quantile(found, 0.99))
        rows.append([str(n_streams), str(len(found)), f"{p50:.0f}", f"{p99:.0f}", f"{100 * share:.0f}"])
        print(*rows[-1], file=sys.stderr)
        if p50 > MAX_MEDIAN_MS:
            break
    return tables.table(["streams", "words", "median latency, ms", "99th percentile, ms", "server, % of a core"], rows, left=0)


async def replay(process: psutil.Process, address: str, minute: bytes) -> list[float]:
    """The server's memory in MiB while streams are replayed as fast as they are taken: before, at each of the marks, and after."""
    memory = [process.memory_info().rss / MEGABYTE]
    async with asyncio.TaskGroup() as group:
        reached = [asyncio.Barrier(REPLAYED + 1) for _ in MARKS_S]

        async def one() -> None:
            async with connect(address, max_size=None, compression=None) as connection:
                reading = asyncio.create_task(_read(connection))
                played_s = 0
                for mark, barrier in zip(MARKS_S, reached, strict=True):
                    while played_s < mark:
                        for block in in_blocks(minute):
                            await connection.send(block)
                        played_s += 60
                    await barrier.wait()
                await connection.send('{"end": true}')
                await reading

        for _ in range(REPLAYED):
            group.create_task(one())
        for barrier in reached:
            await barrier.wait()
            memory.append(process.memory_info().rss / MEGABYTE)
    await asyncio.sleep(1)
    return [*memory, process.memory_info().rss / MEGABYTE]


async def _read(connection: object) -> None:
    async for _ in connection:  # type: ignore[attr-defined]
        pass


def memory(process: psutil.Process, address: str) -> str:
    found = asyncio.run(replay(process, address, sound(0, 60)))
    header = ["streams", "before", *(f"after {mark // 60} minutes" for mark in MARKS_S), "all closed"]
    return tables.table(header, [[str(REPLAYED), *(f"{value:.1f}" for value in found)]], left=0)


def main() -> None:
    parser = argparse.ArgumentParser(description="How many streams digits web carries.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    sections = {}
    for name, measure in (("Memory, MiB", memory), ("Streams", latencies)):
        with server() as (process, address):
            sections[name] = measure(process, address)
    closing = f"Machine: {psutil.cpu_count()} cores. Commit: {runs.git_commit()}."
    tables.write_report(options.out / "load.md", "Streams of digits web", sections, closing)


if __name__ == "__main__":
    main()
