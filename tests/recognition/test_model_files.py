import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy
import onnx
import pytest
import torch
from support import require, spoken

from digits import audio
from digits.recognition import model_files, onnx_export, torch_models
from digits.recognition.calibration import Calibration
from digits.recognition.recognizer import Recognizer
from digits.word_window import WordWindow


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


def constant_model(path: Path, answer: numpy.ndarray) -> Path:
    """An .onnx file with our metadata that gives every window the same answer, shape (n,)."""
    window = WordWindow()
    weights = onnx.numpy_helper.from_array(numpy.zeros((window.length, len(answer)), dtype=numpy.float32), "weights")
    bias = onnx.numpy_helper.from_array(answer.astype(numpy.float32), "bias")
    nodes = [
        onnx.helper.make_node("MatMul", ["waveform", "weights"], ["nothing"]),
        onnx.helper.make_node("Add", ["nothing", "bias"], ["probabilities"]),
    ]
    sound = onnx.helper.make_tensor_value_info("waveform", onnx.TensorProto.FLOAT, ["batch", window.length])
    out = onnx.helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["batch", len(answer)])
    graph = onnx.helper.make_graph(nodes, "constant", [sound], [out], [weights, bias])
    return save(graph, path)


def save(graph: onnx.GraphProto, path: Path, **front_end: object) -> Path:
    """A graph as a file that calls itself one of ours."""
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    front_end = {"sample_rate": 48_000, "window_s": 1.0, "trim": {}} | front_end
    metadata = {"front_end": json.dumps(front_end), "calibration": json.dumps({"threshold": 0.5})}
    onnx.helper.set_model_props(model, metadata)
    path.write_bytes(model_files.seal(model.SerializeToString()))
    return path


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (numpy.full(10, 0.1), None),
        (numpy.full(10, numpy.nan), "NaN or infinite probabilities"),
        (numpy.full(300, 1 / 300), r"the shape \(2, 300\) instead of \(2, 10\)"),
        (numpy.full(10, 0.2), "not probabilities"),
        (numpy.array([1.5, -0.5, *[0.0] * 8]), "not probabilities"),
    ],
)
def test_a_model_is_asked_once_before_it_is_used(tmp_path: Path, answer: numpy.ndarray, message: str | None) -> None:
    path = constant_model(tmp_path / "model.onnx", answer)
    if message is None:
        assert model_files.load(path).threshold == 0.5
        return
    with pytest.raises(ValueError, match=rf"model\.onnx: its answer to a test signal cannot be used: .*{message}"):
        model_files.load(path)


@pytest.mark.parametrize("kind", ["ckpt", "npz", "onnx"])
def test_a_single_flipped_bit_anywhere_is_noticed(
    tiny_checkpoint: Path, plain_model: Path, exported_model: Path, tmp_path: Path, kind: str
) -> None:
    content = {"ckpt": tiny_checkpoint, "npz": plain_model, "onnx": exported_model}[kind].read_bytes()
    path, sound = tmp_path / f"flipped.{kind}", (spoken(3, 0, 0), 8000)
    path.write_bytes(content)
    before = Recognizer.load(path)(*sound)
    for place in numpy.random.default_rng(0).integers(len(content), size=12):
        flipped = bytearray(content)
        flipped[place] ^= 1 << (place % 8)
        path.write_bytes(flipped)
        try:
            assert Recognizer.load(path)(*sound) == before  # the padding of a zip archive means nothing
        except ValueError as error:
            assert str(error).startswith(f"{path}: ")


def test_a_graph_with_a_loop_is_never_run(tmp_path: Path) -> None:
    """It might not end, on some input or on all."""
    bool_, float_, int_ = onnx.TensorProto.BOOL, onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    info, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    body = onnx.helper.make_graph(
        [node("Identity", ["go_on"], ["goes_on"]), node("Identity", ["before"], ["after"])],
        "body",
        [info("count", int_, []), info("go_on", bool_, []), info("before", float_, None)],
        [info("goes_on", bool_, []), info("after", float_, None)],
    )
    count = onnx.helper.make_tensor("most", int_, [], [2**62])
    yes = onnx.helper.make_tensor("yes", bool_, [], [True])
    loop = node("Loop", ["most", "yes", "waveform"], ["probabilities"], body=body)
    sound, out = info("waveform", float_, ["batch", 48_000]), info("probabilities", float_, None)
    path = save(onnx.helper.make_graph([loop], "endless", [sound], [out], [count, yes]), tmp_path / "endless.onnx")
    with pytest.raises(ValueError, match=r"endless\.onnx: not a model that digits export wrote, or damaged \(it has a loop\)"):
        model_files.load(path)


