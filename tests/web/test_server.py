import contextlib
import io
import json
import re
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import numpy
import pytest
import soundfile
from clients import RATE, Client, blocks, ending, received, samples, sentence
from support import shell, spoken, start, wait_until, write_corpus
from websockets.exceptions import ConnectionClosed, InvalidStatus

from digits import audio
from digits.recognition.recognizer import Recognizer
from digits.web import choices, connections

Serve = Callable[..., AbstractContextManager[Client]]


def wav(waveform: numpy.ndarray, rate: int = 8000, format_: str = "WAV") -> bytes:
    content = io.BytesIO()
    soundfile.write(content, waveform, rate, format=format_, subtype="PCM_16")
    return content.getvalue()


def heard(messages: list[dict[str, Any]]) -> list[int | str]:
    """Digits that were accepted, and the reasons of the others."""
    return [m["digit"] if m["accepted"] else m["reason"] for m in messages if m["type"] == "heard"]


# ---- what it is for


def test_it_says_that_it_is_well_and_which_model_it_has(client: Client, exported_model: Path) -> None:
    status, about = client.json("GET", "/healthz")
    assert (status, about["status"], about["model"], about["threshold"]) == (200, "ok", exported_model.name, 0)


def test_a_recording_is_recognised_as_digits_predict_does(client: Client, exported_model: Path, tmp_path: Path) -> None:
    for name, sound in (("one.wav", spoken(7, 1, 99)), ("several.wav", sentence([2, 6], 8000, gap_s=1.2))):
        content = wav(sound)
        (tmp_path / name).write_bytes(content)
        status, answer = client.json("POST", "/v1/recognize", content)
        done = shell("predict", "--json", "--threshold", "0", "--ckpt-path", str(exported_model), str(tmp_path / name))
        expected = [json.loads(line) for line in done.stdout.splitlines()]
        assert status == 200
        assert [{"path": str(tmp_path / name), **found} for found in answer["sounds"]] == expected


def test_details_come_if_they_are_wanted(client: Client) -> None:
    (plain,) = client.json("POST", "/v1/recognize", wav(spoken(7, 1, 99)))[1]["sounds"]
    (detailed,) = client.json("POST", "/v1/recognize?details", wav(spoken(7, 1, 99)))[1]["sounds"]
    assert detailed.keys() - plain.keys() == {"wav", "log_mel"}


def test_a_stream_hears_digits_and_counts_them(client: Client) -> None:
    messages = client.hear([7, 0, 4])
    assert messages[0]["type"] == "ready"
    assert heard(messages) == [7, 0, 4]
    assert client.metric('digits_heard_total{digit="7"}') == 1
    assert client.metric("digits_latency_seconds_count") == 3
    assert client.metric('digits_streams_closed_total{why="ended"}') == 1
    assert client.metric("digits_streams_open") == 0


def test_the_threshold_can_be_chosen_and_changed_by_each_visitor(client: Client) -> None:
    strict = f"sample_rate={RATE}&threshold=1"
    assert heard(client.hear([7, 0], strict)) == ["not sure", "not sure"]
    with client.stream(strict) as one, client.stream() as other:
        one.send('{"threshold": 0.1}')
        for connection in (one, other):
            for block in blocks(samples(sentence([7]))):
                connection.send(block)
            connection.send('{"end": true}')
            assert heard(list(received(connection))) == [7]


def test_visitors_do_not_disturb_each_other(client: Client) -> None:
    said = [[7, 0, 4], [1, 2, 3], [9, 8, 5]]
    results: dict[int, list[int | str]] = {}
    threads = [threading.Thread(target=lambda n=n: results.update({n: heard(client.hear(said[n]))})) for n in range(len(said))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [results[n] for n in range(len(said))] == said


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "sample_rate must be a whole number of hertz, got nothing"),
        ("sample_rate=fast", "sample_rate must be a whole number of hertz, got fast"),
        ("sample_rate=-8000", "sample_rate must be a whole number of hertz, got -8000"),
        ("sample_rate=" + 400 * "9", "sample_rate must be a whole number of hertz, got 99999999999999999999"),
        ("sample_rate=1000", "sample_rate must be 4000 to 192000 Hz, got 1000"),
        (f"sample_rate={RATE}&threshold=2", "threshold must lie in [0, 1], got 2"),
        (f"sample_rate={RATE}&threshold=nan", "threshold must lie in [0, 1], got nan"),
        (f"sample_rate={RATE}&voice=nobody", "nobody.voice: no such voice"),
        (f"sample_rate={RATE}&voice=../nobody", "letters (a to z) and digits, got nobody"),
        (f"sample_rate={RATE}&enroll=../ann", "letters (a to z) and digits, got ann"),
        (f"sample_rate={RATE}&enroll={33 * 'a'}", "letters (a to z) and digits, got " + 33 * "a"),
    ],
)
def test_impossible_wishes_close_the_stream_with_their_reason(client: Client, query: str, message: str) -> None:
    with client.stream(query) as connection:
        code, reason, messages = ending(connection)
    assert code == 1008
    assert messages[-1]["type"] == "error"
    assert messages[-1]["text"].endswith(message)
    assert messages[-1]["text"].encode().startswith(reason.encode())


