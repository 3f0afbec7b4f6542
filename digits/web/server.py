"""The web server of ``digits web``: one page, a stream of sound per visitor, recordings by HTTP, and figures for monitoring."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from digits import __version__, audio
from digits.audio import Waveform
from digits.live.recording import sounds_in
from digits.recognition.recognizer import Recognizer
from digits.web.choices import Choices, RefusedError, sentence
from digits.web.metrics import Metrics
from digits.web.sockets import POLICY, Limits, Sockets
from digits.web.stream import MAX_RATE_HZ, Observed, details

PAGE = Path(__file__).parent / "page"
LOCAL = ("localhost", "127.0.0.1")
UPLOADS = 4  # recordings that are received or recognised at the same time; others wait
DETAILS_S = 60.0  # of sound whose details are told; more would be a hundred megabytes
HEADERS = {
    b"content-security-policy": b"default-src 'self'; media-src blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    b"permissions-policy": b"microphone=(self), camera=(), geolocation=()",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    b"cache-control": b"no-cache",  # a page of yesterday's version would not know today's messages
}


class Server:
    """The endpoints; :attr:`app` is the ASGI application.

    Args:
        choices: makes recognisers and streams for visitors.
        limits: what visitors may do.
        hosts: names by which the server is reached, besides this machine's own.
    """

    def __init__(self, choices: Choices, limits: Limits, hosts: tuple[str, ...] = ()) -> None:
        self.choices, self.limits, self.metrics = choices, limits, Metrics()
        self._sockets = Sockets(choices, limits, self.metrics)
        self._uploads = asyncio.Semaphore(UPLOADS)
        self.app = Starlette(
            routes=[
                Route("/healthz", self.health),
                Route("/metrics", self.show_metrics),
                Route("/v1/recognize", self.recognize, methods=["POST"]),
                Route("/v1/voices", self.list_voices),
                Route("/v1/voices/{name}", self.delete_voice, methods=["DELETE"]),
                WebSocketRoute("/v1/stream", self.stream),
                Mount("/", StaticFiles(directory=PAGE, html=True)),
            ],
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[*LOCAL, *hosts]), Middleware(_Headers)],
        )

    async def health(self, _: Request) -> JSONResponse:
        threshold = self.choices.default.threshold
        return JSONResponse({"status": "ok", "model": self.choices.name, "threshold": threshold, "version": __version__})

    async def show_metrics(self, _: Request) -> Response:
        return self.metrics.page()

    async def stream(self, socket: WebSocket) -> None:
        if _is_same_origin(socket.headers):
            await self._sockets.serve(socket)
        else:
            await socket.close(POLICY)  # before it is accepted: an answer of 403

    async def recognize(self, request: Request) -> JSONResponse:
        """A recording is the body of the request, and the answer tells what it holds."""
        try:
            _check_origin(request)
            recognizer = self.choices.recognizer(request.query_params)
            async with self._uploads:
                content = await self._body(request)
                answer = JSONResponse(await run_in_threadpool(self._heard, content, recognizer, "details" in request.query_params))
        except (RefusedError, ValueError, OSError, MemoryError, ClientDisconnect) as error:
            answer = _refusal(error)
        self.metrics.uploads.labels(answer.status_code).inc()
        return answer

    async def _body(self, request: Request) -> bytes:
        content = bytearray()
        try:
            async with asyncio.timeout(self.limits.idle_s):
                async for part in request.stream():
                    content += part
                    if len(content) > 1e6 * self.limits.upload_mb:
                        raise RefusedError(f"the recording has more than {self.limits.upload_mb:g} MB", 413)
        except TimeoutError:
            raise RefusedError(f"the recording did not arrive within {self.limits.idle_s:g} s", 408) from None
        if not content:
            raise RefusedError("the request has no body: send the recording itself, as curl --data-binary @seven.wav does")
        return bytes(content)

    def _heard(self, content: bytes, recognizer: Recognizer, detailed: bool) -> dict[str, list[dict[str, Any]]]:
        blocks, sample_rate = audio.stream("recording", content)
        if sample_rate > MAX_RATE_HZ:
            raise RefusedError(f"the recording has {sample_rate} samples per second, at most {MAX_RATE_HZ} are taken", 413)
        observed = Observed(recognizer.model)
        recognizer = Recognizer(recognizer.window, observed, recognizer.threshold)
        found: list[dict[str, Any]] = []
        told_s = 0.0
        for sound in sounds_in(recognizer, self._bounded(blocks, sample_rate), sample_rate):
            log_mel = observed.log_mels.popleft() if sound.prediction else None
            told_s += len(sound.waveform) / sample_rate
            found.append(sound.facts() | (details(sound.waveform, sample_rate, log_mel) if detailed and told_s < DETAILS_S else {}))
        return {"sounds": found}

    def _bounded(self, blocks: Iterator[Waveform], sample_rate: int) -> Iterator[Waveform]:
        samples = 0
        for block in blocks:
            samples += len(block)
            if samples > self.limits.upload_s * sample_rate:
                raise RefusedError(f"the recording lasts more than {self.limits.upload_s:g} s", 413)
            yield block

    async def list_voices(self, _: Request) -> JSONResponse:
        return JSONResponse({"voices": self.choices.names()})

    async def delete_voice(self, request: Request) -> JSONResponse:
        name = request.path_params["name"]
        try:
            _check_origin(request)
            self.choices.delete(name)
        except (RefusedError, ValueError, OSError) as error:
            return _refusal(error)
        return JSONResponse({"deleted": name})


def _refusal(error: Exception) -> JSONResponse:
    if isinstance(error, ClientDisconnect):
        return JSONResponse({"error": "the connection was lost"}, 400)
    status = 404 if isinstance(error, FileNotFoundError) else getattr(error, "status", 400)
    return JSONResponse({"error": sentence(error) or "too large for this machine's memory"}, status)


def _is_same_origin(headers: Mapping[str, str]) -> bool:
    """Whether the page that asks is ours; programs other than browsers name no origin."""
    origin = headers.get("origin")
    try:
        return origin is None or urlsplit(origin).netloc == headers.get("host")
    except ValueError:  # no address at all
        return False


def _check_origin(request: Request) -> None:
    if not _is_same_origin(request.headers):
        raise RefusedError("pages of other origins may not do this", 403)


class _Headers:
    """Adds :data:`HEADERS` to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def add(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS.items()]
            await send(message)

        await self.app(scope, receive, add)
