"""Hear spoken digits live: ``digits mic``, or ``python -m digits.mic``."""

import contextlib
import os
import stat
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig

from digits import cli, files, settings

if TYPE_CHECKING:
    from digits.live.listener import Heard
    from digits.live.prompt import Prompt
    from digits.live.recorder import Recorder
    from digits.live.screen import Lines


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a second thread of torch costs time when words come one by one
    if {"-m", "--multirun"} & set(sys.argv[1:]):
        sys.exit("digits mic: -m and --multirun are only for digits train")
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
    shown = screen.make(cfg.output, live and not cfg.prompt)  # a question must stay to be seen
    ckpt_path, note = (cfg.ckpt_path, "") if cfg.ckpt_path else runs.choose_model(cfg.outputs, cfg.prefer)
    recognizer = Recognizer.load(ckpt_path, cfg.threshold)
    recorder = Recorder(cfg.record, str(cfg.speaker), shown.say) if cfg.record else None
    prompt = Prompt(recorder, cfg.rounds, shown.say) if recorder and cfg.prompt else None
    with contextlib.ExitStack() as stack:
        blocks, sample_rate, name = _open(cfg, stack, shown.say)
        isolated = cfg.isolated and not prompt  # an answer to a question counts wherever it stands
        listener = Listener(Segmenter(sample_rate, **cfg.segmenter), recognizer, cfg.denoise, prompt or recorder, isolated)
        try:
            with shown.running(f"{cli.printable(name)}, {sample_rate} Hz; model: {ckpt_path}{note and f' ({note})'}"):
                if live and note:  # its title may be too long for the terminal
                    shown.say(note)
                if announcement := _announce(recorder, prompt):
                    shown.say(announcement)
                _show(listen(blocks, listener, shown, cfg.seconds), shown, prompt)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
    if prompt:
        print(f"{prompt.n_saved} of {prompt.n_words} words recorded", file=sys.stderr)
    if recorder and recorder.broken:
        raise OSError(f"{recorder.folder}: not everything that was heard could be recorded")


def _open(cfg: DictConfig, stack: contextlib.ExitStack, say: Callable[[str], None]) -> tuple[Any, int, str]:
    """Blocks of sound, their sample rate, and the name of the file or device."""
    from digits.live import microphone

    if cfg.input is not None:
        return *microphone.read_file(cfg.input, cfg.block_ms), cfg.input
    opened = stack.enter_context(microphone.Microphone(microphone.find_device(cfg.device), cfg.block_ms, say))
    return opened, opened.sample_rate, opened.device["name"]


def _announce(recorder: "Recorder | None", prompt: "Prompt | None") -> str:
    if recorder is None:
        return ""
    labels = "" if prompt else "; the digits in the names are the model's guesses: check them before you train on them"
    return f"recording to {recorder.folder}{labels}"


def _show(sounds: "Iterator[Heard]", shown: "Lines", prompt: "Prompt | None") -> None:
    if prompt:
        prompt.ask()
    for heard in sounds:
        shown.show(heard)
        if prompt and prompt.done:
            break
        if prompt:
            prompt.ask()


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
