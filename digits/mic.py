"""Hear spoken digits live: ``python -m digits.mic``."""

import contextlib
import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig, OmegaConf

from digits import entry

if TYPE_CHECKING:
    from torch import Tensor

    from digits.recognizer import Recognizer
    from digits.segmenter import Segmenter

SILENCE_S = 3.0  # of nothing but zeros: no real microphone is that quiet
METER_WIDTH, METER_RANGE_DB = 30, 70.0


@dataclass(frozen=True)
class Heard:
    """One recognised word; not ``accepted`` is "not sure".

    ``latency_ms`` runs from the word's end to its answer: the wait that makes sure, and the computing.
    """

    start_s: float
    end_s: float
    digit: int
    probability: float
    accepted: bool
    latency_ms: float


class Listener:
    """Segmenter and recogniser together: blocks of sound in, words out."""

    def __init__(self, segmenter: "Segmenter", recognizer: "Recognizer", denoise: bool = False) -> None:
        self.segmenter, self.recognizer, self.denoise = segmenter, recognizer, denoise

    def hear(self, block: "Tensor") -> list[Heard]:
        """The words that end in the next block, shape (samples,)."""
        return self._recognize(self.segmenter.feed(block))

    def finish(self) -> list[Heard]:
        """The words still going on when the stream ends."""
        return self._recognize(self.segmenter.flush())

    def _recognize(self, words: list[Any]) -> list[Heard]:
        from digits.recognizer import denoise

        heard = []
        for word in words:
            started = time.perf_counter()
            waveform = denoise(word.waveform, word.sample_rate) if self.denoise else word.waveform
            prediction = self.recognizer(waveform, word.sample_rate)
            latency_s = word.decided_s - word.end_s + time.perf_counter() - started
            heard.append(
                Heard(
                    start_s=round(word.start_s, 3),
                    end_s=round(word.end_s, 3),
                    digit=prediction.digit,
                    probability=round(prediction.probability, 4),
                    accepted=prediction.accepted,
                    latency_ms=round(1000 * latency_s, 1),
                )
            )
        return heard


class Screen:
    """Prints words to stdout and, on stderr, a level meter and warnings."""

    def __init__(self, output: str, meter: bool) -> None:
        if output not in ("text", "jsonl"):
            raise ValueError(f"output must be text or jsonl, got {output}")
        self.output, self.meter = output, meter

    def show(self, heard: Heard) -> None:
        self.clear()
        if self.output == "jsonl":
            print(json.dumps(asdict(heard)), flush=True)
        else:
            columns = f"{heard.start_s:9.2f} s   {heard.digit:^5}  {heard.probability:^11.0%}  {heard.latency_ms:4.0f} ms"
            print(columns + ("" if heard.accepted else "   not sure"), flush=True)

    def level(self, level_db: float, floor_db: float) -> None:
        if self.meter:
            filled, floor = (round(METER_WIDTH * (1 + max(db, -METER_RANGE_DB) / METER_RANGE_DB)) for db in (level_db, floor_db))
            bar = "".join("█" if i < filled else "│" if i == floor else "·" for i in range(METER_WIDTH))
            print(f"\r{level_db:5.0f} dB {bar}", end="", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        self.clear()
        print(text, file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self.meter:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def listen(blocks: Iterable["Tensor"], listener: Listener, screen: Screen, seconds: float | None = None) -> Iterator[Heard]:
    """The loop of microphone and file alike: each word as it ends, until the blocks do or ``seconds`` of sound have passed."""
    segmenter = listener.segmenter
    samples = silent = 0
    for block in blocks:
        yield from listener.hear(block)
        samples += len(block)
        silent = 0 if block.any() else silent + len(block)
        if 0 <= silent - SILENCE_S * segmenter.sample_rate < len(block):
            screen.say("warning: the microphone delivers only zeros: is it muted, or is another device meant (list_devices=true)?")
        if samples // (segmenter.sample_rate // 10) > (samples - len(block)) // (segmenter.sample_rate // 10):
            screen.level(segmenter.level_db, segmenter.floor_db)
        if seconds is not None and samples >= seconds * segmenter.sample_rate:
            break
    yield from listener.finish()


@hydra.main(version_base="1.3", config_path=entry.CONF, config_name="mic")
def main(cfg: DictConfig) -> None:
    try:
        hear(cfg)
    except (ValueError, OSError) as error:  # here, since Hydra adds a line of its own to what leaves a job
        sys.exit(f"digits.mic: {entry.explain(error)}")


def hear(cfg: DictConfig) -> None:
    """List the devices, or print what a microphone or a file says.

    Raises:
        ValueError, OSError: no model, no sound or an impossible setting, named in the message.
    """
    from digits import microphone

    if cfg.list_devices:
        print(microphone.describe_devices())
        return
    import torch

    from digits.recognizer import Recognizer
    from digits.segmenter import Segmenter

    torch.set_num_threads(1)  # for one word at a time, a second thread only costs
    screen = Screen(cfg.output, sys.stderr.isatty() and cfg.input is None if cfg.meter == "auto" else cfg.meter)
    if cfg.ckpt_path:
        recognizer, name = Recognizer.load(cfg.ckpt_path), cfg.ckpt_path
    else:
        recognizer, name = Recognizer.load_best(cfg.outputs, cfg.prefer)
    screen.say(f"model: {name}")
    with contextlib.ExitStack() as stack:
        if cfg.input is not None:
            blocks, sample_rate = microphone.read_file(cfg.input, cfg.block_ms)
        else:
            device = microphone.find_device(cfg.device)
            sample_rate = int(device["default_samplerate"])
            blocks = stack.enter_context(microphone.open_microphone(device, cfg.block_ms))
            screen.say(f"microphone: {device['name']}, {sample_rate} Hz; Ctrl-C ends")
        settings: Any = OmegaConf.to_container(cfg.segmenter)
        listener = Listener(Segmenter(sample_rate, **settings), recognizer, cfg.denoise)
        try:
            if cfg.output == "text":
                screen.say("         at   digit  probability  latency")
            for heard in listen(blocks, listener, screen, cfg.seconds):
                screen.show(heard)
        except KeyboardInterrupt:
            screen.say("stopped")
        finally:
            screen.clear()


if __name__ == "__main__":
    entry.run(main, "digits.mic")
