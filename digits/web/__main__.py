"""Hear spoken digits in the browser: ``digits web``, or ``python -m digits.web``."""

import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from digits import cli, settings

if TYPE_CHECKING:
    import uvicorn

    from digits.live.voices import Voices
    from digits.web.server import Server

THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    cli.refuse_multirun("digits web")
    cli.run(job, "digits web")


@hydra.main(version_base="1.3", config_path=cli.CONF, config_name="web")
def job(cfg: DictConfig) -> None:
    serve(cfg)


def serve(cfg: DictConfig) -> None:
    """Serve the page until the program is interrupted.

    Raises:
        ValueError, OSError: no model, an impossible setting, or an address that cannot be used, named in the message.
    """
    settings.check(cfg, settings.WEB)
    try:
        import uvicorn
        import websockets  # noqa: F401 - uvicorn would miss it only when a stream opens

        from digits.web.choices import Choices
        from digits.web.server import Server
        from digits.web.sockets import Limits
    except ModuleNotFoundError as error:
        raise ValueError(cli.not_installed(error, cli.EXTRAS["web"])) from error
    from digits.recognition.recognizer import Recognizer
    from digits.training import runs

    ckpt_path, note = (cfg.ckpt_path, "") if cfg.ckpt_path else runs.choose_model(cfg.outputs, cfg.prefer)
    choices = Choices(Recognizer.load(ckpt_path, cfg.threshold), str(ckpt_path), cfg.isolated, _voices(cfg))
    limits = Limits(cfg.streams, cfg.idle_s, cfg.speed, cfg.upload_mb, cfg.upload_s)
    with listening(cfg.host, cfg.port) as opened:
        print(f"model: {ckpt_path}{note and f' ({note})'}", file=sys.stderr)
        print(f"open http://{_name(cfg.host)}:{opened.getsockname()[1]} in a browser; Ctrl-C to stop", flush=True)
        try:
            uvicorn.Server(configured(Server(choices, limits, (*cfg.hosts, cfg.host)))).run([opened])
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)


def configured(server: "Server") -> "uvicorn.Config":
    """How uvicorn runs the server."""
    import uvicorn

    from digits.web.connections import Connection
    from digits.web.sockets import MAX_MESSAGE_BYTES

    return uvicorn.Config(
        server.app,
        http=Connection,
        log_level="warning",
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,  # sound hardly compresses
        limit_concurrency=2 * server.limits.streams + 100,
        timeout_graceful_shutdown=2,
        server_header=False,
    )


def _voices(cfg: DictConfig) -> "Voices | None":
    from digits.live.voices import Voices

    folder = cfg.voices
    if folder == "auto":  # not for visitors from elsewhere, who would see and delete each other's
        folder = Path(cfg.outputs) / "voices" if cfg.host in THIS_MACHINE and not cfg.hosts else None
    return None if folder is None else Voices(folder)


def listening(host: str, port: int) -> socket.socket:
    """A socket that takes connections.

    Raises:
        OSError: the address cannot be used.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        found = not isinstance(error, socket.gaierror) and error.errno
        reason = os.strerror(found) if found else error.strerror  # the former without what Python adds to it
        raise OSError(f"cannot listen on host={host} port={port}: {reason}; port=0 takes any that is free") from error


def _name(host: str) -> str:
    if host in (*THIS_MACHINE, "0.0.0.0", "::"):  # noqa: S104
        return "localhost"
    return f"[{host}]" if ":" in host else host


if __name__ == "__main__":
    main()