def test_the_page_and_its_parts_are_served_and_nothing_else(client: Client) -> None:
    status, page, headers = client.request("GET", "/")
    assert status == 200
    assert headers["content-security-policy"].startswith("default-src 'self'")
    assert headers["x-content-type-options"] == "nosniff"
    for name in re.findall(rb'(?:src|href)="([^"]+)"', page):
        assert client.request("GET", f"/{name.decode()}")[0] == 200, name
    for path in (
        "/../server.py",
        "/..%2fserver.py",
        "/%2e%2e/server.py",
        "/....//server.py",
        "//etc/passwd",
        "/app.js/../../stream.py",
    ):
        assert client.request("GET", path)[0] in (400, 404), path
    assert client.request("GET", "/v1/recognize")[0] in (404, 405)


def test_the_description_names_every_address(client: Client) -> None:
    _, description = client.json("GET", "/openapi.json")
    assert description["paths"].keys() == {"/healthz", "/metrics", "/v1/recognize", "/v1/stream", "/v1/voices", "/v1/voices/{name}"}
    answer = description["components"]["schemas"]["Sound"]["properties"].keys()
    sounds = client.json("POST", "/v1/recognize?details", wav(sentence([2, 6], 8000, gap_s=1.2)))[1]["sounds"]
    assert {name for sound in sounds for name in sound} == answer
    types = set(re.findall(r'"type": "(\w+)"', description["paths"]["/v1/stream"]["get"]["description"]))
    assert types == {"ready", "level", "heard", "only_zeros", "ask", "note", "enrolled", "error"}


# ---- voices


def test_a_voice_is_taught_used_and_deleted(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exported_model: Path
) -> None:
    monkeypatch.setattr(choices, "ROUNDS", 2)
    with serve(speed=1000) as client:
        with client.stream(f"sample_rate={RATE}&enroll=ann") as connection:
            lines = received(connection)
            assert next(lines)["type"] == "ready"
            answers: list[dict[str, Any]] = []
            while "enrolled" not in [message["type"] for message in answers]:
                question = ""
                for block in blocks(samples(sentence([])), seconds=0.5):
                    connection.send(block)
                while not question:  # the last that has been asked
                    message = next(lines)
                    answers.append(message)
                    question = message["text"] if message["type"] == "ask" else ""
                    if message["type"] == "enrolled":
                        break
                if question:
                    digit = choices_word(question)
                    for block in blocks(samples(sentence([digit]))):
                        connection.send(block)
        (lesson,) = (message for message in answers if message["type"] == "enrolled")
        assert (lesson["recordings"], lesson["doubtful"]) == (20, [])
        assert lesson["right_after"] >= lesson["right_before"] - 1
        assert client.json("GET", "/v1/voices")[1] == {"voices": ["ann"]}
        assert heard(client.hear([3, 8], f"sample_rate={RATE}&voice=ann")) == [3, 8]
        personal = Recognizer.load(tmp_path / "voices" / "ann.voice")
        (sound,) = client.json("POST", "/v1/recognize?voice=ann", wav(spoken(7, 1, 99)))[1]["sounds"]
        assert sound["probabilities"] == pytest.approx(personal(*audio.read("x", wav(spoken(7, 1, 99)))).probabilities, abs=1e-6)
        assert client.json("DELETE", "/v1/voices/ann", headers={"origin": "http://evil.example"})[0] == 403
        assert client.json("DELETE", "/v1/voices/ann") == (200, {"deleted": "ann"})
        assert client.json("DELETE", "/v1/voices/ann")[0] == 404
        assert client.json("GET", "/v1/voices")[1] == {"voices": []}
        assert list((tmp_path / "voices").iterdir()) == []


