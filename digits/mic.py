"""Hear spoken digits live: ``digits mic``, or ``python -m digits.mic``."""

import contextlib
import errno
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig, ListConfig, OmegaConf

from digits import cli

if TYPE_CHECKING:
    from digits.live.listener import Heard
    from digits.live.prompt import Prompt
    from digits.live.recorder import Recorder
    from digits.live.screen import Lines

TAKE_A_VALUE = (
    "--cfg",
    "-c",
    "--package",
    "-p",
    "--config-path",
    "-cp",
    "--config-name",
    "-cn",
    "--config-dir",
    "-cd",
    "--info",
    "-i",
)


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a second thread of torch costs time when words come one by one
    if {"-m", "--multirun"} & set(sys.argv[1:]):
        sys.exit("digits mic: it listens once: -m and --multirun are for digits train")
    sys.argv[1:] = with_file_as_setting(sys.argv[1:])
    cli.run(job, "digits mic")


@hydra.main(version_base="1.3", config_path=cli.CONF, config_name="mic")
def job(cfg: DictConfig) -> None:
    from digits.live import screen

    try:
        hear(cfg)
        sys.stdout.flush()
    except (ValueError, OSError) as error:  # caught here, because Hydra adds a line of its own to what leaves a job
        if isinstance(error, BrokenPipeError):
            sys.exit(screen.give_up_output())
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            screen.give_up_output()
            sys.exit(f"digits mic: the output cannot be written: {error.strerror}")
        sys.exit(f"digits mic: {cli.explain(error)}")


def with_file_as_setting(arguments: list[str]) -> list[str]:
    """``digits mic FILE`` as ``digits mic input=FILE``, quoted such that Hydra takes the name as it is.

    The first argument that names an existing file, or that holds no ``=``, is the file.
    """
    for index, argument in enumerate(arguments):
        is_value = index > 0 and arguments[index - 1] in TAKE_A_VALUE
        if is_value or argument.startswith("-"):
            continue
        if _is_file(argument) or not ("=" in argument or argument.startswith("~")):  # ~NAME is Hydra's, and deletes
            return [*arguments[:index], f"input={quoted(argument)}", *arguments[index + 1 :]]
    return arguments


def _is_file(name: str) -> bool:
    with contextlib.suppress(OSError):  # a setting may be too long for a name
        return Path(name).is_file()
    return False


def quoted(text: str) -> str:
    """A string in Hydra's grammar: backslashes count only before a quote, and before OmegaConf's ``${``."""
    text = f"./{text}" if text == "???" else text  # OmegaConf's missing value
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    text = re.sub(r"(\\*)'", r"\1\1\\'", text)
    return "'" + re.sub(r"(\\+)$", r"\1\1", text) + "'"


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
        settings: Any = OmegaConf.to_container(cfg.segmenter)
        listener = Listener(Segmenter(sample_rate, **settings), recognizer, cfg.denoise, prompt or recorder)
        try:
            with shown.running(f"{name}, {sample_rate} Hz; model: {ckpt_path}{note and f' ({note})'}"):
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
    """Check the types and ranges of the settings; the threshold is checked by the recogniser.

    Raises:
        ValueError: a setting has a wrong type or value; the message names it.
    """
    for name, (is_good, must_be) in SETTINGS.items():
        if not is_good(cfg[name]):
            raise ValueError(f"{name} must be {must_be}, got {_yaml(cfg[name])}")
    for name, value in cfg.segmenter.items():
        if not (_is_number(value) and 0 <= value <= MAX_SEGMENTER):
            raise ValueError(f"segmenter.{name} must be a number from 0 to {MAX_SEGMENTER}, got {_yaml(value)}")
    if cfg.prompt and not cfg.record:
        raise ValueError("prompt=true needs record=FOLDER, the folder for the recordings")


def _yaml(value: object) -> str:
    """As it would be written on the command line."""
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_switch(value: object) -> bool:
    return isinstance(value, bool)


MAX_SEGMENTER = 10_000  # no decibels, milliseconds or seconds above this make sense
SETTINGS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "ckpt_path": (lambda value: value is None or _is_text(value), "pretrained or the name of a model file"),
    "outputs": (_is_text, "the name of a folder"),
    "prefer": (
        lambda value: isinstance(value, ListConfig) and all(map(_is_text, value)),
        "a list of experiments, like [live,robust]",
    ),
    "list_devices": (_is_switch, "true or false"),
    "device": (
        lambda value: value is None or _is_count(value) or _is_text(value),
        "the number of a microphone or part of its name",
    ),
    "input": (lambda value: value is None or _is_text(value), "the name of a file, which can also stand alone: digits mic FILE"),
    "block_ms": (lambda value: _is_number(value) and 0 < value <= 1000, "a number above 0, at most 1000"),
    "seconds": (lambda value: value is None or (_is_number(value) and value >= 0), "a number, 0 or more"),
    "live": (lambda value: _is_switch(value) or value == "auto", "true, false or auto"),
    "record": (lambda value: value is None or _is_text(value), "the name of a folder"),
    "speaker": (lambda value: _is_count(value) or _is_text(value), "letters and digits"),
    "prompt": (_is_switch, "true or false"),
    "rounds": (lambda value: _is_count(value) and value > 0, "a whole number, 1 or more"),
    "denoise": (_is_switch, "true or false"),
    "segmenter": (lambda value: isinstance(value, DictConfig), "changed by its parts, like segmenter.hang_ms=200"),
}


if __name__ == "__main__":
    main()
