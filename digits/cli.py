"""The command ``digits`` (or ``python -m digits``), and what its subcommands share: configs and one-line error messages."""

import argparse
import contextlib
import errno
import os
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from digits import __version__

COMMANDS = {
    "train": "train, test and record one run, or a sweep of many",
    "mic": "hear digits live, from a microphone or a file",
    "web": "hear digits in the browser",
    "enroll": "teach a model your voice",
    "predict": "recognise the digit in recordings",
    "export": "write a model as one ONNX file that runs without torch",
    "calibrate": "fit a model's confidence on held-out runs and write it as one plain file",
}
EXTRAS = {
    "train": "train",
    "mic": "live",
    "web": "live,web",
    "enroll": "live",
    "predict": "live",
    "export": "live,train,export",
    "calibrate": "train",
}
USAGE = "usage: digits COMMAND ...\n\n" + "\n".join(f"  {name:<10} {does}" for name, does in COMMANDS.items())
EXAMPLES = """
Run digits COMMAND --help for details. Examples:

  digits mic                           the default microphone; Ctrl-C to stop
  digits predict seven.wav             one line per file
  digits train experiment=robust       one run; all settings are in conf/"""

REFUSED = {  # what users of Lightning and Hydra look for, and why it is not there
    "trainer.logger": "loggers are a group of their own: logger=csv, logger=[tensorboard,csv], logger=none",
    "trainer.callbacks": "callbacks are a group of their own: +callbacks=early_stopping adds one, ~callbacks.dashboard removes one",
    "trainer.barebones": "it trains without checkpoints and results; make bench measures the speed of a training",
    "data.num_workers": "log-mels are mapped into memory, where a batch takes less than a millisecond; workers would slow it down",
    "data.pin_memory": "batches are too small for it to matter",
}
PLUGINS = {"sweeper/optuna": "optuna", "launcher/joblib": "joblib", "launcher/submitit": "submitit", "launcher/ray": "ray"}

_CLONED, _INSTALLED = Path(__file__).parent.parent / "conf", Path(__file__).parent / "conf"
CONF = str(_INSTALLED if _INSTALLED.is_dir() else _CLONED)


def main() -> int:
    """Hand over to the subcommand that the command line names; returns the exit status."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help", "--version"):
        return _tell(f"digits {__version__}" if name == "--version" else f"{USAGE}\n{EXAMPLES}")
    if name not in COMMANDS:
        what = "option" if name.startswith("-") else "command"
        print(f"digits: there is no {what} {name}; the commands are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    sys.argv[1:] = arguments
    try:
        # as python -m does, which Lightning repeats for DDP
        runpy.run_module(f"digits.{name}", run_name="__main__", alter_sys=True)
    except KeyboardInterrupt:  # while it is still being imported
        print(f"digits {name}: interrupted", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        if (error.name or "digits").startswith("digits"):  # ours, and a bug
            raise
        print(f"digits {name}: {not_installed(error, EXTRAS[name])}", file=sys.stderr)
        return 1
    return 0


def _tell(text: str) -> int:
    try:
        print(text, flush=True)
    except OSError as error:
        return give_up_output(error, "digits")
    return 0


def not_installed(error: ModuleNotFoundError, extras: str) -> str:
    """What to do about a package that is missing."""
    return f"{error.name} is not installed: pip install '.[{extras}]' in a clone of this repository"


class Parser(argparse.ArgumentParser):
    """An argument parser that tells a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {printable(message)}; {self.prog} --help explains the arguments\n")


def split(arguments: list[str], program: str) -> tuple[list[str], list[str]]:
    """Hydra's options and the settings in a command line, which Hydra wants apart; an unknown option ends the program."""
    from hydra._internal.utils import get_args_parser

    parser = Parser(prog=program, add_help=False, parents=[get_args_parser()])
    if "--version" in arguments:
        parser.exit(0, f"digits {__version__}\n")
    settings: list[str] = parser.parse_intermixed_args(arguments).overrides
    options = arguments.copy()
    for setting in settings:
        options.remove(setting)
    return options, settings


