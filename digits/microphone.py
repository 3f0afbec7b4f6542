"""Blocks of sound from a microphone through PortAudio, and from a file in its place."""

import os
import queue
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # listing devices needs no torch, which takes a second to import
    from torch import Tensor

FIRST_BLOCK_S = 5.0  # a sound server can take seconds to start a stream
NEXT_BLOCK_S = 2.0
CLOSE_S = 2.0
INSTALL = (
    "PortAudio is missing: install it (Debian, Ubuntu: apt-get install libportaudio2; macOS and Windows: pip's sounddevice has it)"
)


class MicrophoneError(OSError):
    """No sound can be had from a microphone; the message says why and what to do."""


def _sounddevice() -> Any:
    try:
        import sounddevice
    except OSError as error:
        raise MicrophoneError(INSTALL) from error
    return sounddevice


def input_devices() -> list[dict[str, Any]]:
    """PortAudio's devices that have inputs: ``index``, ``name``, ``default_samplerate`` and more.

    Raises:
        MicrophoneError: PortAudio is missing.
    """
    return [device for device in _sounddevice().query_devices() if device["max_input_channels"] > 0]


def describe_devices() -> str:
    """A line a device, the default one marked with ``*``."""
    default = _sounddevice().default.device[0]
    lines = [
        f"{'*' if device['index'] == default else ' '} {device['index']:>3}  {device['name']}  "
        f"({device['default_samplerate']:.0f} Hz, {device['max_input_channels']} channels)"
        for device in input_devices()
    ]
    return "\n".join(lines) or "no input device"


def find_device(device: int | str | None) -> dict[str, Any]:
    """The input device of that number, or with that text in its name (case ignored), or the default one.

    Raises:
        MicrophoneError: no such device, or several.
    """
    devices = input_devices()
    if not devices:
        raise MicrophoneError("no microphone: the system has no input device; input=FILE replays a recording instead")
    if device is None:
        device = int(_sounddevice().default.device[0])
        if device < 0:
            device = devices[0]["index"]
    if isinstance(device, int):
        found = [candidate for candidate in devices if candidate["index"] == device]
    else:
        found = [candidate for candidate in devices if device.lower() in candidate["name"].lower()]
        found = [candidate for candidate in found if candidate["name"].lower() == device.lower()] or found
    if len(found) != 1:
        problem = "several input devices match" if found else "no input device matches"
        raise MicrophoneError(f"{problem} device={device}; there are: {', '.join(_label(d) for d in found or devices)}")
    return found[0]


def _label(device: dict[str, Any]) -> str:
    return f"{device['index']} ({device['name']})"


def read_blocks(waveform: "Tensor", block_length: int) -> "Iterator[Tensor]":
    """A recording as the blocks a microphone would have given."""
    for start in range(0, len(waveform), block_length):
        yield waveform[start : start + block_length]


@contextmanager
def open_microphone(device: dict[str, Any], block_ms: float) -> "Iterator[Iterator[Tensor]]":
    """Open a device at its own rate (many refuse any other); the context is an endless iterator of mono blocks.

    Raises:
        MicrophoneError: it cannot be opened; while iterating, no block came for :data:`NEXT_BLOCK_S` seconds.
    """
    import torch

    sounddevice = _sounddevice()
    sample_rate = int(device["default_samplerate"])
    blocks: queue.SimpleQueue[Tensor] = queue.SimpleQueue()

    def take(samples: Any, frames: int, time: Any, status: Any) -> None:
        blocks.put(torch.from_numpy(samples.mean(axis=1)))  # mean copies; PortAudio reuses its buffer

    try:
        stream = sounddevice.InputStream(
            samplerate=sample_rate,
            blocksize=round(block_ms / 1000 * sample_rate),
            device=device["index"],
            channels=min(2, device["max_input_channels"]),
            dtype="float32",
            callback=take,
        )
        stream.start()
    except sounddevice.PortAudioError as error:
        raise MicrophoneError(f"{_label(device)} cannot be opened ({error}); list_devices=true shows the others") from error
    try:
        yield _blocks(blocks, _label(device))
    finally:
        _close(stream)


def _blocks(blocks: "queue.SimpleQueue[Tensor]", label: str) -> "Iterator[Tensor]":
    patience_s = FIRST_BLOCK_S
    while True:
        try:
            yield blocks.get(timeout=patience_s)
        except queue.Empty:
            raise MicrophoneError(f"no sound has come from {label} for {patience_s:.0f} s: is it unplugged?") from None
        patience_s = NEXT_BLOCK_S


def _close(stream: Any) -> None:
    """Close a stream, also one whose server has died: PortAudio then hangs for good, and again at exit."""
    closing = threading.Thread(target=stream.close, daemon=True)
    closing.start()
    closing.join(CLOSE_S)
    if closing.is_alive():
        error = sys.exc_info()[1]
        print(f"digits.mic: {error or 'the sound system does not answer'}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


def read_file(path: str | Path, block_ms: float) -> "tuple[Iterator[Tensor], int]":
    """Blocks and sample rate of a recording.

    Raises:
        ValueError, FileNotFoundError: as :func:`digits.audio.read`.
    """
    from digits import audio

    waveform, sample_rate = audio.read(path)
    return read_blocks(waveform, max(1, round(block_ms / 1000 * sample_rate))), sample_rate
