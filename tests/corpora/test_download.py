import hashlib
import http.server
import io
import os
import re
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from support import write_corpus

from digits.corpora import download as downloads
from digits.corpora.corpus import git_blob
from digits.corpora.download import Archive, UnreachableError, download, extract
from digits.corpora.folder import read_folder


def pack(folder: Path, path: Path, extra: list[tarfile.TarInfo] | None = None) -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for member in extra or []:
            tar.addfile(member, io.BytesIO(b"hostile!"[: member.size]))
        for clip in sorted(folder.iterdir()):
            tar.add(clip, arcname=f"words-1.0/recordings/{clip.name}")
    return path


@dataclass
class Server:
    """A web server over a folder, and what it was asked: path and first byte of each request.

    Paths that start with /flaky fail the first time, /short breaks off, and /plain ignores the header Range.
    """

    root: Path
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.asked.append((request.path, wanted))
        path = self.root / request.path[1:]
        if request.path.startswith("/flaky") and len(self.asked) == 1:
            request.send_error(503)
        elif request.path.startswith("/short"):
            request.send_response(200)
            request.send_header("Content-Length", "100000")
            request.end_headers()
            request.wfile.write(b"only this")
        elif not path.is_file():
            request.send_error(404)
        else:
            self.send(request, path.read_bytes(), None if request.path.startswith("/plain") else wanted)

    @staticmethod
    def send(request: http.server.BaseHTTPRequestHandler, content: bytes, wanted: str | None) -> None:
        first = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if wanted and first >= len(content):
            request.send_error(416)
            return
        request.send_response(206 if wanted else 200)
        request.send_header("Content-Length", str(len(content) - first))
        request.end_headers()
        request.wfile.write(content[first:])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    root = tmp_path / "www"
    root.mkdir()
    serving = Server(root)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            serving.answer(self)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
        serving.url = f"http://127.0.0.1:{httpd.server_port}"
        yield serving
        httpd.shutdown()


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "clips", takes=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the recordings go."""
    return tmp_path / "cache" / "words"


RECORDINGS = re.compile(r"[^/]+/recordings/([^/]+\.wav)")


def archive_of(clips: Path, url: str) -> Archive:
    blank = Archive("words 1.0", url, RECORDINGS, 10_000_000, "use your own", is_executable=lambda name: "_theo_" in name)
    blobs = {path.name: git_blob(path.read_bytes()) for path in clips.iterdir()}
    return replace(blank, tree=blank.tree_hash(blobs))


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between attempts."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


@pytest.mark.usefixtures("no_waiting")
def test_downloads_after_a_failed_attempt_and_leaves_nothing_else(clips: Path, folder: Path, server: Server) -> None:
    pack(clips, server.root / "flaky.tar.gz")
    archive = archive_of(clips, f"{server.url}/flaky.tar.gz")
    download(archive, folder)
    assert len(list(folder.iterdir())) == 20
    assert len(server.asked) == 2
    assert [path.name for path in folder.parent.iterdir()] == ["words"]
    download(archive, folder)  # finds what is there
    assert len(server.asked) == 2


def test_a_download_that_broke_off_is_continued(clips: Path, folder: Path, server: Server) -> None:
    content = pack(clips, server.root / "good.tar.gz").read_bytes()
    folder.parent.mkdir()
    (folder.parent / ".words.part").write_bytes(content[:5000])
    download(archive_of(clips, f"{server.url}/good.tar.gz"), folder)
    assert server.asked == [("/good.tar.gz", "bytes=5000-")]
    assert len(list(folder.iterdir())) == 20
    assert not (folder.parent / ".words.part").exists()


@pytest.mark.parametrize("name", ["plain.tar.gz", "good.tar.gz"])
@pytest.mark.usefixtures("no_waiting")
def test_a_download_that_cannot_be_continued_starts_over(clips: Path, folder: Path, server: Server, name: str) -> None:
    """The server knows no Range, or what is there is longer than what it has."""
    content = pack(clips, server.root / name).read_bytes()
    folder.parent.mkdir()
    (folder.parent / ".words.part").write_bytes(b"x" * (5000 if name == "plain.tar.gz" else len(content) + 1))
    download(archive_of(clips, f"{server.url}/{name}"), folder)
    assert len(list(folder.iterdir())) == 20
    assert len(server.asked) == (1 if name == "plain.tar.gz" else 2)


@pytest.mark.usefixtures("no_waiting")
def test_what_was_continued_with_something_else_is_thrown_away(clips: Path, folder: Path, server: Server) -> None:
    pack(clips, server.root / "good.tar.gz")
    folder.parent.mkdir()
    (folder.parent / ".words.part").write_bytes(b"x" * 100)
    archive = archive_of(clips, f"{server.url}/good.tar.gz")
    with pytest.raises(UnreachableError, match="damaged or has changed"):
        download(archive, folder)
    download(archive, folder)
    assert len(list(folder.iterdir())) == 20


def test_two_downloads_at_once_both_succeed_with_one_request(clips: Path, folder: Path, server: Server) -> None:
    archive = archive_of(clips, f"{server.url}/good.tar.gz")
    pack(clips, server.root / "good.tar.gz")
    problems: list[Exception] = []

    def try_it() -> None:
        try:
            download(archive, folder)
            archive.check(((path.name, git_blob(path.read_bytes())) for path in folder.iterdir()), folder)
        except (OSError, ValueError) as error:
            problems.append(error)

    threads = [threading.Thread(target=try_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert len(server.asked) == 1


def test_a_damaged_folder_makes_way(clips: Path, folder: Path, server: Server) -> None:
    pack(clips, server.root / "good.tar.gz")
    write_corpus(folder, takes=1, speakers=("mallory",))
    download(archive_of(clips, f"{server.url}/good.tar.gz"), folder)
    assert {path.name for path in folder.iterdir()} == {path.name for path in clips.iterdir()}


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


def test_hostile_members_are_never_extracted(clips: Path, tmp_path: Path) -> None:
    archive = pack(clips, tmp_path / "hostile.tar.gz", hostile_members())
    target = tmp_path / "deep" / "deeper" / "out"
    target.parent.mkdir(parents=True)
    extract(archive, RECORDINGS, target)
    assert sorted(path.name for path in target.iterdir()) == sorted(path.name for path in clips.iterdir())
    assert not list(tmp_path.rglob("escape.wav"))


@pytest.mark.parametrize("name", ["short", "missing.tar.gz", "junk.tar.gz", "other.tar.gz"])
@pytest.mark.usefixtures("no_waiting")
def test_a_bad_download_leaves_no_folder(clips: Path, folder: Path, server: Server, tmp_path: Path, name: str) -> None:
    (server.root / "junk.tar.gz").write_bytes(b"no archive")
    pack(write_corpus(tmp_path / "other", takes=2), server.root / "other.tar.gz")
    with pytest.raises(UnreachableError, match="use your own"):
        download(archive_of(clips, f"{server.url}/{name}"), folder)
    left = {".words.part"} if name == "short" else set()  # the next attempt continues it
    assert {path.name for path in folder.parent.iterdir()} - {".words.lock"} == left


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.usefixtures("no_waiting")
def test_an_archive_with_a_checksum_is_held_to_it(clips: Path, folder: Path, server: Server, right: bool) -> None:
    content = pack(clips, server.root / "good.tar.gz").read_bytes()
    digest = hashlib.sha256(content if right else b"").hexdigest()
    archive = replace(archive_of(clips, f"{server.url}/good.tar.gz"), tree="", sha256=digest)
    if right:
        download(archive, folder)
        assert len(list(folder.iterdir())) == 20
        return
    with pytest.raises(UnreachableError, match=r"is damaged or has changed .SHA-256 [0-9a-f]{12} instead of e3b0c44298fc"):
        download(archive, folder)
    assert not folder.exists()


@pytest.mark.usefixtures("no_waiting")
def test_a_server_that_sends_more_than_the_archive_has_fills_no_disk(clips: Path, folder: Path, server: Server) -> None:
    pack(clips, server.root / "words.tar.gz")
    archive = replace(archive_of(clips, f"{server.url}/words.tar.gz"), max_bytes=1000)
    with pytest.raises(UnreachableError, match="the server sends more than 1,000 bytes"):
        download(archive, folder)
    assert sum(path.stat().st_size for path in folder.parent.iterdir()) <= 1000


def test_a_server_that_never_answers_ends_in_time(clips: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "REACH_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        archive = archive_of(clips, f"http://127.0.0.1:{mute.getsockname()[1]}/x")
        started = time.monotonic()
        with pytest.raises(UnreachableError, match="no answer"):
            download(archive, folder)
        assert time.monotonic() - started < 5


def test_tree_hash_is_git_s(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "clips", takes=1, speakers=("ann", "theo"))
    for path in folder.glob("*_theo_*"):
        path.chmod(0o755)
    environment = {"GIT_DIR": str(tmp_path / "git"), "GIT_WORK_TREE": str(folder), "PATH": os.environ["PATH"]}
    for command in (["init", "-q"], ["config", "core.fileMode", "true"], ["add", "."]):
        subprocess.run(["git", *command], check=True, env=environment, cwd=folder)
    tree = subprocess.run(["git", "write-tree"], check=True, env=environment, cwd=folder, capture_output=True, text=True)
    for path in folder.glob("*_theo_*"):
        path.chmod(0o644)  # the modes on disk do not matter: archives and file systems lose them
    blobs = {clip.name: clip.blob for clip in read_folder(folder, "x").clips}
    assert archive_of(folder, "").tree_hash(blobs) == tree.stdout.strip()
