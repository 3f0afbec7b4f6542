import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support import write_corpus

from digits.corpora import fsdd
from digits.corpora.corpus import cache_folder
from digits.corpora.download import Archive, UnreachableError
from digits.corpora.folder import read_folder


@pytest.fixture
def small_fsdd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A corpus that takes FSDD's place: 20 recordings whose tree is declared the published one."""
    folder = write_corpus(tmp_path / "copy" / "recordings", takes=1)
    blobs = {clip.name: clip.blob for clip in read_folder(folder, "fsdd").clips}
    monkeypatch.setattr(fsdd, "ARCHIVE", replace(fsdd.ARCHIVE, tree=fsdd.ARCHIVE.tree_hash(blobs)))
    monkeypatch.setenv("DIGITS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FSDD_ROOT", raising=False)
    return folder


def test_finds_root_then_environment_then_cache(small_fsdd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = cache_folder() / "fsdd-v1.0.10"
    cached.parent.mkdir(parents=True)
    small_fsdd.rename(cached)
    assert fsdd.load().clips[0].path.parent == cached
    other = write_corpus(tmp_path / "other" / "recordings", takes=1)
    monkeypatch.setenv("FSDD_ROOT", str(other.parent))
    assert fsdd.load().clips[0].path.parent == other
    assert fsdd.load(str(cached)).clips[0].path.parent == cached


def test_content_that_differs_is_rejected(small_fsdd: Path) -> None:
    victim = small_fsdd / "3_ann_0.wav"
    victim.write_bytes(victim.read_bytes()[:-2] + b"\0\1")
    with pytest.raises(ValueError, match=r"not the recordings of FSDD v1.0.10.*data=espeak"):
        fsdd.load(str(small_fsdd))


def test_a_missing_clip_is_rejected(small_fsdd: Path) -> None:
    (small_fsdd / "3_ann_0.wav").unlink()
    with pytest.raises(ValueError, match="19 recordings"):
        fsdd.load(str(small_fsdd))


def test_a_wrong_folder_ends_in_one_line_with_the_ways_out(small_fsdd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fsdd.main([str(small_fsdd.parent / "nowhere")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "no such folder" in error
    assert "FSDD_ROOT" in error


def test_what_is_neither_here_nor_in_the_cache_is_downloaded_once(
    small_fsdd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    downloads = []

    def download(archive: Archive, folder: Path) -> None:
        downloads.append(archive.url)
        write_corpus(folder, takes=1)

    monkeypatch.setattr(fsdd, "download", download)
    for _ in range(2):
        assert fsdd.main([]) == 0
        folder = Path(capsys.readouterr().out.strip())
        assert folder == cache_folder() / "fsdd-v1.0.10"
        assert len(list(folder.iterdir())) == 20
    assert downloads == [fsdd.ARCHIVE.url]


def test_a_damaged_cache_is_downloaded_again(
    small_fsdd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = write_corpus(cache_folder() / "fsdd-v1.0.10", takes=1, speakers=("mallory",))
    monkeypatch.setattr(fsdd, "download", lambda archive, folder: (kept.rename(kept.with_name("old")), small_fsdd.rename(folder)))
    assert fsdd.load().clips[0].speaker == "ann"
    assert "Downloading it again." in capsys.readouterr().err


def test_a_download_that_fails_is_one_line_and_a_status_of_its_own(
    small_fsdd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def download(archive: Archive, folder: Path) -> None:
        raise UnreachableError("no answer")

    monkeypatch.setattr(fsdd, "download", download)
    assert fsdd.main([]) == 3
    assert capsys.readouterr().err == "digits.corpora.fsdd: no answer\n"


def test_a_missing_package_is_named(small_fsdd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    assert fsdd.main([]) == 1
    message = "platformdirs is not installed: pip install '.[train]' in a clone of this repository"
    assert capsys.readouterr().err == f"digits.corpora.fsdd: {message}\n"


@pytest.mark.fsdd
def test_the_real_thing() -> None:
    done = subprocess.run([sys.executable, "-m", "digits.corpora.fsdd"], capture_output=True, text=True, check=True, env=os.environ)
    assert len(list(Path(done.stdout.strip()).glob("*.wav"))) == 3000
