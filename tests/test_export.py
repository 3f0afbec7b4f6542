import errno
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Outcome, compose_config, write_corpus

from digits import audio, export
from digits.recognition import onnx_export, torch_models
from digits.recognition.calibration import Calibration
from digits.recognition.recognizer import Recognizer


def test_writes_a_checked_file_and_says_so(
    plain_model: Path, tiny_corpus: Path, tmp_path: Path, command: Callable[..., Outcome]
) -> None:
    out = tmp_path / "model.onnx"
    done = command("export", f"ckpt_path={plain_model}", f"out={out}", f"root={tiny_corpus}", "clips=10")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{out}: {out.stat().st_size:,} bytes; 10 recordings differ by at most ")
    assert Recognizer.load(out)(*audio.read(tiny_corpus / "5_bob_1.wav")).digit == 5


def test_a_file_that_answers_otherwise_is_not_written(
    tiny_checkpoint: Path, exported_model: Path, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "write_graph", lambda *_: exported_model.read_bytes())
    warmer = tmp_path / "warmer.npz"
    torch_models.write_plain(warmer, tiny_checkpoint, Calibration(3.0, 0.4), None)
    cfg = compose_config(f"ckpt_path={warmer}", f"out={tmp_path / 'x.onnx'}", f"root={tiny_corpus}", "clips=5", name="export")
    with pytest.raises(ValueError, match=r"probabilities differ by .* not written"):
        export.write(cfg)
    assert not (tmp_path / "x.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["out=x.onnx", "ckpt_path=/nowhere.ckpt"], "digits export: /nowhere.ckpt: no such checkpoint"),
        (["out=x.onnx", "ckpt_path=x.onnx"], "digits export: ckpt_path must be pretrained, or a .ckpt or .npz file, got x.onnx"),
        (["out=x.onnx", "root=/nowhere"], "digits export: /nowhere: no such folder"),
        (["out=x.onnx", "clip=10"], "digits export: there is no setting clip\n"),
        (["out=x.onnx", "clips=0"], "digits export: clips must be a whole number, 1 or more, got 0"),
        (["out=/nowhere/x.onnx"], "digits export: out must be a file name that ends in .onnx, in a folder that exists"),
        ([], "digits export: out must be a file name that ends in .onnx, in a folder that exists, got nothing"),
    ],
)
def test_mistakes_end_in_one_line(arguments: list[str], message: str, command: Callable[..., Outcome]) -> None:
    done = command("export", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_a_full_disk_costs_no_good_file(
    plain_model: Path, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Outcome]
) -> None:
    def write_half(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:1000])
        raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "good.onnx"
    out.write_text("good")
    monkeypatch.setattr(Path, "write_bytes", write_half)
    done = command("export", f"ckpt_path={plain_model}", f"out={out}", f"root={tiny_corpus}", "clips=1")
    assert (done.returncode, done.stderr) == (1, f"digits export: {out}: not written (No space left on device)\n")
    assert out.read_text() == "good"
    assert [path.name for path in tmp_path.iterdir()] == ["good.onnx"]


def test_a_folder_may_be_named_by_a_number(
    plain_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Outcome]
) -> None:
    write_corpus(tmp_path / "2024", takes=1)
    monkeypatch.chdir(tmp_path)
    done = command("export", f"ckpt_path={plain_model}", "out=x.onnx", "root=2024", "clips=1")
    assert done.returncode == 0, done.stderr
