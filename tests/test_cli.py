import importlib
import inspect
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError
from support import Outcome, module_of, shell

from digits import cli


def test_help_lists_every_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"], ["-h"]):
        monkeypatch.setattr(sys, "argv", ["digits", *arguments])
        assert cli.main() == 0
        help_text = capsys.readouterr().out
        assert help_text.startswith("usage: digits COMMAND")
        listed = [line.split()[0] for line in help_text.splitlines() if line.startswith("  ") and not line.startswith("  digits")]
        assert listed == list(cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_is_a_module_with_a_main(name: str) -> None:
    main = importlib.import_module(module_of(name)).main
    assert all(parameter.default is not inspect.Parameter.empty for parameter in inspect.signature(main).parameters.values())


@pytest.mark.parametrize(("argument", "what"), [("listen", "command"), ("--loud", "option")])
def test_an_unknown_command_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argument: str, what: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["digits", argument])
    assert cli.main() == 2
    expected = f"digits: there is no {what} {argument}; the commands are train, mic, web, enroll, predict, export, calibrate\n"
    assert capsys.readouterr().err == expected


def test_the_version_is_that_of_the_package(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["digits", "--version"])
    assert cli.main() == 0
    assert capsys.readouterr().out == f"digits {version('digits')}\n"


def test_the_command_and_the_module_hand_over_arguments_and_status() -> None:
    assert shell("listen").returncode == 2
    done = shell("predict", "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: digits predict")
    assert shell("predict").returncode == 2  # argparse's status for missing arguments


def test_every_hydra_command_explains_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = {
        name: subprocess.Popen([sys.executable, "-m", "digits", name, "--help"], stdout=subprocess.PIPE, text=True, env=os.environ)
        for name in ("mic", "export")
    }
    for name, process in processes.items():
        output, _ = process.communicate()
        assert process.returncode == 0
        assert output.startswith(f"digits {name}: ")


def test_an_output_that_takes_nothing_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "digits", "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (1, "digits: the output cannot be written: No space left on device\n")


def test_options_and_settings_may_come_in_any_order() -> None:
    assert cli.split(["a=1", "--cfg", "job", "b=2", "-m"], "x") == (["--cfg", "job", "-m"], ["a=1", "b=2"])


@pytest.mark.parametrize("arguments", [["--loud"], ["--cfg", "songs"], ["a=1", "-z", "b=2"]])
def test_an_unknown_option_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.split(arguments, "digits x")
    errors = capsys.readouterr().err
    assert errors.startswith("digits x: ")
    assert errors.endswith("; digits x --help explains the arguments\n")
    assert errors.count("\n") == 1


def test_control_characters_are_shown_and_other_letters_stay() -> None:
    assert cli.printable("a\x1b[2Jb\x00\x9b\r") == "a\\x1b[2Jb\\x00\\x9b\\r"
    assert cli.printable("hörbar, 七 \udcfc") == "hörbar, 七 \udcfc"


def fail_with(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("no\nsuch  thing"), "digits x: no such thing"),
        (OSError("disk full"), "digits x: disk full"),
        (KeyboardInterrupt(), 130),
    ],
)
def test_a_mistake_ends_in_one_line(monkeypatch: pytest.MonkeyPatch, error: BaseException, status: object) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setattr(sys, "argv", ["digits x"])
    with pytest.raises(SystemExit) as end:
        cli.run(lambda: fail_with(error), "digits x")
    assert end.value.code == status


def test_faults_of_ours_and_asked_for_tracebacks_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setattr(sys, "argv", ["digits x"])
    with pytest.raises(ZeroDivisionError):
        cli.run(lambda: fail_with(ZeroDivisionError()), "digits x")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ValueError, match="mine"):
        cli.run(lambda: fail_with(ValueError("mine")), "digits x")


def test_the_message_is_that_of_the_original_error() -> None:
    try:
        raise InstantiationException("Error in call to target") from ValueError("model.dropout must lie in [0, 1), got 2")
    except InstantiationException as error:
        assert cli.explain(error) == "model.dropout must lie in [0, 1), got 2"


def test_a_setting_that_does_not_exist_is_named() -> None:
    cfg = OmegaConf.create({"trainer": {}, "model": {}})
    OmegaConf.set_struct(cfg, True)
    for group, hint in (("model", ""), ("trainer", "; +trainer.xyz= adds one of Lightning's Trainer arguments")):
        with pytest.raises(ConfigAttributeError) as caught:
            cfg[group].xyz = 1
        assert cli.explain(caught.value) == f"there is no setting {group}.xyz{hint}"


def test_every_command_has_its_extras() -> None:
    assert set(cli.EXTRAS) == set(cli.COMMANDS)


@pytest.mark.parametrize(
    ("command_line", "packages", "message"),
    [
        (["digits", "train"], "lightning torch", "digits train: .* is not installed: pip install '.\\[train\\]'"),
        (
            ["digits", "export", "out=x.onnx"],
            "torch",
            "digits export: torch is not installed: pip install '.\\[live,train,export\\]'",
        ),
    ],
)
def test_a_missing_extra_is_named(command_line: list[str], packages: str, message: str, tmp_path: Path) -> None:
    code = f"import sys; sys.modules |= dict.fromkeys({packages.split()}); sys.argv = {command_line}; from digits import cli; "
    done = subprocess.run(
        [sys.executable, "-c", f"{code} sys.exit(cli.main())"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 1
    assert re.fullmatch(f"{message} in a clone of this repository\n", done.stderr)


def test_a_module_of_ours_that_is_missing_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["digits", "train"])
    monkeypatch.setattr("runpy.run_module", lambda *_, **__: importlib.import_module("digits.nothing"))
    with pytest.raises(ModuleNotFoundError, match=r"digits\.nothing"):
        cli.main()


def test_a_mistake_in_a_job_is_told_once(tmp_path: Path, command: Callable[..., Outcome]) -> None:
    done = command("export", f"out={tmp_path / 'x.bin'}")
    assert done.returncode == 1
    assert done.stderr.startswith("digits export: out must be a file name that ends in .onnx")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("value", ["/my [folder]", "/hörbar", "/you&me", "/a=b", "/it's", "/my folder {2}"])
def test_how_to_quote_is_said_and_right(value: str) -> None:
    def parse(override: str) -> str:
        with initialize_config_dir(cli.CONF, version_base="1.3"):
            return compose("export", overrides=["out=x", override]).root

    with pytest.raises(OverrideParseException) as caught:
        parse(f"root={value}")
    said = cli.explain(caught.value)
    assert said.startswith(f"cannot read root={value}: ")
    (as_the_shell_reads_it,) = shlex.split(said[said.index('"') :])
    assert parse(as_the_shell_reads_it) == value


def test_an_argument_without_a_value_is_named() -> None:
    with initialize_config_dir(cli.CONF, version_base="1.3"), pytest.raises(OverrideParseException) as caught:
        compose("export", overrides=["smoke"])
    assert cli.explain(caught.value) == "smoke is not a setting: give settings as NAME=VALUE"
