"""Hear spoken digits live: ``digits mic``, or ``python -m digits.mic``."""

import os
import stat
import sys
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from digits import cli, files, settings

if TYPE_CHECKING:
    from digits.live.prompt import Prompt
    from digits.live.recorder import Recorder


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a second thread of torch costs time when words come one by one
    cli.refuse_multirun("digits mic")
    cli.run(job, "digits mic", with_file_as_setting)


@hydra.main(version_base="1.3", config_path=cli.CONF, config_name="mic")
def job(cfg: DictConfig) -> None:
    hear(cfg)
    sys.stdout.flush()


def with_file_as_setting(arguments: list[str]) -> list[str]:
    """``digits mic FILE`` as ``digits mic input=FILE``, quoted such that Hydra takes the name as it is.

    An argument that names an existing file, or that holds no ``=``, is the file.

    Raises:
        ValueError: there are several, or settings of Hydra itself.
    """
    if own := [argument for argument in arguments if argument.lstrip("+~").startswith("hydra.")]:
        raise ValueError(f"Hydra's own settings are only for digits train, got {' '.join(own)}")
    recordings = [argument for argument in arguments if _is_file(argument)]
    inputs = recordings + [argument for argument in arguments if argument.startswith("input=") and argument not in recordings]
    if recordings and inputs[1:]:
        raise ValueError(f"one recording at a time, got {' and '.join(inputs)}; digits predict takes several")
    return [f"input={cli.quoted(argument)}" if argument in recordings else argument for argument in arguments]


def _is_file(argument: str) -> bool:
    is_setting = "=" in argument or argument.startswith("~")  # ~NAME is Hydra's, and deletes
    return stat.S_ISREG(files.mode(argument)) or not is_setting


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
    from digits.live.prompt import Prompt
    from digits.live.recorder import Recorder
    from digits.live.segmenter import Segmenter
    from digits.recognition.recognizer import Recognizer
    from digits.training import runs

    live = sys.stdout.isatty() and cfg.input is None if cfg.live == "auto" else cfg.live
    shown = screen.make(cfg.output, live)
    ckpt_path, note = (cfg.ckpt_path, "") if cfg.ckpt_path else runs.choose_model(cfg.outputs, cfg.prefer)
    recognizer = Recognizer.load(ckpt_path, cfg.threshold)
    recorder = Recorder(cfg.record, str(cfg.speaker), shown.say) if cfg.record else None
    prompt = Prompt(recorder, cfg.rounds, shown.ask) if recorder and cfg.prompt else None
    with microphone.opened(cfg.input, cfg.device, cfg.block_ms, shown.say) as (blocks, sample_rate, name):
        isolated = cfg.isolated and not prompt  # an answer to a question counts wherever it stands
        listener = Listener(Segmenter(sample_rate, **cfg.segmenter), recognizer, cfg.denoise, prompt or recorder, isolated)
        try:
            with shown.running(f"{cli.printable(name)}, {sample_rate} Hz; model: {ckpt_path}{note and f' ({note})'}"):
                if live and note:  # its title may be too long for the terminal
                    shown.say(note)
                if announcement := _announce(recorder, prompt):
                    shown.say(announcement)
                sounds = listen(blocks, listener, shown, cfg.seconds)
                for heard in prompt.answers(sounds) if prompt else sounds:
                    shown.show(heard)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
    if prompt:
        print(f"{prompt.n_saved} of {prompt.n_words} words recorded", file=sys.stderr)
    if recorder and recorder.broken:
        raise OSError(f"{recorder.folder}: not everything that was heard could be recorded")


def _announce(recorder: "Recorder | None", prompt: "Prompt | None") -> str:
    if recorder is None:
        return ""
    labels = "" if prompt else "; the digits in the names are the model's guesses: check them before you train on them"
    return f"recording to {recorder.folder}{labels}"


def check(cfg: DictConfig) -> None:
    """Check the settings.

    Raises:
        ValueError: a setting has a wrong type or value; the message names it.
    """
    settings.check(cfg, settings.MIC)
    if cfg.prompt and not cfg.record:
        raise ValueError("prompt=true needs record=FOLDER, the folder for the recordings")


if __name__ == "__main__":
    main()
