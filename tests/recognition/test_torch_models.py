import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy
import pytest
import torch

from digits import audio, networks
from digits.recognition import torch_models
from digits.recognition.recognizer import Recognizer


class Hostile:
    """Creates a file when a careless reader unpickles it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("part", [None, "state_dict"])
def test_a_hostile_pickle_is_refused_and_not_run(tiny_checkpoint: Path, tmp_path: Path, part: str | None) -> None:
    mark = tmp_path / "was_here"
    content = torch.load(tiny_checkpoint, weights_only=True)
    torch.save(Hostile(mark) if part is None else content | {part: Hostile(mark)}, tmp_path / "evil.ckpt")
    with pytest.raises(ValueError, match=r"evil\.ckpt: refused"):
        torch_models.read_checkpoint(tmp_path / "evil.ckpt")
    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps(Hostile(mark)))
    with pytest.raises(ValueError, match=r"plain\.ckpt: "):
        torch_models.read_checkpoint(tmp_path / "plain.ckpt")
    assert not mark.exists()


@pytest.mark.parametrize("kept", [0, 10, 1000, 50_000, -1])
def test_a_truncated_checkpoint_is_named(tiny_checkpoint: Path, tmp_path: Path, kept: int) -> None:
    (tmp_path / "cut.ckpt").write_bytes(tiny_checkpoint.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"cut\.ckpt: "):
        torch_models.read_checkpoint(tmp_path / "cut.ckpt")


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.ckpt: no such checkpoint"):
        torch_models.read_checkpoint(tmp_path / "none.ckpt")
    (tmp_path / "song.ckpt").write_bytes(b"RIFF" + bytes(100))
    with pytest.raises(ValueError, match=r"song\.ckpt: "):
        torch_models.read_checkpoint(tmp_path / "song.ckpt")
    with zipfile.ZipFile(tmp_path / "archive.ckpt", "w") as archive:
        archive.writestr("x/readme", "hello")
    with pytest.raises(ValueError, match=r"archive\.ckpt: "):
        torch_models.read_checkpoint(tmp_path / "archive.ckpt")


@pytest.mark.parametrize(
    "content",
    [{"state_dict": {}}, [1, 2], torch.zeros(3), {part: {} for part in torch_models.PARTS}],
)
def test_another_program_s_checkpoint_is_named(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"other\.ckpt: not a checkpoint written by digits train"):
        torch_models.read_checkpoint(tmp_path / "other.ckpt")


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("hyper_parameters", {"network": {"name": "os.system"}, "run": {}}),
        ("hyper_parameters", {"network": {"name": "DigitCNN", "channels": [4, 4, 4]}, "run": {}}),
        ("state_dict", {}),
        ("datamodule_hyper_parameters", {"front_end": {"sample_rate": "x"}, "source": "fsdd"}),
    ],
)
def test_settings_that_do_not_fit_are_named(tiny_checkpoint: Path, tmp_path: Path, part: str, value: dict) -> None:
    content = torch.load(tiny_checkpoint, weights_only=True)
    content[part] = value
    torch.save(content, tmp_path / "odd.ckpt")
    with pytest.raises(ValueError, match=r"odd\.ckpt: its settings and weights do not fit"):
        torch_models.restore_checkpoint(tmp_path / "odd.ckpt")


@pytest.mark.parametrize("dtype", [torch.bool, torch.int8, torch.float64, torch.complex64])
def test_weights_of_another_type_are_refused(tiny_checkpoint: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    content = torch.load(tiny_checkpoint, weights_only=True)
    content["state_dict"] = {name: value.to(dtype) for name, value in content["state_dict"].items()}
    torch.save(content, tmp_path / "odd.ckpt")
    with pytest.raises(ValueError, match=r"odd\.ckpt: .*weights of another type than float32"):
        torch_models.restore_checkpoint(tmp_path / "odd.ckpt")


def test_a_small_file_cannot_hold_a_large_network(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """A tensor with strides of 0 has one number in the file and any size in memory."""
    content = torch.load(tiny_checkpoint, weights_only=True)
    network = content["hyper_parameters"]["network"] | {"channels": [4096, 4096, 4096]}
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in networks.build(**network).state_dict().items()}
    content["hyper_parameters"]["network"] = network
    content["state_dict"] = {f"network.{name}": torch.zeros(()).expand(shape) for name, shape in shapes.items()}
    torch.save(content, tmp_path / "wide.ckpt")
    assert (tmp_path / "wide.ckpt").stat().st_size < 1_000_000
    with pytest.raises(ValueError, match=r"wide\.ckpt: .*a network larger than any of this project"):
        torch_models.restore_checkpoint(tmp_path / "wide.ckpt")


def test_a_plain_file_hears_what_its_checkpoint_does(plain_model: Path, tiny_checkpoint: Path, tiny_corpus: Path) -> None:
    """Parity: the same logits to the bit, and probabilities by its temperature."""
    before, after = Recognizer.load(tiny_checkpoint), Recognizer.load(plain_model)
    for clip in sorted(tiny_corpus.iterdir())[::17]:
        sound = audio.read(clip)
        one, other = before(*sound), after(*sound)
        cooled = torch.tensor(one.probabilities).log() / 1.5
        assert one.digit == other.digit
        torch.testing.assert_close(torch.tensor(other.probabilities), cooled.softmax(dim=0), atol=1e-5, rtol=0)
        assert other.accepted == (other.probability >= 0.4)
        assert one.accepted


def test_it_holds_no_pickle_and_says_what_it_is(plain_model: Path, tiny_checkpoint: Path) -> None:
    with numpy.load(plain_model, allow_pickle=False) as archive:
        settings = json.loads(str(archive["settings"]))
        assert all(archive[name].dtype == numpy.float32 for name in archive.files if name != "settings")
    assert settings["about"]["experiment"] == "tiny"
    assert settings["network"]["name"] == "DigitCNN"
    assert settings["front_end"] == torch_models.read_checkpoint(tiny_checkpoint)["datamodule_hyper_parameters"]["front_end"]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text", "pickle", "format", "network"])
def test_damaged_and_foreign_files_are_refused_in_one_sentence(plain_model: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "bad.npz"
    content = plain_model.read_bytes()
    with numpy.load(plain_model) as archive:
        arrays = {name: archive[name] for name in archive.files}
    settings = json.loads(str(arrays["settings"]))
    if damage in ("format", "network", "pickle"):
        if damage == "format":
            settings["format"] = 99
        elif damage == "network":
            settings["network"]["channels"] = [8, 16, 32]
        changed = numpy.array(json.dumps(settings)) if damage != "pickle" else numpy.array([{}], dtype=object)
        numpy.savez(path, **(arrays | {"settings": changed}))
    else:
        flipped = bytearray(content)
        flipped[len(content) // 2] ^= 255
        path.write_bytes({"cut": content[:5000], "flip": bytes(flipped), "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(ValueError, match=r"bad\.npz: not a model that digits calibrate wrote"):
        torch_models.read_plain(path)
