from collections.abc import Callable
from pathlib import Path

import pytest
from support import Outcome, compose_config

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
        (["out=x.onnx", "root=/nowhere"], "digits export: /nowhere: no such folder"),
        (["out=x.onnx", "clip=10"], "digits export: there is no setting clip\n"),
    ],
)
def test_mistakes_end_in_one_line(arguments: list[str], message: str, command: Callable[..., Outcome]) -> None:
    done = command("export", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
