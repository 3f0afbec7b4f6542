import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy
import onnxruntime
import pytest
import torch
from conftest import compose_config

from digits import audio, export, results, weights
from digits.calibration import Calibration
from digits.recognizer import Recognizer

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def exported(plain_model: Path) -> Path:
    path = plain_model.with_suffix(".onnx")
    path.write_bytes(export.export(weights.load(plain_model), plain_model.name))
    return path


def test_an_exported_file_hears_what_its_model_does(plain_model: Path, exported: Path, tiny_corpus: Path) -> None:
    before, after = Recognizer.load(plain_model), Recognizer.load(exported)
    for clip in sorted(tiny_corpus.iterdir())[::17]:
        sound = audio.read(clip)
        one, other = before(*sound), after(*sound)
        assert one.digit == other.digit
        assert one.accepted == other.accepted
        torch.testing.assert_close(torch.tensor(one.probabilities), torch.tensor(other.probabilities), atol=1e-5, rtol=0)


def test_it_runs_without_this_package_on_batches_of_any_size(exported: Path) -> None:
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["labels"]) == list(range(10))
    assert json.loads(metadata["calibration"]) == {"temperature": 1.5, "threshold": 0.4}
    assert json.loads(metadata["origin"]) == "tiny.npz"
    front_end = json.loads(metadata["front_end"])
    length = round(front_end["window_s"] * front_end["sample_rate"])
    windows = numpy.random.default_rng(0).standard_normal((5, length)).astype("float32")
    (together,) = session.run(None, {"waveform": windows})
    assert together.shape == (5, 10)
    numpy.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-5)
    for window, probabilities in zip(windows, together, strict=True):
        numpy.testing.assert_allclose(session.run(None, {"waveform": window[None]})[0][0], probabilities, atol=1e-5)


def test_a_model_that_knows_other_sounds_keeps_them_through_every_file(
    tiny_checkpoint: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    content = torch.load(tiny_checkpoint, weights_only=True)
    content["hyper_parameters"]["network"]["n_outputs"] = 11
    weight, bias = (content["state_dict"][f"network.head.1.{name}"] for name in ("weight", "bias"))
    content["state_dict"]["network.head.1.weight"] = torch.cat([weight, torch.zeros(1, weight.shape[1])])
    content["state_dict"]["network.head.1.bias"] = torch.cat([bias, torch.tensor([1.0])])
    torch.save(content, tmp_path / "eleven.ckpt")
    weights.write(tmp_path / "eleven.npz", tmp_path / "eleven.ckpt", Calibration(1.0, 0.0))
    (tmp_path / "eleven.onnx").write_bytes(export.export(weights.load(tmp_path / "eleven.npz"), "eleven"))
    sound = audio.read(tiny_corpus / "5_bob_1.wav")
    ten = Recognizer.load(tiny_checkpoint)(*sound)
    heard = [Recognizer.load(tmp_path / f"eleven.{kind}")(*sound) for kind in ("ckpt", "npz", "onnx")]
    for prediction in heard:
        numpy.testing.assert_allclose(prediction.probabilities, heard[0].probabilities, atol=1e-5)
    digits = numpy.array(heard[0].probabilities)
    assert len(digits) == 10
    assert 0.001 < 1 - digits.sum() < 0.999
    numpy.testing.assert_allclose(digits / digits.sum(), ten.probabilities, atol=1e-4)
    with pytest.raises(ValueError, match="with and without an output for no digit"):
        weights.held_out(mixed_runs(tiny_checkpoint.parent, tmp_path / "runs"))


def mixed_runs(run: Path, folder: Path) -> Path:
    for name in ("ten", "eleven"):
        shutil.copytree(run, folder / name)
    path = folder / "eleven" / "predictions.csv"
    rows = results.read_predictions(path.parent)
    results.write_predictions(path, [row | {"logits": [*row["logits"], 0.0]} for row in rows])
    return folder


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "foreign"])
def test_damaged_and_foreign_files_are_refused_in_one_sentence(exported: Path, tmp_path: Path, damage: str) -> None:
    import onnx

    content = exported.read_bytes()
    foreign = onnx.load_from_string(content)
    del foreign.metadata_props[:]
    path = tmp_path / "bad.onnx"
    contents = {"cut": content[:5000], "empty": b"", "text": b"hello", "foreign": foreign.SerializeToString()}
    path.write_bytes(contents[damage])
    with pytest.raises(ValueError, match=r"bad\.onnx: not a model that digits\.export wrote, or damaged"):
        Recognizer.load(path)
    with pytest.raises(FileNotFoundError, match=r"none\.onnx: no such model"):
        Recognizer.load(tmp_path / "none.onnx")


def test_from_the_shell(plain_model: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    command = [sys.executable, "-m", "digits.export", f"ckpt_path={plain_model}", f"out={out}", f"root={tiny_corpus}", "clips=10"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{out}: {out.stat().st_size:,} bytes; 10 recordings differ by at most ")
    assert Recognizer.load(out)(*audio.read(tiny_corpus / "5_bob_1.wav")).digit == 5


def test_a_file_that_answers_otherwise_is_not_written(
    plain_model: Path, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def another(trained: weights.Trained, origin: str) -> bytes:
        return original(replace(trained, calibration=Calibration(3.0, 0.4)), origin)

    original = export.export
    monkeypatch.setattr(export, "export", another)
    cfg = compose_config(f"ckpt_path={plain_model}", f"out={tmp_path / 'x.onnx'}", f"root={tiny_corpus}", "clips=5", name="export")
    with pytest.raises(ValueError, match=r"probabilities differ by .* not written"):
        export.write(cfg)
    assert not (tmp_path / "x.onnx").exists()
