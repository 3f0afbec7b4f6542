import errno
import stat
from pathlib import Path

import pytest

from digits.files import mode, write_whole


def test_what_cannot_be_looked_at_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "recording.wav"
    path.touch()
    assert stat.S_ISREG(mode(path))
    assert stat.S_ISDIR(mode(tmp_path))
    assert mode(tmp_path / "missing") == mode(path / "below a file") == mode("n" * 5000) == 0


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    for content in (b"first", b"second"):
        write_whole(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_costs_no_good_file_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_half(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "model.onnx"
    write_whole(path, b"good")
    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(OSError, match=r"No space left on device: .*model\.onnx"):
        write_whole(path, b"never seen")
    assert [(found, found.read_bytes()) for found in tmp_path.iterdir()] == [(path, b"good")]
