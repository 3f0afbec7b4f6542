from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
import soundfile
from support import sequence, spoken

from digits import audio, word_window
from digits.live import microphone
from digits.live.listener import Listener, listen
from digits.live.screen import Lines
from digits.live.segmenter import Segmenter
from digits.recognition.recognizer import Recognizer

RATE = audio.SAMPLE_RATE


def replay(path: Path, checkpoint: Path, block_ms: float = 10, denoise: bool = False) -> list[dict]:
    """The microphone's loop over a file, in this process."""
    blocks, sample_rate = microphone.read_file(path, block_ms)
    listener = Listener(Segmenter(sample_rate), Recognizer.load(checkpoint), denoise)
    return [vars(heard) for heard in listen(blocks, listener)]


@pytest.mark.parametrize("block_ms", [0.5, 7.3, 100, 100_000])
def test_the_answer_does_not_depend_on_the_block_size(tiny_checkpoint: Path, tmp_path: Path, block_ms: float) -> None:
    path = sequence(tmp_path / "words.wav", [3, 8, 1])
    reference, heard = replay(path, tiny_checkpoint), replay(path, tiny_checkpoint, block_ms)
    for event in reference + heard:
        del event["latency_ms"], event["computing_ms"]
    assert heard == reference
    assert len(heard) == 3


def test_the_microphone_s_answer_is_the_file_s(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for digit in (0, 3, 6, 9):
        path = sequence(tmp_path / f"{digit}.wav", [digit])
        (heard,) = replay(path, tiny_checkpoint)
        assert heard["digit"] == Recognizer.load(tiny_checkpoint)(*audio.read(path)).digit


def test_denoise_runs_on_each_word(tiny_checkpoint: Path, tmp_path: Path) -> None:
    path = sequence(tmp_path / "words.wav", [3, 8])
    plain, cleaned = replay(path, tiny_checkpoint), replay(path, tiny_checkpoint, denoise=True)
    assert len(cleaned) == 2
    assert [event["probability"] for event in plain] != [event["probability"] for event in cleaned]


def test_seconds_ends_the_stream(tiny_checkpoint: Path, tmp_path: Path) -> None:
    path = sequence(tmp_path / "words.wav", [3, 8, 1])
    listener = Listener(Segmenter(RATE), Recognizer.load(tiny_checkpoint))
    blocks, _ = microphone.read_file(path, 10)
    assert len(list(listen(blocks, listener, seconds=1.9))) == 1


class Losing:
    """Blocks of which seven have been lost."""

    overruns = 7

    def __init__(self, blocks: Iterator[audio.Waveform]) -> None:
        self.blocks = blocks

    def __iter__(self) -> Iterator[audio.Waveform]:
        return self.blocks


def test_lost_blocks_stand_with_every_sound_even_with_one_that_the_end_cuts_off(tiny_checkpoint: Path, tmp_path: Path) -> None:
    path = sequence(tmp_path / "words.wav", [3, 8], gap_s=0.3)
    blocks, _ = microphone.read_file(path, 10)
    listener = Listener(Segmenter(RATE), Recognizer.load(tiny_checkpoint))
    assert [heard.overruns for heard in listen(Losing(blocks), listener, seconds=2.05)] == [7, 7]


def test_zeros_are_warned_of_once(tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listener = Listener(Segmenter(RATE), Recognizer.load(tiny_checkpoint))
    blocks = microphone.read_blocks(numpy.zeros(10 * RATE, dtype=numpy.float32), 480)
    assert list(listen(blocks, listener, Lines())) == []
    assert capsys.readouterr().err.count("only zeros come in") == 1


class Watching:
    """Counts what a watcher is told."""

    def __init__(self) -> None:
        self.levels: list[tuple[float, float, float, int]] = []

    def level(self, *levels_and_overruns: float) -> None:
        self.levels.append(levels_and_overruns)  # type: ignore[arg-type]

    def only_zeros(self) -> None:
        raise AssertionError("there was sound")


@pytest.mark.parametrize("block_ms", [7.3, 10, 50])
def test_a_watcher_is_told_the_level_ten_times_a_second(tiny_checkpoint: Path, tmp_path: Path, block_ms: float) -> None:
    path = sequence(tmp_path / "words.wav", [3, 8])
    blocks, sample_rate = microphone.read_file(path, block_ms)
    watching = Watching()
    list(listen(blocks, Listener(Segmenter(sample_rate), Recognizer.load(tiny_checkpoint)), watching))
    assert abs(len(watching.levels) - 10 * soundfile.info(path).duration) <= 1
    levels, floors, thresholds, overruns = zip(*watching.levels, strict=True)
    assert max(levels) > -20
    assert all(floor + 10 == threshold for floor, threshold in zip(floors, thresholds, strict=True))
    assert set(overruns) == {0}


def test_rejected_sounds_say_why(tiny_checkpoint: Path, tmp_path: Path) -> None:
    click = numpy.zeros(RATE)
    click[RATE // 2] = 1.0
    noise = 2e-4 * numpy.random.default_rng(0).standard_normal(8 * RATE)
    noise[RATE : 2 * RATE] += click
    noise[3 * RATE : 6 * RATE] += 0.1 * numpy.sin(numpy.arange(3 * RATE) * 0.05)
    soundfile.write(tmp_path / "sounds.wav", noise, RATE)
    events = replay(tmp_path / "sounds.wav", tiny_checkpoint)
    assert [(event["reason"], event["digit"], event["accepted"]) for event in events] == [
        ("too short", None, False),
        ("too long", None, False),
    ]


@pytest.mark.parametrize(("lacking", "reason"), [(0.1, "not sure"), (0.6, "no digit")])
def test_a_sound_that_is_no_digit_is_told_from_one_that_is_not_sure(lacking: float, reason: str) -> None:
    probabilities = numpy.array([[0.5 - lacking / 2, 0.5 - lacking / 2, *[0.0] * 8]], dtype=numpy.float32)
    recognizer = Recognizer(word_window.WordWindow(), lambda windows: probabilities, threshold=0.9)
    noise = 1e-3 * numpy.random.default_rng(0).standard_normal(2 * RATE)
    noise[RATE : RATE + RATE // 3] += 0.1 * numpy.sin(numpy.arange(RATE // 3) * 0.1)
    (event,) = Listener(Segmenter(RATE), recognizer).hear(noise.astype(numpy.float32))
    assert (event.digit, event.accepted, event.reason) == (0, False, reason)


@pytest.mark.slow
def test_ten_hours_lose_nothing_drift_nowhere_and_fill_no_memory(tiny_checkpoint: Path) -> None:
    """A word every ten seconds, replayed as fast as it is computed."""
    rate, hours = 16_000, 10
    word = audio.resample(spoken(3, 0, 50), 8000, rate)
    noise = (2e-4 * numpy.random.default_rng(0).standard_normal(10 * rate)).astype(numpy.float32)
    noise[5 * rate : 5 * rate + len(word)] += word
    blocks = (block for _ in range(360 * hours) for block in noise.reshape(-1, rate // 10))
    listener = Listener(Segmenter(rate), Recognizer.load(tiny_checkpoint))
    starts, digits, memory = [], set(), []
    for heard in listen(blocks, listener):
        starts.append(heard.start_s)
        digits.add(heard.digit)
        memory.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
    assert len(starts) == 360 * hours
    assert digits == {3}
    drift = [start - 10 * index for index, start in enumerate(starts)]
    assert max(drift) - min(drift) < 0.011  # a level frame
    assert max(memory[100:]) - min(memory[100:]) < 20e6