@pytest.mark.parametrize(
    ("front_end", "message"),
    [
        ({"window_s": 1e9}, r"data\.front_end\.window_s must lie in \[0\.1, 10\]"),
        ({"sample_rate": 2**40}, r"data\.front_end\.sample_rate must be a whole number"),
        ({"trim": 5}, r"data\.front_end\.trim must be a group of settings"),
        ({"exec": "rm"}, r"there is no setting data\.front_end\.exec"),
    ],
)
def test_absurd_settings_of_a_foreign_file_are_refused(tmp_path: Path, front_end: dict, message: str) -> None:
    graph = onnx.load_from_string(constant_model(tmp_path / "model.onnx", numpy.full(10, 0.1)).read_bytes()).graph
    with pytest.raises(ValueError, match=rf"absurd\.onnx: not a model that digits export wrote, or damaged \({message}"):
        model_files.load(save(graph, tmp_path / "absurd.onnx", **front_end))


@pytest.mark.parametrize("kind", ["ckpt", "npz"])
def test_an_archive_that_unpacks_to_any_size_is_refused(
    tiny_checkpoint: Path, plain_model: Path, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / f"bomb.{kind}"
    with (
        zipfile.ZipFile({"ckpt": tiny_checkpoint, "npz": plain_model}[kind]) as before,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for member in before.namelist():
            bomb.writestr(member, before.read(member) if kind == "ckpt" else bytes(10**6))
        bomb.writestr("zeros.npy", bytes(10**8))
    with pytest.raises(ValueError, match=rf"bomb\.{kind}: "):
        model_files.load(path)


def test_a_file_larger_than_any_model_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.onnx").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(ValueError, match=r"huge\.onnx: .* more than 100,000,000 bytes"):
        model_files.load(tmp_path / "huge.onnx")


def test_a_network_that_would_fill_the_memory_is_never_built(plain_model: Path, tmp_path: Path) -> None:
    with numpy.load(plain_model) as archive:
        arrays = {name: archive[name] for name in archive.files}
    about = json.loads(str(arrays.pop("settings")))
    about["network"]["channels"] = [4096, 4096, 4096]  # 1.5 GB
    numpy.savez(tmp_path / "wide.npz", settings=numpy.array(json.dumps(about)), **arrays)
    with pytest.raises(ValueError, match=r"wide\.npz: .*a network larger than any of this project"):
        model_files.load(tmp_path / "wide.npz")


def test_weights_that_are_not_numbers_are_refused(plain_model: Path, tmp_path: Path) -> None:
    with numpy.load(plain_model) as archive:
        arrays = {name: archive[name] for name in archive.files}
    name = next(name for name in arrays if name.endswith("weight"))
    arrays[name] = numpy.full_like(arrays[name], numpy.nan)
    numpy.savez(tmp_path / "nan.npz", **arrays)
    with pytest.raises(ValueError, match=r"nan\.npz: .*NaN or infinite .* its training diverged"):
        model_files.load(tmp_path / "nan.npz")


def test_an_answer_that_turns_bad_later_is_never_a_digit() -> None:
    recognizer = Recognizer(WordWindow(), lambda windows: numpy.full((len(windows), 10), numpy.nan, dtype=numpy.float32))
    with pytest.raises(ValueError, match="NaN"):
        recognizer(spoken(3, 0, 0), 8000)


TELEMETRY_S = 12  # onnxruntime writes a device id at once, and looks up its telemetry host about 9 s after it has loaded a model


def run_in_new_home(home: Path, *command: str) -> None:
    """As the first thing that a user does."""
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_"))}
    subprocess.run(command, env=environment | {"HOME": str(home)}, cwd=home, check=True, capture_output=True)


@pytest.mark.parametrize(
    "arguments", [("predict", "--ckpt-path=pretrained"), ("mic", "ckpt_path=pretrained")], ids=("predict", "mic")
)
def test_nothing_is_left_behind(tiny_corpus: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    run_in_new_home(tmp_path / "home", sys.executable, "-m", "digits", *arguments, str(tiny_corpus / "5_bob_1.wav"))
    assert list((tmp_path / "home").rglob("*")) == []


def test_nothing_is_sent(tmp_path: Path) -> None:
    require(shutil.which("strace"), "strace is missing")
    listener = f"import time; from digits import Recognizer; Recognizer.load('pretrained'); time.sleep({TELEMETRY_S})"
    trace = tmp_path / "trace"
    strace = ("strace", "-f", "-qq", "-e", "trace=connect,socket", "-o", str(trace))
    run_in_new_home(tmp_path / "home", *strace, sys.executable, "-c", listener)
    assert "AF_INET" not in trace.read_text()
