"""Streams of sound over WebSockets: how many, how fast, how long, and how each ends."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocket, WebSocketDisconnect

from digits.recognition.recognizer import Recognizer
from digits.web.choices import Choices, RefusedError, parse_threshold, sentence
from digits.web.metrics import Metrics
from digits.web.stream import Message, Stream

BURST_S = 10.0  # sound that may come at once, after a pause of the network
MAX_MESSAGE_BYTES = 2**19  # one second at the highest rate has 384,000
REASON_BYTES = 123  # of a close reason (RFC 6455, 5.5)
NORMAL, POLICY, TRY_LATER = 1000, 1008, 1013  # close codes (RFC 6455, 7.4.1, and its registry)


@dataclass(frozen=True)
class Limits:
    """What the server takes from its visitors.

    Args:
        streams: streams at the same time.
        idle_s: a stream that sends nothing, or nothing but zeros, for so long is closed; so is one that does not read its answers.
        speed: a stream may come this many times as fast as it was recorded.
        upload_mb: size of a recording that is sent by HTTP, in millions of bytes.
        upload_s: its length.
    """

    streams: int = 100
    idle_s: float = 120.0
    speed: float = 2.0
    upload_mb: float = 20.0
    upload_s: float = 600.0


@dataclass(frozen=True)
class Ending:
    """Why a stream ends: a close code, a word for the metrics, and a sentence for the visitor."""

    code: int
    why: str
    text: str = ""


class Sockets:
    """Accepts up to ``limits.streams`` streams and runs each until it ends; page/openapi.json documents their messages."""

    def __init__(self, choices: Choices, limits: Limits, metrics: Metrics) -> None:
        self.choices, self.limits, self.metrics = choices, limits, metrics
        self._n_open = 0

    async def serve(self, socket: WebSocket) -> None:
        """One stream, from its beginning to its end."""
        await socket.accept()
        ending = Ending(TRY_LATER, "full", f"all {self.limits.streams} streams are in use: try again later")
        if self._n_open < self.limits.streams:
            with self._counted():
                ending = await self._converse(socket)
        self.metrics.closed.labels(ending.why).inc()
        with contextlib.suppress(RuntimeError, WebSocketDisconnect, TimeoutError):  # it may have gone
            async with asyncio.timeout(1):
                if ending.text:
                    await socket.send_json({"type": "error", "text": ending.text})
                await socket.close(ending.code, ending.text.encode()[:REASON_BYTES].decode(errors="ignore"))

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        self._n_open += 1
        self.metrics.open.set(self._n_open)
        try:
            yield
        finally:
            self._n_open -= 1
            self.metrics.open.set(self._n_open)

    async def _converse(self, socket: WebSocket) -> Ending:
        query = socket.query_params
        try:
            stream = self.choices.stream(query)
            async with asyncio.timeout(self.limits.idle_s) as timeout:
                with self.choices.teaching(stream, query) as teach:
                    await self._answer_all(socket, stream, timeout)
                    if teach and stream.prompt and stream.prompt.complete:
                        lesson = await run_in_threadpool(teach)
                        await self._send(socket, [{"type": "enrolled", **lesson.facts()}])
        except (RefusedError, ValueError, OSError) as error:
            if isinstance(error, TimeoutError):
                return Ending(POLICY, "idle", f"nothing came, or nothing was read, for {self.limits.idle_s:g} s")
            return Ending(POLICY, "refused", sentence(error))
        except WebSocketDisconnect:
            return Ending(NORMAL, "left")
        return Ending(NORMAL, "ended")

    async def _answer_all(self, socket: WebSocket, stream: Stream, timeout: asyncio.Timeout) -> None:
        """Answer all messages. Each one restarts the timeout, within which its answers must be read and the next must come."""
        about = {"type": "ready", "model": self.choices.name, "threshold": stream.recognizer.threshold}
        await self._send(socket, [about])
        async for content in self._received(socket, stream):
            self._renew(timeout)
            await self._send(socket, stream.finish() if content is None else stream.feed(content))
            if stream.prompt and stream.prompt.done:
                return

    def _renew(self, timeout: asyncio.Timeout) -> None:
        now, ends = asyncio.get_running_loop().time(), timeout.when()
        if ends is None or ends - now < 0.9 * self.limits.idle_s:  # not for every message, which would cost more than the rest
            timeout.reschedule(now + self.limits.idle_s)

    async def _received(self, socket: WebSocket, stream: Stream) -> AsyncIterator[bytes | None]:
        """Sound, and None at its end; settings that come in between are applied."""
        began = time.monotonic()
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect
            if (content := message.get("bytes")) is not None:
                yield content
                if stream.seconds > BURST_S + self.limits.speed * (time.monotonic() - began):
                    raise RefusedError(f"sound came more than {self.limits.speed:g} times as fast as it was recorded")
                if stream.zeros_s > self.limits.idle_s:
                    raise RefusedError(f"nothing but zeros came for {self.limits.idle_s:g} s: the microphone may be muted")
            elif _apply(message["text"], stream.recognizer):
                yield None
                return

    async def _send(self, socket: WebSocket, messages: list[Message]) -> None:
        for message in messages:
            self.metrics.count(message)
            try:
                await socket.send_text(json.dumps(message, separators=(",", ":")))
            except RuntimeError as error:  # the other side has closed
                raise WebSocketDisconnect from error


def _apply(text: str, recognizer: Recognizer) -> bool:
    """Apply a text message of a visitor; returns True if it ends the stream."""
    with contextlib.suppress(ValueError, RecursionError):
        message = json.loads(text)
        if message == {"end": True}:
            return True
        if isinstance(message, dict) and message.keys() == {"threshold"}:
            recognizer.threshold = parse_threshold(message["threshold"])
            return False
    raise RefusedError('a text must be {"threshold": NUMBER} or {"end": true}')
