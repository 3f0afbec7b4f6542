import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Outcome, compose_config, sequence, shell

from digits import mic
from digits.live.segmenter import Segmenter
from digits.training import runs


def test_a_file_is_heard_from_the_shell(tiny_checkpoint: Path, tmp_path: Path, command: Callable[..., Outcome]) -> None:
    words = [3, 1, 4, 5, 9, 2, 6, 8, 7, 0]
    path = sequence(tmp_path / "words.wav", words)
    done = shell("mic", f"input={path}", f"ckpt_path={tiny_checkpoint}", "output=jsonl")
    assert done.returncode == 0, done.stderr
    heard = [json.loads(line) for line in done.stdout.splitlines()]
    fields = {"start_s", "end_s", "digit", "probability", "accepted", "reason", "latency_ms", "computing_ms"}
    assert [set(event) for event in heard] == [fields] * 10
    assert all(event["accepted"] and event["reason"] is None for event in heard)
    assert sum(event["digit"] == word for event, word in zip(heard, words, strict=True)) >= 9
    assert heard[0]["start_s"] == pytest.approx(1.1, abs=0.1)
    assert all(0 < event["computing_ms"] < event["latency_ms"] < 1000 for event in heard)
    assert f"model: {tiny_checkpoint}" in done.stderr
    text = command("mic", f"input={path}", f"ckpt_path={tiny_checkpoint}")
    assert len(text.stdout.splitlines()) == 11  # a heading, and a line a word
    assert "%" in text.stdout


def test_the_threshold_decides_what_is_accepted(tiny_checkpoint: Path, tmp_path: Path, command: Callable[..., Outcome]) -> None:
    path = sequence(tmp_path / "words.wav", [3, 8])
    arguments = (f"input={path}", f"ckpt_path={tiny_checkpoint}", "output=jsonl")
    for threshold, accepted in ((0, True), (1, False)):
        done = command("mic", *arguments, f"threshold={threshold}")
        assert done.returncode == 0, done.stderr
        assert [json.loads(line)["accepted"] for line in done.stdout.splitlines()] == [accepted] * 2
    for wrong in ("1.5", "high"):
        done = command("mic", *arguments, f"threshold={wrong}")
        assert (done.returncode, done.stderr) == (1, f"digits mic: threshold must be a number from 0 to 1, got {wrong}\n")


def test_the_model_that_is_chosen_is_named_and_explained(
    tiny_checkpoint: Path, tmp_path: Path, command: Callable[..., Outcome]
) -> None:
    path = sequence(tmp_path / "words.wav", [3])
    outputs = tiny_checkpoint.parent.parent
    done = command("mic", f"input={path}", f"outputs={outputs}")
    assert f"model: {tiny_checkpoint}" in done.stderr
    assert runs.OWN_MODEL in done.stderr
    done = command("mic", f"input={path}", f"outputs={tmp_path}")
    assert done.stderr.splitlines() == [f"{path}, 48000 Hz; model: pretrained", f"no finished run in {tmp_path}"]


def test_what_is_heard_can_be_recorded(tiny_checkpoint: Path, tmp_path: Path, command: Callable[..., Outcome]) -> None:
    path = sequence(tmp_path / "words.wav", [3, 8])
    command("mic", f"input={path}", f"ckpt_path={tiny_checkpoint}", f"record={tmp_path / 'mine'}", "speaker=ann")
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["3_ann_0.wav", "8_ann_1.wav"]


def test_the_config_s_segmenter_is_the_default_one() -> None:
    settings = compose_config(name="mic").segmenter
    assert vars(Segmenter(48_000, **settings)).keys() == vars(Segmenter(48_000)).keys()
    configured, default = vars(Segmenter(48_000, **settings)), vars(Segmenter(48_000))
    assert {k: v for k, v in configured.items() if isinstance(v, int | float)} == {
        k: v for k, v in default.items() if isinstance(v, int | float)
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["input=/nowhere.wav"], "/nowhere.wav: no such file"),
        (["ckpt_path=/nowhere.ckpt"], "/nowhere.ckpt: no such checkpoint"),
        (["ckpt_path=/nowhere.npz"], "/nowhere.npz: no such model"),
        (["devise=1"], "digits mic: there is no setting devise"),
        (["segmenter.onset=1"], "digits mic: there is no setting segmenter.onset"),
    ],
)
def test_mistakes_end_in_one_line(
    arguments: list[str], message: str, tiny_checkpoint: Path, command: Callable[..., Outcome]
) -> None:
    given = arguments if "kpt" in arguments[0] else [*arguments, f"ckpt_path={tiny_checkpoint}"]
    done = command("mic", *given)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seconds=long", "seconds must be a number, 0 or more, got long"),
        ("block_ms=-3", "block_ms must be a number, 0 or more, got -3"),
        ("segmenter.onset_db=true", r"segmenter\.onset_db must be a number, 0 or more, got True"),
        ("denoise=7", "denoise must be true or false, got 7"),
        ("live=maybe", "live must be true, false or auto, got maybe"),
    ],
)
def test_settings_of_a_wrong_kind_are_named(setting: str, message: str) -> None:
    mic.check(compose_config(name="mic"))
    with pytest.raises(ValueError, match=message):
        mic.check(compose_config(setting, name="mic"))