def refuse_multirun(program: str) -> None:
    """End a program that was asked for a multirun, which only ``digits train`` does."""
    if {"-m", "--multirun"} & set(sys.argv[1:]):
        sys.exit(f"{program}: -m and --multirun are only for digits train")


def run(job: Callable[[], object], program: str, complete: Callable[[list[str]], list[str]] = list) -> None:
    """Run a Hydra program; a user's mistake ends it in one line.

    Args:
        job: the decorated function.
        program: its name, for messages.
        complete: changes the settings of the command line before Hydra sees them.

    ``HYDRA_FULL_ERROR=1`` shows the traceback of a mistake too. Bugs always show theirs.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    show_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # otherwise Hydra prints its own shortened traceback and exits
    try:
        options, settings = split(sys.argv[1:], program)
        sys.argv[1:] = options + complete(settings)
        with contextlib.redirect_stderr(_WithoutHydrasLine(sys.stderr)):
            job()
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        sys.exit(130)
    except (HydraException, OmegaConfBaseException, ValueError, OSError) as error:
        if isinstance(error, OSError) and is_of_output(error):
            sys.exit(give_up_output(error, program))
        if show_traceback:
            raise
        sys.exit(f"{program}: {printable(explain(error))}")


def printable(text: str) -> str:
    """Text whose control characters, which could command a terminal, are shown as escapes."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda match: repr(match[0])[1:-1], text)


def is_of_output(error: OSError) -> bool:
    """Whether the error says that stdout cannot be written: its reader has gone, or the disk it goes to is full."""
    return isinstance(error, BrokenPipeError) or (error.errno == errno.ENOSPC and error.filename is None)


def give_up_output(error: OSError, program: str) -> int:
    """Say what is wrong, unless the reader has gone, and return the exit status.

    What is still to be written is discarded; otherwise Python would try once more at its end, and complain.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return 128 + 13  # SIGPIPE
    print(f"{program}: the output cannot be written: {error.strerror}", file=sys.stderr)
    return 1


class _WithoutHydrasLine:
    """A stream without the line that Hydra adds when an error leaves a job: mistakes are told once, by :func:`run`."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return len(text) if text.startswith("Error executing job with overrides: ") else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def explain(error: BaseException) -> str:
    """The message of the original error on one line; Hydra wraps what a constructor raises."""
    from hydra.errors import HydraException, MissingConfigException, OverrideParseException
    from omegaconf.errors import ConfigAttributeError, ConfigKeyError

    if isinstance(error, OverrideParseException):
        return _explain_grammar(error.override)
    if isinstance(error, MissingConfigException):
        for plugin, extra in PLUGINS.items():
            if (error.missing_cfg_file or "").startswith(f"hydra/{plugin}"):
                return f"hydra/{plugin} is not installed: pip install '.[{extra}]' in a clone of this repository"
    while isinstance(error, HydraException) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, ConfigKeyError | ConfigAttributeError) and error.full_key:
        name = str(error.full_key)
        if name in REFUSED:
            return f"there is no setting {name}: {REFUSED[name]}"
        hint = f"; +{name}= adds one of Lightning's Trainer arguments" if name.startswith("trainer.") else ""
        return f"there is no setting {name}{hint}"
    return " ".join(str(error).split())


def _explain_grammar(override: str) -> str:
    """What is wrong with an argument that Hydra cannot parse."""
    name, is_setting, value = override.partition("=")
    if not is_setting:
        return f"{override} is not a setting: give settings as NAME=VALUE"
    text = quoted(value.strip("'\""))
    return f'cannot read {override}: spaces, brackets and other special characters need two pairs of quotes, "{name}={text}"'


def quoted(text: str) -> str:
    """A string in Hydra's grammar: backslashes count only before a quote, and before OmegaConf's ``${``."""
    text = f"./{text}" if text == "???" else text  # OmegaConf's missing value
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    text = re.sub(r"(\\*)'", r"\1\1\\'", text)
    return "'" + re.sub(r"(\\+)$", r"\1\1", text) + "'"
