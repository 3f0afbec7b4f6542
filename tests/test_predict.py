import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import Outcome, shell

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
    assert rows[0] == ["path", "digit", "probability", "accepted"]
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
    assert f"digits predict: {tmp_path}: no recordings in this folder (.wav, .flac, .ogg, .mp3)" in output.err.splitlines()
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
    assert capsys.readouterr().err == "digits predict: threshold must be a number from 0 to 1, got 1.5\n"


def test_the_default_model_is_the_best_run_in_outputs(
    tiny_checkpoint: Path, tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tiny_checkpoint.parent.parent.parent)
    assert predict.main([str(tiny_corpus / "5_bob_1.wav")]) == 0
    output = capsys.readouterr()
    assert output.out.count("\n") == 1
    assert output.out.startswith(f"{tiny_corpus / '5_bob_1.wav'}: 5  ")
    note = "your own run; --ckpt-path pretrained is made for other people's voices"
    assert output.err == f"model: outputs/tiny/best.ckpt ({note})\n"


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
    missing = f"import sys; sys.modules.update(dict.fromkeys({heavy})); from digits import predict; "
    missing += f"sys.exit(predict.main(['--ckpt-path=x.ckpt', {str(clip)!r}]))"
    done = subprocess.run([sys.executable, "-c", missing], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert done.stderr == f"digits predict: x.ckpt: {NEEDS_TORCH}\n"
