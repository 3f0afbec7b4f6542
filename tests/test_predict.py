import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest
import soundfile
from support import REPOSITORY, Outcome, sequence, shell, spoken

from digits import audio, predict
from digits.recognition.model_files import NEEDS_TORCH
from digits.recognition.recognizer import Recognizer


def test_csv_has_a_row_a_file_in_order_and_errors_go_to_stderr(
    tiny_checkpoint: Path, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = [str(tiny_corpus / f"{digit}_ann_{take}.wav") for digit, take in ((3, 0), (1, 4), (9, 2))]
    bad = tmp_path / "bad, really.wav"
    bad.write_bytes(b"noise")
    files = [good[0], str(bad), good[1], str(tmp_path / "missing.wav"), good[2]]
    assert predict.main([*files, "--csv", f"--ckpt-path={tiny_checkpoint}"]) == 1
    output = capsys.readouterr()
    rows = list(csv.reader(io.StringIO(output.out)))
    assert rows[0] == ["path", "digit", "probability", "accepted", "start_s"]
    assert {row[4] for row in rows[1:]} == {""}
    assert [row[0] for row in rows[1:]] == good
    assert all(0 < float(row[2]) <= 1 for row in rows[1:])
    errors = [line for line in output.err.splitlines() if line.startswith("digits predict: ")]
    assert len(errors) == 2
    assert "bad, really.wav" in errors[0]
    assert "missing.wav: no such file" in errors[1]


def test_a_folder_is_all_of_its_recordings(
    tiny_checkpoint: Path, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("b.wav", "inner/a.wav", ".hidden.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((tiny_corpus / "5_bob_1.wav").read_bytes())
    (tmp_path / "notes.txt").write_text("not a recording")
    assert predict.main([str(tmp_path), f"--ckpt-path={tiny_checkpoint}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [str(tmp_path / "b.wav"), str(tmp_path / "inner" / "a.wav")]
    assert all(": 5  " in line for line in lines)


def test_a_folder_without_recordings_is_an_error_and_the_others_go_on(
    tiny_checkpoint: Path, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = tiny_corpus / "5_bob_1.wav"
    assert predict.main([str(tmp_path), str(clip), f"--ckpt-path={tiny_checkpoint}"]) == 1
    output = capsys.readouterr()
    assert f"digits predict: {tmp_path}: no recordings in this folder ({', '.join(audio.FILE_SUFFIXES)})" in output.err.splitlines()
    assert output.out.startswith(f"{clip}: 5  ")


def test_standard_input_is_a_recording_like_any_other(
    tiny_checkpoint: Path, tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = tiny_corpus / "5_bob_1.wav"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(clip.read_bytes())))
    assert predict.main(["-", str(clip), f"--ckpt-path={tiny_checkpoint}"]) == 0
    from_stdin, from_file = capsys.readouterr().out.splitlines()
    assert from_stdin.removeprefix("<stdin>") == from_file.removeprefix(str(clip))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"noise")))
    assert predict.main(["-", f"--ckpt-path={tiny_checkpoint}"]) == 1
    assert "digits predict: <stdin>: not readable as audio" in capsys.readouterr().err


def test_json_holds_everything_that_is_known_of_a_recording(
    plain_model: Path, tiny_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = [str(tiny_corpus / name) for name in ("5_bob_1.wav", "3_ann_2.wav")]
    assert predict.main([*clips, "--json", "--threshold=1", f"--ckpt-path={plain_model}"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["path"] for row in found] == clips
    for row, clip in zip(found, clips, strict=True):
        prediction = Recognizer.load(plain_model, 1.0)(*audio.read(clip))
        assert (row["digit"], row["probability"]) == (prediction.digit, prediction.probability)
        assert tuple(row["probabilities"]) == prediction.probabilities
        assert (row["accepted"], row["reason"]) == (False, "not sure")


def test_the_threshold_decides_what_is_accepted(plain_model: Path, tiny_corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip, model = str(tiny_corpus / "5_bob_1.wav"), f"--ckpt-path={plain_model}"
    for threshold, accepted in (("0", True), ("1", False)):
        assert predict.main([clip, model, f"--threshold={threshold}"]) == 0
        assert capsys.readouterr().out.endswith("not sure\n") != accepted
    assert predict.main([clip, model, "--threshold=1.5"]) == 1
    assert capsys.readouterr().err == "digits predict: threshold must be strict, balanced, eager or a number from 0 to 1, got 1.5\n"


def test_the_default_model_is_the_best_run_in_outputs(
    tiny_checkpoint: Path, tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tiny_checkpoint.parent.parent.parent)
    assert predict.main([str(tiny_corpus / "5_bob_1.wav")]) == 0
    output = capsys.readouterr()
    assert output.out.count("\n") == 1
    assert output.out.startswith(f"{tiny_corpus / '5_bob_1.wav'}: 5  ")
    assert output.err.startswith("model: outputs/tiny/best.ckpt (your own run")
    assert "--ckpt-path pretrained" in output.err
    assert output.err.count("\n") == 1


def test_without_a_run_the_pretrained_model_answers_and_is_named(tmp_path: Path, tiny_corpus: Path) -> None:
    clip = tiny_corpus / "5_bob_1.wav"
    done = shell("predict", str(clip), cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith(f"{clip}: ")
    assert done.stderr == "model: pretrained (no finished run in outputs)\n"


def test_the_pretrained_model_can_be_named(tiny_corpus: Path, command: Callable[..., Outcome]) -> None:
    clip = tiny_corpus / "5_bob_1.wav"
    done = command("predict", "--csv", "--ckpt-path=pretrained", str(clip))
    assert str(clip) in done.stdout
    assert done.stderr == "model: pretrained\n"


def test_the_pretrained_model_needs_neither_torch_nor_lightning(tmp_path: Path, tiny_corpus: Path) -> None:
    clip = tiny_corpus / "5_bob_1.wav"
    heavy = ["torch", "torchaudio", "lightning", "torchmetrics", "tensorboard", "scipy", "sklearn", "matplotlib", "platformdirs"]
    programs = {
        "predict": f"predict.main(['--ckpt-path=pretrained', {str(clip)!r}])",
        "mic": f"sys.argv[1:] = ['input={clip}', 'ckpt_path=pretrained']; mic.main()",
    }
    for program, call in programs.items():
        code = f"import sys; sys.modules.update(dict.fromkeys({heavy})); from digits import {program}; {call}"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stderr
        assert "pretrained" in done.stderr
    (tmp_path / "x.ckpt").touch()
    missing = f"import sys; sys.modules.update(dict.fromkeys({heavy})); from digits import predict; "
    missing += f"sys.exit(predict.main(['--ckpt-path=x.ckpt', {str(clip)!r}]))"
    done = subprocess.run([sys.executable, "-c", missing], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert done.stderr == f"digits predict: x.ckpt: {NEEDS_TORCH}\n"


def test_a_folder_of_labelled_recordings_gives_a_score(
    plain_model: Path, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two right, one wrong (a five called seven), one other sound taken for a digit and one that is not."""
    recognizer = Recognizer.load(plain_model)
    for name, clip in (("5_ann_0", "5_ann_0"), ("7_bob_0", "5_bob_1"), ("3_bob_1", "3_bob_1"), ("none_bob_2", "4_ann_0")):
        (tmp_path / f"{name}.wav").write_bytes((tiny_corpus / f"{clip}.wav").read_bytes())
    assert predict.main(["--score", str(tmp_path), f"--ckpt-path={plain_model}", "--threshold=0"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "right     66.7% (2 of 3; 95 % interval 20.8 to 93.9)",
        "          75.0% in the mean over 2 speakers",
        "accepted  100.0% (3 of 3; 95 % interval 43.9 to 100.0); 1 of them wrong",
        "other sounds taken for a digit  100.0% (1 of 1; 95 % interval 20.7 to 100.0)",
    ]
    sure = recognizer(*audio.read(tmp_path / "5_ann_0.wav")).probability
    assert predict.main(["--score", str(tmp_path), f"--ckpt-path={plain_model}", "--threshold=1"]) == 0
    assert ("accepted  0.0% (0 of 3" in capsys.readouterr().out) == (sure < 1)
    once = ["--score", f"--ckpt-path={plain_model}", "--threshold=0", str(tmp_path)]
    assert predict.main([*once, str(tmp_path), str(tmp_path / ".")]) == 0  # a recording counts once, however often it is named
    assert "right     66.7% (2 of 3;" in capsys.readouterr().out
    (tmp_path / "8_bob_9.wav").write_bytes(b"noise")
    (tmp_path / "8_bob_8.wav").symlink_to("gone.wav")
    assert predict.main(["--score", str(tmp_path), f"--ckpt-path={plain_model}"]) == 1
    output = capsys.readouterr()
    assert "8_bob_9.wav: not readable as audio" in output.err
    assert "8_bob_8.wav: no such file" in output.err
    assert "(2 of 3;" in output.out


def test_a_score_needs_labels(plain_model: Path, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "hello.wav").write_bytes((tiny_corpus / "5_bob_1.wav").read_bytes())
    assert predict.main(["--score", str(tmp_path), f"--ckpt-path={plain_model}"]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert "hello.wav: a recording must be named {digit}_{speaker}_{n}, like 7_george_0.wav" in output.err


def test_names_cannot_command_the_terminal(
    plain_model: Path, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("red\x1b[31m.wav", "two\nlines.wav"):
        (tmp_path / name).write_bytes((tiny_corpus / "5_bob_1.wav").read_bytes())
    (tmp_path / "bad\x9b2J.wav").write_bytes(b"noise")
    assert predict.main([str(tmp_path), f"--ckpt-path={plain_model}"]) == 1
    output = capsys.readouterr()
    assert [line.split("/")[-1].split(":")[0] for line in output.out.splitlines()] == ["red\\x1b[31m.wav", "two\\nlines.wav"]
    assert "bad\\x9b2J.wav: not readable as audio" in output.err
    assert "\x9b" not in output.err
    assert predict.main([str(tmp_path / "two\nlines.wav"), "--csv", f"--ckpt-path={plain_model}"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["path"] == str(tmp_path / "two\nlines.wav")


WORDS = [3, 1, 4, 5, 9, 2, 6, 8, 7, 0]


def test_every_word_of_a_longer_recording_is_found(
    exported_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, model = str(sequence(tmp_path / "words.wav", WORDS)), f"--ckpt-path={exported_model}"
    assert predict.main([path, model, "--threshold=0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.removeprefix(f"{path}: ")[0] for line in lines] == [str(word) for word in WORDS]
    assert re.fullmatch(r"3  \d\d\.\d%  at 1\.\d\d s", lines[0].removeprefix(f"{path}: "))
    assert predict.main([path, model, "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [int(row["digit"]) for row in rows] == WORDS
    assert [f"at {float(row['start_s']):.2f} s" for row in rows] == [line.split("  ")[-1] for line in lines]
    assert predict.main([path, model, "--json", "--threshold=1"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["digit"], one["accepted"], one["reason"]) for one in found] == [(word, False, "not sure") for word in WORDS]
    assert all(0.1 < one["end_s"] - one["start_s"] < 0.5 and len(one["probabilities"]) == 10 for one in found)


def test_sounds_that_cannot_be_words_and_silence_are_said(
    exported_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = 2e-4 * numpy.random.default_rng(0).standard_normal(5 * 8000)
    quiet, click, model = tmp_path / "quiet.wav", tmp_path / "click.wav", f"--ckpt-path={exported_model}"
    soundfile.write(quiet, noise, 8000)
    noise[16_000] = 1.0
    soundfile.write(click, noise, 8000)
    assert predict.main([str(quiet), str(click), model]) == 0
    assert capsys.readouterr().out == f"{quiet}: nothing was heard\n{click}: -  at 1.99 s  too short\n"
    assert predict.main([str(quiet), str(click), "--csv", model]) == 0
    output = capsys.readouterr()
    assert output.out.splitlines()[1:] == [f"{click},,,False,1.990"]
    assert output.err.endswith(f"{quiet}: nothing was heard\n")
    assert predict.main([str(click), "--json", model]) == 0
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (row["digit"], row["probabilities"], row["reason"], row["start_s"]) == (None, None, "too short", 1.99)


def write_long(path: Path, minutes: int) -> Path:
    """A three every ten seconds, at 16 kHz."""
    rate = 16_000
    word = audio.resample(spoken(3, 0, 50), 8000, rate)
    part = 2e-4 * numpy.random.default_rng(0).standard_normal(10 * rate)
    part[5 * rate : 5 * rate + len(word)] += word
    with soundfile.SoundFile(path, "w", rate, 1) as file:
        for _ in range(6 * minutes):
            file.write(part)
    return path


@pytest.mark.parametrize("minutes", [2, pytest.param(60, marks=pytest.mark.slow)])
@pytest.mark.parametrize("command", ["predict", "mic"])
def test_a_long_recording_is_heard_to_its_end_in_little_memory(
    exported_model: Path, tmp_path: Path, minutes: int, command: str
) -> None:
    paths = [str(sequence(tmp_path / "short.wav", [3, 3])), str(write_long(tmp_path / "long.wav", minutes))]
    call = {
        "predict": f"predict.main([path, '--json', '--ckpt-path={exported_model}'])",
        "mic": f"sys.argv[1:] = ['input=' + path, 'ckpt_path={exported_model}', 'output=jsonl']; mic.main()",
    }[command]
    code = f"""
import resource, sys
from digits import {command}
for path in {paths}:
    {call}
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    before, after = (int(line.split()[1]) for line in lines if line.startswith("peak"))
    assert after - before < 40  # MB; the samples of an hour are 230
    found = [json.loads(line) for line in lines[3:-1]]
    assert len(found) == 6 * minutes
    assert {one["digit"] for one in found} == {3}
    assert abs(found[-1]["start_s"] - (60 * minutes - 4.9)) < 0.1


def test_a_long_recording_that_breaks_off_is_heard_so_far_and_said(
    exported_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    waveform, rate = audio.read(sequence(tmp_path / "words.wav", WORDS))
    waveform[-100] = numpy.nan
    soundfile.write(tmp_path / "nan.wav", waveform, rate, subtype="FLOAT")
    assert predict.main([str(tmp_path / "nan.wav"), f"--ckpt-path={exported_model}"]) == 1
    output = capsys.readouterr()
    assert output.out.count(": 3  ") == 1
    assert output.err.endswith(f"digits predict: {tmp_path / 'nan.wav'}: some samples are NaN or infinite\n")


def run_predict(model: Path, *arguments: str | bytes, output: int, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", "digits", "predict", f"--ckpt-path={model}", *arguments]
    environment = os.environ | environment
    return subprocess.run(command, stdout=output, stderr=subprocess.PIPE, cwd=REPOSITORY, env=environment, check=False)


def test_a_reader_that_leaves_ends_it_quietly(exported_model: Path, tiny_corpus: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = run_predict(exported_model, str(tiny_corpus / "5_bob_1.wav"), output=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, f"model: {exported_model}\n".encode())


def test_names_that_lead_nowhere_do_not_keep_the_others_from_being_heard(
    exported_model: Path, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = tiny_corpus / "5_bob_1.wav"
    nowhere = [300 * "x", f"{clip}/inner.wav", "", "/dev/zero"]
    assert predict.main([*nowhere, str(clip), f"--ckpt-path={exported_model}"]) == 1
    output = capsys.readouterr()
    assert output.out.startswith(f"{clip}: 5  ")
    assert output.err.splitlines()[1:] == [
        f"digits predict: {300 * 'x'}: not readable (File name too long)",
        f"digits predict: {clip}/inner.wav: no such file",
        "digits predict: an empty file name",
        "digits predict: /dev/zero: a device, not a recording",
    ]


def test_closed_streams_are_no_fault_and_nothing_lands_in_the_wrong_one(exported_model: Path, tiny_corpus: Path) -> None:
    command = f"{sys.executable} -m digits predict --ckpt-path={exported_model}"
    for closed, expected in ((f"{command} - <&-", ""), (f"{command} nowhere.wav 2>&-", "")):
        done = subprocess.run(["bash", "-c", closed], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (1, expected)
        assert "Traceback" not in done.stderr


def test_a_closed_output_is_no_fault(exported_model: Path, tiny_corpus: Path) -> None:
    arguments = f"predict --csv --ckpt-path={exported_model} {tiny_corpus / '5_bob_1.wav'}"
    command = f"{sys.executable} -m digits {arguments} >&-"
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True, cwd=REPOSITORY, check=False)
    assert (done.returncode, done.stderr) == (0, f"model: {exported_model}\n")


def test_a_full_disk_is_one_line(exported_model: Path, tiny_corpus: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = run_predict(exported_model, str(tiny_corpus / "5_bob_1.wav"), output=full.fileno())
    assert done.returncode == 1
    assert done.stderr.splitlines()[1:] == [b"digits predict: the output cannot be written: No space left on device"]


@pytest.mark.parametrize(
    ("encoding", "written"),
    [("utf-8", b"f\xfcnf \xc3\xbc.wav"), ("ascii", b"f\\udcfcnf \\xfc.wav"), ("latin-1", b"f\\udcfcnf \xfc.wav")],
)
def test_any_name_can_be_printed_in_any_encoding(
    exported_model: Path, tiny_corpus: Path, tmp_path: Path, encoding: str, written: bytes
) -> None:
    path = os.fsencode(tmp_path) + b"/f\xfcnf \xc3\xbc.wav"
    Path(os.fsdecode(path)).write_bytes((tiny_corpus / "5_bob_1.wav").read_bytes())
    done = run_predict(exported_model, path, output=subprocess.PIPE, PYTHONIOENCODING=encoding, PYTHONUTF8="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(os.fsencode(tmp_path) + b"/" + written + b": 5  ")


def test_a_pipe_is_read_like_a_file(exported_model: Path, tiny_corpus: Path) -> None:
    command = [sys.executable, "-m", "digits", "predict", f"--ckpt-path={exported_model}", "/dev/stdin"]
    sound = (tiny_corpus / "5_bob_1.wav").read_bytes()
    done = subprocess.run(command, input=sound, capture_output=True, cwd=REPOSITORY, check=False)
    assert done.stdout.startswith(b"/dev/stdin: 5  "), done.stderr


def test_files_of_a_folder_in_formats_that_cannot_be_read_are_named(
    exported_model: Path, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, memo = tmp_path / "5.wav", tmp_path / "my memo.M4A"
    clip.write_bytes((tiny_corpus / "5_bob_1.wav").read_bytes())
    memo.write_bytes(b"\0\0\0\x1cftypM4A ")
    assert predict.main([str(tmp_path), f"--ckpt-path={exported_model}"]) == 1
    output = capsys.readouterr()
    assert output.out.startswith(f"{clip}: 5  ")
    assert f"digits predict: {memo}: not readable as audio (Format not recognised)" in output.err
    assert f"ffmpeg -i '{memo}' '{tmp_path}/my memo.wav'" in output.err