def choices_word(question: str) -> int:
    from digits.corpora.corpus import WORDS

    (word,) = re.findall(r"say (\w+) \(", question)
    return WORDS.index(word)


def test_a_voice_that_is_not_taught_to_its_end_leaves_nothing_behind(client: Client, tmp_path: Path) -> None:
    with client.stream(f"sample_rate={RATE}&enroll=ann") as connection:
        for block in blocks(samples(sentence([3, 8]))):
            connection.send(block)
        wait_until(lambda: len(list((tmp_path / "voices").glob(".ann.*/*.wav"))) == 2)
    wait_until(lambda: not list((tmp_path / "voices").iterdir()))


def test_two_visitors_cannot_teach_one_voice_at_once(client: Client) -> None:
    with client.stream(f"sample_rate={RATE}&enroll=ann") as one:
        assert json.loads(one.recv())["type"] == "ready"
        with client.stream(f"sample_rate={RATE}&enroll=ann") as other:
            assert ending(other)[1] == "somebody is teaching the voice ann at this moment"


def test_a_server_without_voices_says_so(serve: Serve) -> None:
    with serve(voices=False) as client:
        assert client.json("GET", "/v1/voices")[1] == {"voices": None}
        assert client.json("DELETE", "/v1/voices/ann") == (403, {"error": "this server keeps no voices"})
        for wish in ("voice", "enroll"):
            with client.stream(f"sample_rate={RATE}&{wish}=ann") as connection:
                assert ending(connection)[1] == "this server keeps no voices"
        client.check()


# ---- hostile clients; after each of them, `client` checks that others are still served


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"x", "a message must hold 16-bit samples, at most 1 s of them; got 1 bytes"),
        (b"", "a message must hold 16-bit samples, at most 1 s of them; got 0 bytes"),
        (bytes(2 * RATE + 2), "a message must hold 16-bit samples"),
        ("hello", 'a text must be {"threshold": NUMBER} or {"end": true}'),
        ("", "a text must be"),
        (100_000 * "[", "a text must be"),
        ('{"threshold": "high"}', "threshold must lie in [0, 1], got high"),
        ('{"threshold": [1]}', "threshold must lie"),
        ('{"threshold": null}', "threshold must lie"),
        ('{"threshold": 1e999}', "threshold must lie"),
        ('{"end": true, "threshold": 1}', "a text must be"),
    ],
)
def test_a_message_that_is_no_sound_closes_its_stream(client: Client, message: bytes | str, reason: str) -> None:
    with client.stream() as connection:
        connection.send(message)
        code, said, _ = ending(connection)
    assert code == 1008
    assert said.startswith(reason)


def test_a_huge_frame_is_not_read(client: Client) -> None:
    with client.stream() as connection, contextlib.suppress(ConnectionClosed):
        connection.send(bytes(20_000_000))
        assert ending(connection)[0] == 1009


def test_noise_at_full_scale_is_no_digit_and_no_fault(client: Client) -> None:
    noise = numpy.random.default_rng(0).integers(-32768, 32768, 5 * RATE, dtype=numpy.int16).tobytes()
    with client.stream() as connection:
        for block in blocks(noise):
            connection.send(block)
        connection.send('{"end": true}')
        assert ending(connection)[0] == 1000


def test_who_leaves_in_a_word_is_forgotten(client: Client) -> None:
    content = samples(sentence([7]))
    for _ in range(3):
        with client.stream() as connection:
            for block in list(blocks(content))[:7]:
                connection.send(block)
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.socket.close()  # without a word: a reset
    wait_until(lambda: client.metric("digits_streams_open") == 0)
    assert client.metric('digits_streams_closed_total{why="left"}') == 3


def test_more_streams_than_are_allowed_are_told_so(serve: Serve) -> None:
    with serve(streams=3) as client, contextlib.ExitStack() as stack:
        for _ in range(3):
            assert json.loads(stack.enter_context(client.stream()).recv())["type"] == "ready"
        with client.stream() as connection:
            assert ending(connection)[:2] == (1013, "all 3 streams are in use: try again later")
        stack.close()
        wait_until(lambda: client.metric("digits_streams_open") == 0)
        client.check()


def test_two_hundred_connections_leave_room_for_the_others(serve: Serve) -> None:
    with serve(streams=20) as client, contextlib.ExitStack() as stack:
        ready = refused = 0
        for _ in range(200):
            try:
                connection = stack.enter_context(client.stream(open_timeout=20))
                ready += json.loads(connection.recv())["type"] == "ready"
            except InvalidStatus:  # more connections than uvicorn takes
                refused += 1
        assert ready == 20
        assert client.json("GET", "/healthz")[0] == 200
        stack.close()
        wait_until(lambda: client.metric("digits_streams_open") == 0)
        client.check()


