"""Hear spoken digits live: ``digits mic``, or ``python -m digits.mic``."""

import contextlib
import os
import sys
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from digits import cli


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a second thread of torch costs time when words come one by one
    cli.run(job, "digits mic")


@hydra.main(version_base="1.3", config_path=cli.CONF, config_name="mic")
def job(cfg: DictConfig) -> None:
    try:
        hear(cfg)
    except (ValueError, OSError) as error:  # caught here, because Hydra adds a line of its own to what leaves a job
        sys.exit(f"digits mic: {cli.explain(error)}")


def hear(cfg: DictConfig) -> None:
    """List the devices, or print what is heard from a microphone or in a file.

    Raises:
        ValueError, OSError: no model, no sound or an impossible setting, named in the message.
    """
    from digits.live import microphone, screen

    check(cfg)
    if cfg.list_devices:
        print(microphone.describe_devices())
        return
    from digits.live.listener import Listener, listen
    from digits.live.recorder import Recorder
    from digits.live.segmenter import Segmenter
    from digits.recognition.recognizer import Recognizer
    from digits.training import runs

    shown = screen.make(cfg.output, sys.stdout.isatty() and cfg.input is None if cfg.live == "auto" else cfg.live)
    ckpt_path, note = (cfg.ckpt_path, "") if cfg.ckpt_path else runs.choose_model(cfg.outputs, cfg.prefer)
    recognizer = Recognizer.load(ckpt_path, cfg.threshold)
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
            with shown.running(f"{source}; model: {ckpt_path}"):
                if note:
                    shown.say(note)
                for heard in listen(blocks, listener, shown, cfg.seconds):
                    shown.show(heard)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)


def check(cfg: DictConfig) -> None:
    """Check the types of the settings.

    Raises:
        ValueError: a setting has the wrong type; the message names it.
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


if __name__ == "__main__":
    main()
