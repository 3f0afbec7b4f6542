import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import soundfile
from support import Outcome, compose_config, sequence, shell

from digits import audio, mic
from digits.live import isolation, recorder
from digits.live.prompt import WORDS
from digits.live.segmenter import Segmenter
from digits.training import runs


def test_a_file_is_heard_from_the_shell(tiny_checkpoint: Path, tmp_path: Path, command: Callable[..., Outcome]) -> None:
    words = [3, 1, 4, 5, 9, 2, 6, 8, 7, 0]
    path = sequence(tmp_path / "words.wav", words)
    done = shell("mic", f"input={path}", f"ckpt_path={tiny_checkpoint}", "output=jsonl")
    assert done.returncode == 0, done.stderr
    heard = [json.loads(line) for line in done.stdout.splitlines()]
    fields = {"start_s", "end_s", "digit", "probability", "accepted", "reason", "latency_ms", "computing_ms", "overruns", "time"}
    assert [set(event) for event in heard] == [fields] * 10
    assert all(event["accepted"] and event["reason"] is None for event in heard)
    assert sum(event["digit"] == word for event, word in zip(heard, words, strict=True)) >= 9
    assert heard[0]["start_s"] == pytest.approx(1.1, abs=0.1)
    assert all(0 < event["computing_ms"] < event["latency_ms"] < 1000 for event in heard)
    assert {event["overruns"] for event in heard} == {0}
    times = [datetime.fromisoformat(event["time"]) for event in heard]
    assert times == sorted(times)
    assert abs((datetime.now(UTC) - times[-1]).total_seconds()) < 60
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
        assert (done.returncode, done.stderr) == (
            1,
            f"digits mic: threshold must be strict, balanced, eager or a number from 0 to 1, got {wrong}\n",
        )


def test_the_model_that_is_chosen_is_named_and_explained(
    tiny_checkpoint: Path, tmp_path: Path, command: Callable[..., Outcome]
) -> None:
    path = sequence(tmp_path / "words.wav", [3])
    outputs = tiny_checkpoint.parent.parent
    done = command("mic", f"input={path}", f"outputs={outputs}")
    assert f"model: {tiny_checkpoint}" in done.stderr
    assert runs.FOR_OTHERS in done.stderr
    done = command("mic", f"input={path}", f"outputs={tmp_path}")
    assert done.stderr.splitlines() == [f"{path}, 48000 Hz; model: pretrained (no finished run in {tmp_path})"]


def test_what_is_heard_can_be_recorded(tiny_checkpoint: Path, tmp_path: Path, command: Callable[..., Outcome]) -> None:
    path = sequence(tmp_path / "words.wav", [3, 8])
    done = command("mic", f"input={path}", f"ckpt_path={tiny_checkpoint}", f"record={tmp_path / 'mine'}", "speaker=ann")
    assert f"recording to {tmp_path / 'mine'}; the digits in the names are the model's guesses" in done.stderr
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["3_ann_0.wav", "8_ann_1.wav"]