def test_connections_that_say_nothing_do_not_keep_others_out(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SILENT_S", 1.0)
    with serve(streams=10) as client, contextlib.ExitStack() as stack:
        for _ in range(130):  # ten more than the server takes
            stack.enter_context(closing(socket.create_connection(("127.0.0.1", client.port))))
        wait_until(lambda: client.request("GET", "/healthz")[0] == 200)
        client.check()


def test_a_stream_that_sends_nothing_is_closed(serve: Serve) -> None:
    with serve(idle_s=0.3) as client, client.stream() as connection:
        assert ending(connection)[:2] == (1008, "nothing came, or nothing was read, for 0.3 s")


def test_a_stream_of_zeros_is_closed(serve: Serve) -> None:
    with serve(idle_s=2) as client, client.stream() as connection:
        for block in blocks(bytes(2 * 3 * RATE)):
            connection.send(block)
        assert ending(connection)[:2] == (1008, "nothing but zeros came for 2 s: the microphone may be muted")


def test_a_stream_faster_than_sound_is_closed(serve: Serve) -> None:
    with serve(speed=2) as client, client.stream() as connection:
        with contextlib.suppress(ConnectionClosed):
            for block in blocks(samples(0.1 * numpy.ones(60 * RATE))):
                connection.send(block)
        assert ending(connection)[:2] == (1008, "sound came more than 2 times as fast as it was recorded")


def test_a_visitor_who_does_not_read_is_left_behind(serve: Serve) -> None:
    with serve(idle_s=1, speed=1000) as client:
        with closing(socket.socket()) as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.connect(("127.0.0.1", client.port))
            key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13"
            path = "/v1/stream?sample_rate=48000&details"
            raw.sendall(
                f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{key}\r\n\r\n".encode()
            )
            raw.settimeout(5)
            words = samples(sentence([7, 0, 4], 48_000))
            with contextlib.suppress(OSError):  # once the server no longer reads either
                for _ in range(60):
                    for block in blocks(words, 48_000, 0.3):
                        raw.sendall(b"\x82\xfe" + struct.pack(">H", len(block)) + bytes(4) + block)
            wait_until(lambda: client.metric('digits_streams_closed_total{why="idle"}') == 1)
        client.check()


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://[", "http://localhost:1", "http://localhost.evil.example"]
)
def test_pages_of_other_origins_are_refused(client: Client, origin: str) -> None:
    with pytest.raises(InvalidStatus) as refusal, client.stream(additional_headers={"Origin": origin}):
        pass
    assert refusal.value.response.status_code == 403
    assert client.json("POST", "/v1/recognize", wav(spoken(7, 1, 99)), {"origin": origin})[0] == 403


def test_our_own_page_is_not_refused(client: Client) -> None:
    with client.stream(additional_headers={"Origin": f"http://127.0.0.1:{client.port}"}) as connection:
        assert json.loads(connection.recv())["type"] == "ready"


def test_other_host_names_are_refused_unless_they_are_ours(serve: Serve) -> None:
    with serve(hosts=("digits.example.org",)) as client:
        assert client.request("GET", "/", headers={"host": "digits.example.org"})[0] == 200
        assert client.request("GET", "/", headers={"host": "rebound.example"})[0] == 400


def bomb() -> bytes:
    """An hour of silence but for a click, in a few thousand bytes."""
    content = io.BytesIO()
    with soundfile.SoundFile(content, "w", 48_000, 1, format="FLAC", subtype="PCM_16") as file:
        file.write(numpy.full(1000, 0.5))
        for _ in range(36):
            file.write(numpy.zeros(48_000 * 100, dtype=numpy.int16))
    return content.getvalue()


def many_channels() -> bytes:
    """The header of a recording of 1,024 channels at the highest rate, whose blocks would fill the memory."""
    sound = wav(numpy.full(4096, 0.5))
    head = struct.pack("<HHIIHH", 1, 1024, 768_000, 768_000 * 2048, 2048, 16)
    return sound[:20] + head + sound[36:]


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b"", 400, "the request has no body"),
        (b"no sound", 400, "recording: not readable as audio"),
        (wav(numpy.zeros(8000)), 400, "recording: only silence"),
        (wav(spoken(7, 1, 99))[:-1000], 400, "recording: the file is truncated"),
        (bytes(21_000_000), 413, "the recording has more than 20 MB"),
    ],
)
def test_what_is_no_recording_is_an_error(client: Client, content: bytes, status: int, message: str) -> None:
    found, answer = client.json("POST", "/v1/recognize", content)
    assert found == status
    assert answer["error"].startswith(message)
    assert client.metric(f'digits_uploads_total{{status="{status}"}}') == 1


