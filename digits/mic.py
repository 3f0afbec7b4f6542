"""Hear spoken digits live: ``python -m digits.mic``."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig, OmegaConf

from digits import entry, screen
from digits.screen import Heard, Lines

if TYPE_CHECKING:
    from digits.audio import Waveform
    from digits.recognizer import Recognizer
    from digits.segmenter import Segmenter, Word

SILENCE_S = 3.0  # of nothing but zeros: no real microphone is that quiet


class Listener:
    """Segmenter and recogniser together: blocks of sound in, what was heard out.

    Args:
        record: is given each sound and what became of it.
    """

    def __init__(
        self,
        segmenter: "Segmenter",
        recognizer: "Recognizer",
        denoise: bool = False,
        record: "Callable[[Word, Heard], None] | None" = None,
    ) -> None:
        self.segmenter, self.recognizer, self.denoise, self.record = segmenter, recognizer, denoise, record

    def hear(self, block: "Waveform") -> list[Heard]:
        """The sounds that end in the next block, shape (samples,)."""
        return [self._judge(word) for word in self.segmenter.feed(block)]

    def finish(self) -> list[Heard]:
        """The sounds still going on when the stream ends."""
        return [self._judge(word) for word in self.segmenter.flush()]

    def _judge(self, word: "Word") -> Heard:
        from digits.recognizer import denoise

        started = time.perf_counter()
        prediction = None
        if word.reason is None:
            waveform = denoise(word.waveform, word.sample_rate, word.noise) if self.denoise else word.waveform
            prediction = self.recognizer(waveform, word.sample_rate)
        computing_s = time.perf_counter() - started
        heard = Heard(
            start_s=round(word.start_s, 3),
            end_s=round(word.end_s, 3),
            digit=prediction.digit if prediction else None,
            probability=round(prediction.probability, 4) if prediction else None,
            accepted=prediction is not None and prediction.accepted,
            reason=prediction.reason if prediction else word.reason,
            latency_ms=round(1000 * (word.decided_s - word.end_s + computing_s), 1),
            computing_ms=round(1000 * computing_s, 1),
        )
        if self.record:
            self.record(word, heard)
        return heard


class Recorder:
    """Saves what was heard as ``FOLDER/{digit}_{speaker}_{n}.wav``, a corpus for ``data=folder``; refused sounds go to
    ``FOLDER_refused``.

    The names are the recogniser's verdicts: listen to them before training on them.

    Raises:
        ValueError: a speaker that a file name cannot hold.
        OSError: a folder that cannot be written.
    """

    def __init__(self, folder: str | Path, speaker: str) -> None:
        if not speaker.isalnum():
            raise ValueError(f"speaker must consist of letters and digits, got {speaker}")
        self.folder, self.speaker = Path(folder).expanduser(), speaker
        self.refused = self.folder.with_name(f"{self.folder.name}_refused")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._taken = 1 + max((int(path.stem.split("_")[-1]) for path in self._saved()), default=-1)

    def _saved(self) -> list[Path]:
        return [
            path
            for folder, pattern in ((self.folder, f"?_{self.speaker}_*.wav"), (self.refused, "*.wav"))
            for path in folder.glob(pattern)
            if path.stem.split("_")[-1].isdigit()
        ]

    def __call__(self, word: "Word", heard: Heard) -> None:
        import soundfile

        if heard.accepted:
            path = self.folder / f"{heard.digit}_{self.speaker}_{self._taken}.wav"
        else:
            assert heard.reason is not None
            self.refused.mkdir(exist_ok=True)
            path = self.refused / f"{heard.reason.replace(' ', '-')}_{self._taken}.wav"
        soundfile.write(path, word.waveform, word.sample_rate, subtype="PCM_16")
        self._taken += 1


def listen(blocks: Iterable["Waveform"], listener: Listener, shown: Lines, seconds: float | None = None) -> Iterator[Heard]:
    """The loop of microphone and file alike: each sound as it ends, until the blocks do or ``seconds`` of sound have passed."""
    segmenter = listener.segmenter
    samples = silent = 0
    for block in blocks:
        yield from listener.hear(block)
        samples += len(block)
        silent = 0 if block.any() else silent + len(block)
        if 0 <= silent - SILENCE_S * segmenter.sample_rate < len(block):
            shown.say("warning: the microphone delivers only zeros: is it muted, or is another device meant (list_devices=true)?")
        if samples // (segmenter.sample_rate // 10) > (samples - len(block)) // (segmenter.sample_rate // 10):
            shown.level(segmenter.level_db, segmenter.floor_db, segmenter.threshold_db, getattr(blocks, "overruns", 0))
        if seconds is not None and samples >= seconds * segmenter.sample_rate:
            break
    yield from listener.finish()


def check(cfg: DictConfig) -> None:
    """Refuse settings of a wrong kind.

    Raises:
        ValueError: names the setting.
    """
    numbers = {"block_ms": cfg.block_ms, "seconds": cfg.seconds}
    numbers |= {f"segmenter.{name}": value for name, value in cfg.segmenter.items()}
    for name, value in numbers.items():
        if value is None and name == "seconds":
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise ValueError(f"{name} must be a number, 0 or more, got {value}")
    for name in ("denoise", "list_devices"):
        if not isinstance(cfg[name], bool):
            raise ValueError(f"{name} must be true or false, got {cfg[name]}")
    if cfg.live not in (True, False, "auto"):
        raise ValueError(f"live must be true, false or auto, got {cfg.live}")


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

    check(cfg)
    if cfg.list_devices:
        print(microphone.describe_devices())
        return
    from digits.recognizer import Recognizer
    from digits.segmenter import Segmenter

    shown = screen.make(cfg.output, sys.stdout.isatty() and cfg.input is None if cfg.live == "auto" else cfg.live)
    if cfg.ckpt_path:
        recognizer, name = Recognizer.load(cfg.ckpt_path), cfg.ckpt_path
    else:
        recognizer, name = Recognizer.load_best(cfg.outputs, cfg.prefer)
    record = Recorder(str(cfg.record), str(cfg.speaker)) if cfg.record else None
    with contextlib.ExitStack() as stack:
        blocks: Any
        if cfg.input is not None:
            blocks, sample_rate = microphone.read_file(cfg.input, cfg.block_ms)
            source = f"{cfg.input}, {sample_rate} Hz"
        else:
            blocks = stack.enter_context(microphone.Microphone(microphone.find_device(cfg.device), cfg.block_ms, shown.say))
            sample_rate = blocks.sample_rate
            source = f"{blocks.device['name']}, {sample_rate} Hz"
        settings: Any = OmegaConf.to_container(cfg.segmenter)
        listener = Listener(Segmenter(sample_rate, **settings), recognizer, cfg.denoise, record)
        try:
            with shown.running(f"{source}; model: {name}"):
                for heard in listen(blocks, listener, shown, cfg.seconds):
                    shown.show(heard)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for one word at a time, a second thread of torch only costs
    entry.run(main, "digits.mic")
