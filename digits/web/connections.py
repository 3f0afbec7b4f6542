"""Connections that say nothing are closed, or a few hundred of them would leave no room for visitors."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

SILENT_S = 10.0  # before the first byte of a request


class Connection(H11Protocol):
    """uvicorn's HTTP/1.1, with a limit of :data:`SILENT_S`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._silence = self.loop.call_later(SILENT_S, transport.close)

    def data_received(self, data: bytes) -> None:
        self._silence.cancel()
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._silence.cancel()
        super().connection_lost(exc)
