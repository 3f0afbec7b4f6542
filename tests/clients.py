"""A client of ``digits web`` for its tests: HTTP by http.client, streams by the websockets package."""

import http.client
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy
from support import spoken
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from digits import audio

RATE = 16_000
Message = dict[str, Any]


def samples(waveform: Iterable[float] | numpy.ndarray) -> bytes:
    """16-bit samples, as a browser sends them."""
    return (numpy.clip(numpy.asarray(waveform), -1, 1) * 32767).round().astype("<i2").tobytes()


def sentence(digits: Iterable[int], rate: int = RATE, gap_s: float = 0.6) -> numpy.ndarray:
    """Words of the tiny corpus with pauses between them and a faint noise floor."""
    parts: list[numpy.ndarray] = [numpy.zeros(rate // 2)]
    for digit in digits:
        parts += [audio.resample(spoken(digit, 0, 50), 8000, rate), numpy.zeros(round(gap_s * rate))]
    sound = numpy.concatenate(parts)
    return sound + 2e-4 * numpy.random.default_rng(0).standard_normal(len(sound))


def blocks(content: bytes, rate: int = RATE, seconds: float = 0.1) -> Iterator[bytes]:
    """The content as the messages of a stream."""
    size = 2 * round(seconds * rate)
    for start in range(0, len(content), size):
        yield content[start : start + size]


@dataclass(frozen=True)
class Client:
    """Of the server at this port of this machine."""

    port: int

    def request(
        self, method: str, path: str, body: bytes | Iterable[bytes] | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes, dict[str, str]]:
        """Status, content and headers of an answer."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}

    def json(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        status, content, _ = self.request(method, path, body, headers)
        return status, json.loads(content)

    def metric(self, name: str) -> float:
        """The value of a line of ``/metrics``; 0 if there is none."""
        text = self.request("GET", "/metrics")[1].decode()
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    @contextmanager
    def stream(self, query: str = f"sample_rate={RATE}", **options: Any) -> Iterator[ClientConnection]:
        address = f"ws://127.0.0.1:{self.port}/v1/stream?{query}"
        with connect(address, max_size=None, max_queue=None, compression=None, **options) as connection:
            yield connection

    def hear(self, digits: Iterable[int], query: str = f"sample_rate={RATE}") -> list[Message]:
        """What a stream answers to words; it is ended properly."""
        with self.stream(query) as connection:
            for block in blocks(samples(sentence(digits))):
                connection.send(block)
            connection.send('{"end": true}')
            return list(received(connection))

    def check(self) -> None:
        """A client that means well is served."""
        heard = [message for message in self.hear([3, 8]) if message["type"] == "heard"]
        assert [(message["digit"], message["accepted"]) for message in heard] == [(3, True), (8, True)]


def received(connection: ClientConnection) -> Iterator[Message]:
    """All messages until the server closes."""
    try:
        while True:
            yield json.loads(connection.recv(timeout=30))
    except ConnectionClosed:
        return


def ending(connection: ClientConnection) -> tuple[int, str, list[Message]]:
    """The close code, the reason, and what came before."""
    messages = list(received(connection))
    return connection.close_code or 0, connection.close_reason or "", messages
