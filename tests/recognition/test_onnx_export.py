import json
from dataclasses import replace
from pathlib import Path

import numpy
import onnx
import onnxruntime
import pytest
import torch

from digits import audio
from digits.recognition import model_files, onnx_export, torch_models
from digits.recognition.calibration import Calibration
from digits.recognition.recognizer import Recognizer


def test_an_exported_file_hears_what_its_model_does(plain_model: Path, exported_model: Path, tiny_corpus: Path) -> None:
    before, after = Recognizer.load(plain_model), Recognizer.load(exported_model)
    for clip in sorted(tiny_corpus.iterdir())[::17]:
        sound = audio.read(clip)
        one, other = before(*sound), after(*sound)
        assert one.digit == other.digit
        assert one.accepted == other.accepted
        torch.testing.assert_close(torch.tensor(one.probabilities), torch.tensor(other.probabilities), atol=1e-5, rtol=0)


def test_it_runs_without_this_package_on_batches_of_any_size(exported_model: Path) -> None:
    session = onnxruntime.InferenceSession(exported_model, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["labels"]) == list(range(10))
    assert json.loads(metadata["calibration"]) == {"temperature": 1.5, "threshold": 0.4}
    assert json.loads(metadata["origin"]) == "tiny.npz"
    assert json.loads(metadata["git_commit"]) == "abc"
    front_end = json.loads(metadata["front_end"])
    length = round(front_end["window_s"] * front_end["sample_rate"])
    windows = numpy.random.default_rng(0).standard_normal((5, length)).astype("float32")
    together, *_ = session.run(None, {"waveform": windows})
    assert together.shape == (5, 10)
    numpy.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-5)
    for window, probabilities in zip(windows, together, strict=True):
        numpy.testing.assert_allclose(session.run(None, {"waveform": window[None]})[0][0], probabilities, atol=1e-5)


def test_it_shows_what_led_to_its_answer(plain_model: Path, exported_model: Path, tiny_corpus: Path) -> None:
    trained, exported = torch_models.load(plain_model), model_files.load(exported_model)
    windows = trained.window(*audio.read(tiny_corpus / "5_bob_1.wav"))[None]
    outputs = exported.outputs(windows)
    assert tuple(outputs) == torch_models.OUTPUTS
    numpy.testing.assert_allclose(outputs["log_mel"], trained.front_end.log_mel(torch.from_numpy(windows)), atol=1e-3)
    logits = trained.network.head(torch.from_numpy(outputs["features"]))  # type: ignore[operator]
    numpy.testing.assert_allclose((logits / 1.5).softmax(dim=1).detach(), outputs["probabilities"], atol=1e-5)


def test_an_older_file_still_answers(exported_model: Path, tmp_path: Path) -> None:
    graph = onnx.load(exported_model)
    del graph.graph.output[1:]
    del graph.metadata_props[-1]  # the seal
    older = tmp_path / "older.onnx"
    older.write_bytes(model_files.seal(graph.SerializeToString()))
    windows = numpy.random.default_rng(0).standard_normal((2, model_files.load(older).window.length)).astype("float32")
    assert tuple(model_files.load(older).outputs(windows)) == ("probabilities",)
    numpy.testing.assert_array_equal(model_files.load(older)(windows), model_files.load(exported_model)(windows))


def test_a_file_that_answers_otherwise_is_an_error(
    plain_model: Path, exported_model: Path, tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, recordings = torch_models.load(plain_model), [audio.read(tiny_corpus / "5_bob_1.wav")]
    monkeypatch.setattr(onnx_export, "write_graph", lambda *_: exported_model.read_bytes())
    content, difference = onnx_export.export(trained, "tiny.npz", None, recordings)
    assert content == exported_model.read_bytes()
    assert difference <= 1e-5
    warmer = replace(trained, calibration=Calibration(3.0, 0.4))
    with pytest.raises(ValueError, match=r"probabilities differ by .* from those of tiny\.npz: not written"):
        onnx_export.export(warmer, "tiny.npz", None, recordings)


def test_missing_packages_are_one_sentence(plain_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "PACKAGES", ("onnx", "a_package_that_is_not_there"))
    with pytest.raises(
        ValueError, match=r"exporting needs onnx, onnxscript and onnxruntime: pip install '\.\[live,train,export\]'"
    ):
        onnx_export.write_graph(torch_models.load(plain_model), "x", None)


def test_an_exported_file_says_nothing_of_the_machine_that_made_it(exported_model: Path) -> None:
    for path in (exported_model, model_files.PRETRAINED_PATH):
        content = path.read_bytes()
        assert b".py" not in content
        assert str(Path(__file__).parents[2]).encode() not in content