def test_a_file_that_unpacks_to_an_hour_is_given_up_early(client: Client) -> None:
    content = bomb()
    assert len(content) < 1_000_000
    began = time.monotonic()
    status, answer = client.json("POST", "/v1/recognize", content)
    assert (status, answer) == (413, {"error": "the recording lasts more than 600 s"})
    assert time.monotonic() - began < 60


def test_a_file_of_a_thousand_channels_is_refused(client: Client) -> None:
    status, answer = client.json("POST", "/v1/recognize", many_channels())
    assert status == 400
    assert "channels" in answer["error"]


def test_an_endless_upload_is_cut_off(client: Client) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(1000):
            yield bytes(100_000)

    try:
        assert client.request("POST", "/v1/recognize", endless())[0] == 413
    except ConnectionError:  # it was closed while we were still sending
        assert client.metric('digits_uploads_total{status="413"}') == 1


def test_an_upload_that_never_ends_is_given_up(serve: Serve) -> None:
    with serve(idle_s=0.5) as client:
        with closing(socket.create_connection(("127.0.0.1", client.port), timeout=10)) as raw:
            raw.sendall(b"POST /v1/recognize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nRIFF")
            assert b"408" in raw.recv(1000)
        client.check()


# ---- the command


@pytest.fixture
def running(exported_model: Path, tmp_path: Path) -> Iterator[tuple[Any, Client]]:
    """The command in a process of its own, on any port."""
    process = start("web", "port=0", f"ckpt_path={exported_model}", f"voices={tmp_path / 'voices'}", "threshold=0")
    assert process.stdout is not None
    line = process.stdout.readline()
    (port,) = re.findall(r"^open http://localhost:(\d+) in a browser; Ctrl-C to stop\n$", line)
    yield process, Client(int(port))
    process.kill()
    process.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_command_serves_without_torch_until_it_is_interrupted(running: tuple[Any, Client], exported_model: Path) -> None:
    process, client = running
    client.check()
    libraries = Path(f"/proc/{process.pid}/maps").read_text()
    assert "onnxruntime" in libraries
    assert "torch" not in libraries
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert errors == f"model: {exported_model}\nstopped\n"
    assert process.returncode == 0


def test_a_port_that_is_taken_is_one_sentence(exported_model: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        done = shell("web", f"port={port}", f"ckpt_path={exported_model}")
    assert (done.returncode, done.stdout) == (1, "")
    expected = f"digits web: cannot listen on host=127.0.0.1 port={port}: Address already in use; port=0 takes any that is free\n"
    assert done.stderr == expected


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("port=70000", "port must be a whole number from 0 to 65535, got 70000"),
        ("streams=0", "streams must be a whole number"),
        ("speed=0.5", "speed must lie in [1, 10000], got 0.5"),
        ("hosts=digits.example.org", "hosts must be"),
        ("hosts=[digits.example.org:80]", "hosts must be"),
        ("hosts=['*.example.org']", "hosts must be"),
        ("host=no.such.host.invalid", "cannot listen on host=no.such.host.invalid port=8000"),
        ("ckpt_path=nowhere.onnx", "nowhere.onnx: no such model"),
        ("-m", "-m and --multirun are only for digits train"),
    ],
)
def test_impossible_settings_are_one_sentence(setting: str, message: str) -> None:
    done = shell("web", setting)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"digits web: {message}")
    assert done.stderr.count("\n") == 1


def test_the_voices_of_a_folder_of_recordings_can_be_used(serve: Serve, exported_model: Path, tmp_path: Path) -> None:
    write_corpus(tmp_path / "recordings", takes=2, speakers=("ann",))
    voices = tmp_path / "voices"
    done = shell("enroll", "name=ann", f"root={tmp_path / 'recordings'}", f"voices={voices}", f"ckpt_path={exported_model}")
    assert done.returncode == 0, done.stderr
    with serve() as client:
        assert heard(client.hear([3, 8], f"sample_rate={RATE}&voice=ann")) == [3, 8]
