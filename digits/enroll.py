"""Teach a model your own voice: ``digits enroll name=ann``, or ``python -m digits.enroll name=ann``."""

import os
import sys
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from digits import cli, settings

if TYPE_CHECKING:
    from digits.live.voices import Voices


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    cli.refuse_multirun("digits enroll")
    cli.run(job, "digits enroll")


@hydra.main(version_base="1.3", config_path=cli.CONF, config_name="enroll")
def job(cfg: DictConfig) -> None:
    enroll(cfg)
    sys.stdout.flush()


def enroll(cfg: DictConfig) -> None:
    """Record a voice and fit it, or delete one.

    Raises:
        ValueError, OSError: an impossible setting, no microphone, no such voice, or too few recordings, named in the message.
    """
    settings.check(cfg, settings.ENROLL)
    from digits.live.voices import Voices

    voices = Voices(cfg.voices)
    if cfg.name is None:
        known = ", ".join(voices.names()) or "none yet"
        raise ValueError(f"name=NAME is needed, the name of the voice; in {cfg.voices} there are: {known}")
    name = str(cfg.name)
    path = voices.path(name)
    if cfg.delete:
        voices.delete(name)
        print(f"{path} and its recordings are deleted")
        return
    from digits.training import runs

    ckpt_path, note = (cfg.ckpt_path, "") if cfg.ckpt_path else runs.choose_model(cfg.outputs, cfg.prefer)
    print(f"model: {ckpt_path}{note and f' ({note})'}", file=sys.stderr)
    if cfg.root is None:
        _record(cfg, voices, name, ckpt_path)
    print(voices.teach(name, ckpt_path, None if cfg.root is None else str(cfg.root)))
    print(f"to use it: digits mic ckpt_path={path}")


def _record(cfg: DictConfig, voices: "Voices", name: str, ckpt_path: str) -> None:
    """Ask for the digits, and keep the answers if all are there."""
    from digits.live import microphone, screen
    from digits.live.listener import Listener, listen
    from digits.live.prompt import Prompt
    from digits.live.recorder import Recorder
    from digits.live.segmenter import Segmenter
    from digits.live.voices import learner
    from digits.recognition.recognizer import Recognizer

    live = sys.stdout.isatty() and cfg.input is None if cfg.live == "auto" else cfg.live
    shown = screen.make("text", live)
    model = learner(ckpt_path)
    with (
        voices.session(name) as folder,
        microphone.opened(cfg.input, cfg.device, cfg.block_ms, shown.say) as (blocks, sample_rate, source),
    ):
        prompt = Prompt(Recorder(folder, voices.path(name).stem, shown.say), cfg.rounds, shown.ask)
        listener = Listener(Segmenter(sample_rate), Recognizer(model.window, model), record=prompt, isolated=False)
        with shown.running(f"{cli.printable(source)}, {sample_rate} Hz"):
            for heard in prompt.answers(listen(blocks, listener, shown)):
                shown.show(heard)
        if not prompt.complete:
            raise ValueError(f"not every digit was recorded {cfg.rounds} times, so nothing was learnt and nothing is kept")
        voices.keep(name, folder)


if __name__ == "__main__":
    main()