def test_digits_in_speech_are_rejected_unless_the_user_wants_them(
    tiny_checkpoint: Path, tmp_path: Path, command: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "REFUSED", 0)  # every digit counts as one in speech
    path = sequence(tmp_path / "words.wav", [3, 8])
    of_file = (f"input={path}", f"ckpt_path={tiny_checkpoint}", "output=jsonl")
    for more, reason in (((), isolation.IN_SPEECH), (("isolated=false",), None)):
        heard = [json.loads(line) for line in command("mic", *of_file, *more).stdout.splitlines()]
        assert [(event["digit"], event["reason"]) for event in heard] == [(3, reason), (8, reason)]


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
        (["ckpt_path=/nowhere.ckpt"], "/nowhere.ckpt: no such "),
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
        ("seconds=-1", "seconds must be a number, 0 or more, got -1"),
        ("block_ms=-3", "block_ms must be a number above 0, at most 1000, got -3"),
        ("block_ms=inf", "block_ms must be a number above 0, at most 1000, got inf"),
        ("block_ms=nan", "block_ms must be a number above 0, at most 1000, got nan"),
        ("block_ms=null", "block_ms must be a number above 0, at most 1000, got null"),
        ("segmenter.onset_db=true", "segmenter.onset_db must be a number from 0 to 10000, got true"),
        ("segmenter.floor_s=1e20", "segmenter.floor_s must be a number from 0 to 10000, got 1e+20"),
        ("segmenter=7", "segmenter must be changed by its parts, like segmenter.hang_ms=200, got 7"),
        ("denoise=7", "denoise must be true or false, got 7"),
        ("list_devices=null", "list_devices must be true or false, got null"),
        ("live=maybe", "live must be true, false or auto, got maybe"),
        ("live=1", "live must be true, false or auto, got 1"),
        ("input=7", "input must be the name of a file, which can also stand alone: digits mic FILE, got 7"),
        ("input=true", "input must be the name of a file, which can also stand alone: digits mic FILE, got true"),
        ("input=''", "input must be the name of a file, which can also stand alone: digits mic FILE, got nothing"),
        ("ckpt_path=7", "ckpt_path must be pretrained or the name of a model file, got 7"),
        ("outputs=null", "outputs must be the name of a folder, got null"),
        ("prefer=live", "prefer must be a list of experiments, like [live,robust], got live"),
        ("device=true", "device must be the number of a microphone or part of its name, got true"),
        ("device=1.5", "device must be the number of a microphone or part of its name, got 1.5"),
        ("record=7", "record must be the name of a folder, got 7"),
        ("record=true", "record must be the name of a folder, got true"),
        ("speaker=null", "speaker must be letters and digits, got null"),
        ("prompt=yes please", "prompt must be true or false, got yes please"),
        ("prompt=true", "prompt=true needs record=FOLDER, the folder for the recordings"),
        ("rounds=0", "rounds must be a whole number, 1 or more, got 0"),
    ],
)
def test_settings_of_a_wrong_kind_are_named(setting: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        mic.check(compose_config(setting, name="mic"))


@pytest.mark.parametrize("setting", ["seconds=0", "live=true", "device=2", "speaker=7", "record='7'", "prefer=[]", "block_ms=0.5"])
def test_settings_of_the_right_kind_are_taken(setting: str) -> None:
    mic.check(compose_config(setting, name="mic"))


NAMES = [
    "7",
    "null",
    "???",
    "a [b], c=d & ü.wav",
    "it's.wav",
    "x\\'y=z.wav",
    "a${b}\\${c}.wav",
    "\\",
    "~x.wav",
    "{a: 1}",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_any_name_can_stand_alone(
    name: str, exported_model: Path, tmp_path: Path, command: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sequence(tmp_path / "words.wav", [3]).rename(tmp_path / name)
    done = command("mic", f"ckpt_path={exported_model}", name, "threshold=0")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2


def test_a_name_that_is_no_text_can_stand_alone(exported_model: Path, tmp_path: Path) -> None:
    path = sequence(tmp_path / "words.wav", [3]).rename(tmp_path / "f\udcfcnf.wav")
    done = shell("mic", str(path), f"ckpt_path={exported_model}")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2


def test_a_file_alone_is_the_first_argument_that_is_no_setting() -> None:
    assert mic.with_file_as_setting(["output=jsonl", "a.wav"]) == ["output=jsonl", "input='a.wav'"]
    for given in ([], ["~segmenter", "output=jsonl"], ["ckpt_path=" + 300 * "x"], ["input=a.wav"]):
        assert mic.with_file_as_setting(given) == given


@pytest.mark.parametrize("other", ["b.wav", "input=b.wav"])
def test_a_second_recording_is_not_dropped_in_silence(other: str, command: Callable[..., Outcome]) -> None:
    done = command("mic", "a.wav", other)
    said = f"digits mic: one recording at a time, got a.wav and {other}; digits predict takes several\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_a_file_alone_that_is_missing_is_named(exported_model: Path, command: Callable[..., Outcome]) -> None:
    done = command("mic", "no where.wav", f"ckpt_path={exported_model}")
    assert (done.returncode, done.stderr) == (1, "digits mic: no where.wav: no such file\n")


@pytest.mark.parametrize(
    ("closed", "status", "message"),
    [(True, 141, ""), (False, 1, "digits mic: the output cannot be written: No space left on device")],
)
def test_an_output_that_takes_nothing_ends_it(
    closed: bool, status: int, message: str, exported_model: Path, tmp_path: Path
) -> None:
    path = sequence(tmp_path / "words.wav", [3])
    reading, writing = os.pipe()
    os.close(reading)
    output = writing if closed else os.open("/dev/full", os.O_WRONLY)
    command = [sys.executable, "-m", "digits", "mic", str(path), f"ckpt_path={exported_model}"]
    done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False)
    assert done.returncode == status
    assert done.stderr.splitlines()[1:] == message.splitlines()


def test_a_prompted_session_records_what_was_asked_for(
    exported_model: Path, tmp_path: Path, command: Callable[..., Outcome]
) -> None:
    words, _ = audio.read(sequence(tmp_path / "words.wav", [0] * 22))
    words[audio.SAMPLE_RATE // 2] = 1.0  # a click comes first
    soundfile.write(tmp_path / "words.wav", words, audio.SAMPLE_RATE)
    done = command(
        "mic", str(tmp_path / "words.wav"), f"ckpt_path={exported_model}", f"record={tmp_path / 'mine'}", "prompt=true", "rounds=2"
    )
    assert done.returncode == 0, done.stderr
    asked = re.findall(r"^(.*)say (\w+) \((\d+) of 20\)$", done.stderr, re.MULTILINE)
    assert asked[1] == ("that was too short; again, ", asked[0][1], "1")
    assert [int(number) for _, _, number in asked[1:]] == list(range(1, 21))
    digits = [WORDS.index(word) for _, word, _ in asked[1:]]
    assert sorted(digits[:10]) == sorted(digits[10:]) == list(range(10))
    assert digits[:10] != digits[10:]  # once in 3,628,800 sessions they are
    saved = sorted((tmp_path / "mine").iterdir(), key=lambda path: int(path.stem.split("_")[-1]))
    assert [path.name for path in saved] == [f"{digit}_me_{number}.wav" for number, digit in enumerate(digits)]
    assert not (tmp_path / "mine_rejected").exists()
    assert done.stderr.endswith("20 of 20 words recorded\n")
    assert len(done.stdout.splitlines()) == 22  # a heading, the click and the words: then it ended


def test_a_prompted_session_says_how_far_it_came(exported_model: Path, tmp_path: Path, command: Callable[..., Outcome]) -> None:
    path, folder = sequence(tmp_path / "words.wav", [3, 8]), tmp_path / "mine"
    done = command("mic", str(path), f"ckpt_path={exported_model}", f"record={folder}", "prompt=true")
    assert done.stderr.endswith("2 of 30 words recorded\n")
    assert "guesses" not in done.stderr
    assert len(list(folder.iterdir())) == 2


def test_a_multirun_is_refused(command: Callable[..., Outcome]) -> None:
    done = command("mic", "-m", "block_ms=1,2")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "digits mic: -m and --multirun are only for digits train\n"


def test_a_recording_that_is_not_complete_ends_with_status_1_after_all_was_heard(
    exported_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Outcome]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = sequence(tmp_path / "words.wav", [3, 8, 1])
    monkeypatch.setattr(recorder, "write_whole", full)
    done = command("mic", str(path), f"ckpt_path={exported_model}", "output=jsonl", f"record={tmp_path / 'mine'}")
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 3)
    assert done.stderr.splitlines()[-1] == f"digits mic: {tmp_path / 'mine'}: not everything that was heard could be recorded"
