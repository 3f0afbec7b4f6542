import http.server
import io
import os
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import write_corpus

from digits import fsdd


@pytest.fixture
def small_fsdd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A corpus that takes FSDD's place: 20 recordings whose tree is declared the published one."""
    folder = write_corpus(tmp_path / "copy" / "recordings", takes=1)
    corpus = fsdd.read_folder(folder, "fsdd")
    monkeypatch.setattr(fsdd, "TREE", fsdd.tree_hash(corpus))
    monkeypatch.setenv("DIGITS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FSDD_ROOT", raising=False)
    return folder


def pack(folder: Path, path: Path, extra: list[tarfile.TarInfo] | None = None) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member in extra or []:
            tar.addfile(member, io.BytesIO(b"hostile!"[: member.size]))
        for clip in sorted(folder.iterdir()):
            tar.add(clip, arcname=f"free-spoken-digit-dataset-1.0.10/recordings/{clip.name}")
    return path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """A local web server over tmp_path/www; paths that start with /flaky fail the first time."""
    root, asked = tmp_path / "www", []
    root.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(root))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            asked.append(self.path)
            if self.path.startswith("/flaky") and len(asked) == 1:
                self.send_error(503)
            elif self.path.startswith("/short"):
                self.send_response(200)
                self.send_header("Content-Length", "100000")
                self.end_headers()
                self.wfile.write(b"only this")
            else:
                super().do_GET()

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}", asked
        httpd.shutdown()


def test_finds_root_then_environment_then_cache(small_fsdd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = fsdd.cache_folder() / "fsdd-v1.0.10"
    cached.parent.mkdir(parents=True)
    small_fsdd.rename(cached)
    assert fsdd.load().clips[0].path.parent == cached
    other = write_corpus(tmp_path / "other" / "recordings", takes=1)
    monkeypatch.setenv("FSDD_ROOT", str(other.parent))
    assert fsdd.load().clips[0].path.parent == other
    assert fsdd.load(str(cached)).clips[0].path.parent == cached


def test_content_that_differs_is_refused(small_fsdd: Path) -> None:
    victim = small_fsdd / "3_ann_0.wav"
    victim.write_bytes(victim.read_bytes()[:-2] + b"\0\1")
    with pytest.raises(ValueError, match=r"not the 3000 recordings of FSDD v1.0.10.*data=espeak"):
        fsdd.load(str(small_fsdd))


def test_a_missing_clip_is_refused(small_fsdd: Path) -> None:
    (small_fsdd / "3_ann_0.wav").unlink()
    with pytest.raises(ValueError, match="19 recordings"):
        fsdd.load(str(small_fsdd))


def test_a_wrong_folder_ends_in_one_line_with_the_ways_out(small_fsdd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fsdd.main([str(small_fsdd.parent / "nowhere")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "no such folder" in error
    assert "FSDD_ROOT" in error


def test_downloads_once_after_a_failed_attempt(
    small_fsdd: Path,
    tmp_path: Path,
    server: tuple[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url, asked = server
    pack(small_fsdd, tmp_path / "www" / "flaky.tar.gz")
    monkeypatch.setattr(fsdd.download, "__defaults__", (f"{url}/flaky.tar.gz",))
    assert fsdd.main([]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert folder == fsdd.cache_folder() / "fsdd-v1.0.10"
    assert len(list(folder.iterdir())) == 20
    assert fsdd.main([]) == 0
    assert len(asked) == 2
    assert [path.name for path in fsdd.cache_folder().iterdir()] == ["fsdd-v1.0.10"]


def test_a_damaged_cache_is_downloaded_again(
    small_fsdd: Path, tmp_path: Path, server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(small_fsdd, tmp_path / "www" / "good.tar.gz")
    write_corpus(fsdd.cache_folder() / "fsdd-v1.0.10", takes=1, speakers=("mallory",))
    monkeypatch.setattr(fsdd.download, "__defaults__", (f"{server[0]}/good.tar.gz",))
    assert fsdd.load().clips[0].speaker == "ann"


def test_two_downloads_at_once_both_succeed(small_fsdd: Path, tmp_path: Path, server: tuple[str, list[str]]) -> None:
    pack(small_fsdd, tmp_path / "www" / "good.tar.gz")
    folder, problems = fsdd.cache_folder() / "fsdd-v1.0.10", []

    def download() -> None:
        try:
            fsdd.download(folder, f"{server[0]}/good.tar.gz")
            fsdd.read_verified(folder)
        except (OSError, ValueError) as error:
            problems.append(error)

    threads = [threading.Thread(target=download) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def hostile_members() -> list[tarfile.TarInfo]:
    names = [
        "../../escape.wav",
        "/tmp/escape.wav",
        "x/recordings/../../escape.wav",
        "x/recordings/..",
        "x/recordings/sub/0_eve_0.wav",
    ]
    members = [tarfile.TarInfo(name) for name in names]
    for member in members:
        member.size = 8
    link = tarfile.TarInfo("x/recordings/0_eve_1.wav")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    device = tarfile.TarInfo("x/recordings/0_eve_2.wav")
    device.type = tarfile.FIFOTYPE
    return [*members, link, device]


def test_hostile_members_are_never_extracted(small_fsdd: Path, tmp_path: Path) -> None:
    archive = pack(small_fsdd, tmp_path / "hostile.tar.gz", hostile_members())
    target = tmp_path / "deep" / "deeper" / "out"
    target.parent.mkdir(parents=True)
    fsdd.extract(archive, target)
    assert sorted(path.name for path in target.iterdir()) == sorted(path.name for path in small_fsdd.iterdir())
    assert not list(tmp_path.rglob("escape.wav"))


@pytest.mark.parametrize("name", ["short", "missing.tar.gz", "junk.tar.gz"])
def test_a_bad_download_leaves_nothing_behind(
    small_fsdd: Path, tmp_path: Path, server: tuple[str, list[str]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    (tmp_path / "www" / "junk.tar.gz").write_bytes(b"no archive")
    with pytest.raises(fsdd.UnreachableError, match="data=espeak"):
        fsdd.download(fsdd.cache_folder() / "fsdd-v1.0.10", f"{server[0]}/{name}")
    assert list(fsdd.cache_folder().iterdir()) == []


def test_a_server_that_never_answers_ends_in_time(
    small_fsdd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import socket

    monkeypatch.setattr(fsdd, "REACH_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        monkeypatch.setattr(fsdd.download, "__defaults__", (f"http://127.0.0.1:{mute.getsockname()[1]}/x",))
        started = time.monotonic()
        assert fsdd.main([]) == 3
        assert time.monotonic() - started < 5
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "no answer" in error


@pytest.mark.fsdd
def test_the_real_thing() -> None:
    done = subprocess.run([sys.executable, "-m", "digits.fsdd"], capture_output=True, text=True, check=True, env=os.environ)
    assert len(list(Path(done.stdout.strip()).glob("*.wav"))) == 3000
