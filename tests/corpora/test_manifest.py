"""What is remembered of recordings, and when it is not to be trusted."""

from pathlib import Path

import pytest
from support import write_corpus

from digits.corpora import manifest
from digits.corpora.corpus import Clip, cache_folder, git_blob
from digits.corpora.folder import read_folder


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIGITS_CACHE", str(tmp_path / "cache"))
    return write_corpus(tmp_path / "recordings", takes=2)


def read(root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Clip], int]:
    """The clips of a folder, and how many of them were read to find that out."""
    contents: list[bytes] = []

    def counted(content: bytes) -> str:
        contents.append(content)
        return git_blob(content)

    with monkeypatch.context() as patch:
        patch.setattr(manifest, "git_blob", counted)
        return read_folder(root, "x").clips, len(contents)


def test_only_new_and_changed_recordings_are_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, n_read = read(root, monkeypatch)
    assert n_read == len(first) > 20
    assert read(root, monkeypatch) == (first, 0)
    one, other = first[0].path, first[1].path
    one.write_bytes(other.read_bytes())
    (root / "9_zoe_0.wav").write_bytes(other.read_bytes())
    changed, n_read = read(root, monkeypatch)
    assert n_read == 2
    assert changed[0].blob == first[1].blob
    assert {clip.name for clip in changed} - {clip.name for clip in first} == {"9_zoe_0.wav"}
    other.unlink()
    fewer, n_read = read(root, monkeypatch)
    assert (len(fewer), n_read) == (len(changed) - 1, 0)


def test_a_change_that_keeps_the_size_is_seen(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = read(root, monkeypatch)
    content = bytearray(first[0].path.read_bytes())
    content[-1] ^= 1
    first[0].path.write_bytes(content)
    again, n_read = read(root, monkeypatch)
    assert n_read == 1
    assert again[0].blob == git_blob(bytes(content)) != first[0].blob


@pytest.mark.parametrize(
    "content", ["", "name,digit\n", "\0\xff", "name,digit,speaker,take,fold,size,mtime_ns,blob\n0_ann_0.wav,1\n"]
)
def test_a_damaged_table_is_made_anew(root: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    first, _ = read(root, monkeypatch)
    (table,) = (cache_folder() / manifest.FOLDER).iterdir()
    table.write_text(content)
    assert read(root, monkeypatch) == (first, len(first))
    assert read(root, monkeypatch) == (first, 0)


def test_a_cache_that_cannot_be_written_costs_only_time(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITS_CACHE", "/dev/null/cache")
    with pytest.warns(UserWarning, match="not kept"):
        assert len(read_folder(root, "x").clips) > 20


def test_the_table_can_be_read_by_people(root: Path) -> None:
    read_folder(root, "x")
    (table,) = (cache_folder() / manifest.FOLDER).iterdir()
    header, first, *_ = table.read_text().splitlines()
    assert header == "name,digit,speaker,take,fold,size,mtime_ns,ctime_ns,blob"
    name, digit, _, _, fold, size, mtime_ns, _, blob = first.split(",")
    path = root / name
    assert (digit, fold, int(size), int(mtime_ns)) == (name[0], "0", path.stat().st_size, path.stat().st_mtime_ns)
    assert blob == git_blob(path.read_bytes())


def test_a_recording_that_is_not_accepted_is_asked_about_again(root: Path) -> None:
    asked: list[str] = []

    def refuse_zeros(name: str, path: Path) -> bool:
        asked.append(name)
        return not name.startswith("0")

    def clips() -> list[Clip]:
        return manifest.clips(root, root.iterdir(), lambda name: manifest.Label(1, "ann", 0, 0), refuse_zeros)

    first = clips()
    n_refused = len(list(root.glob("0*")))
    assert len(first) == len(asked) - n_refused
    asked.clear()
    assert clips() == first
    assert len(asked) == n_refused
