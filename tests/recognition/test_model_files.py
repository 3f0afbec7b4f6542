from pathlib import Path

import numpy
import onnx
import pytest
import torch

from digits import audio
from digits.recognition import model_files, onnx_export, torch_models
from digits.recognition.calibration import Calibration
from digits.recognition.recognizer import Recognizer


def test_one_function_loads_every_kind_of_file(tiny_checkpoint: Path, plain_model: Path, exported_model: Path) -> None:
    loaded = [model_files.load(path) for path in (tiny_checkpoint, plain_model, exported_model, "pretrained")]
    assert [type(model).__name__ for model in loaded] == ["Trained", "Trained", "OnnxModel", "OnnxModel"]
    assert [model.threshold for model in loaded[:3]] == [0.0, 0.4, 0.4]
    assert loaded[0].window == loaded[1].window == loaded[2].window
    for model in loaded:
        silence = numpy.zeros((2, model.window.length), dtype=numpy.float32)
        assert model(silence).shape == (2, 10)


def test_a_model_that_knows_other_sounds_keeps_them_through_every_file(
    tiny_checkpoint: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    checkpoint = torch.load(tiny_checkpoint, weights_only=True)
    checkpoint["hyper_parameters"]["network"]["n_outputs"] = 11
    weight, bias = (checkpoint["state_dict"][f"network.head.1.{name}"] for name in ("weight", "bias"))
    checkpoint["state_dict"]["network.head.1.weight"] = torch.cat([weight, torch.zeros(1, weight.shape[1])])
    checkpoint["state_dict"]["network.head.1.bias"] = torch.cat([bias, torch.tensor([1.0])])
    torch.save(checkpoint, tmp_path / "eleven.ckpt")
    torch_models.write_plain(tmp_path / "eleven.npz", tmp_path / "eleven.ckpt", Calibration(1.0, 0.0), None)
    content = onnx_export.write_graph(torch_models.load(tmp_path / "eleven.npz"), "eleven", None)
    (tmp_path / "eleven.onnx").write_bytes(content)
    sound = audio.read(tiny_corpus / "5_bob_1.wav")
    ten = Recognizer.load(tiny_checkpoint)(*sound)
    heard = [Recognizer.load(tmp_path / f"eleven.{kind}")(*sound) for kind in ("ckpt", "npz", "onnx")]
    for prediction in heard:
        numpy.testing.assert_allclose(prediction.probabilities, heard[0].probabilities, atol=1e-5)
    digits = numpy.array(heard[0].probabilities)
    assert len(digits) == 10
    assert 0.001 < 1 - digits.sum() < 0.999
    numpy.testing.assert_allclose(digits / digits.sum(), ten.probabilities, atol=1e-4)


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "foreign"])
def test_damaged_and_foreign_files_are_refused_in_one_sentence(exported_model: Path, tmp_path: Path, damage: str) -> None:
    content = exported_model.read_bytes()
    foreign = onnx.load_from_string(content)
    del foreign.metadata_props[:]
    path = tmp_path / "bad.onnx"
    contents = {"cut": content[:5000], "empty": b"", "text": b"hello", "foreign": foreign.SerializeToString()}
    path.write_bytes(contents[damage])
    with pytest.raises(ValueError, match=r"bad\.onnx: not a model that digits export wrote, or damaged"):
        Recognizer.load(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.onnx: no such model"):
        Recognizer.load(tmp_path / "none.onnx")
    with pytest.raises(FileNotFoundError, match=r"none\.npz: no such model"):
        Recognizer.load(tmp_path / "none.npz")
