"""A real server in this process, on a port of its own, for the tests of its endpoints."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from clients import Client
from support import wait_until

from digits.live.voices import Voices
from digits.recognition.recognizer import Recognizer
from digits.web.__main__ import configured, listening
from digits.web.choices import Choices
from digits.web.server import Server
from digits.web.sockets import Limits

Serve = Callable[..., AbstractContextManager[Client]]


@pytest.fixture
def serve(exported_model: Path, tmp_path: Path) -> Serve:
    """``with serve(streams=2) as client:`` talks to a server with these limits; voices are kept in ``tmp_path / "voices"``."""

    @contextlib.contextmanager
    def run(voices: bool = True, hosts: tuple[str, ...] = (), **limits: Any) -> Iterator[Client]:
        recognizer = Recognizer.load(exported_model, 0.0)
        choices = Choices(recognizer, str(exported_model), True, Voices(tmp_path / "voices") if voices else None)
        server = Server(choices, Limits(**limits), hosts)
        engine = uvicorn.Server(configured(server))
        with listening("127.0.0.1", 0) as opened:
            thread = threading.Thread(target=engine.run, args=([opened],), daemon=True)
            thread.start()
            wait_until(lambda: engine.started)
            try:
                yield Client(opened.getsockname()[1])
            finally:
                engine.should_exit = True
                thread.join(20)
                assert not thread.is_alive()

    return run


@pytest.fixture
def client(serve: Serve) -> Iterator[Client]:
    """Talks to a server with the usual limits; in the end, it must still work for others."""
    with serve() as client:
        yield client
        client.check()
