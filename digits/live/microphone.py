"""Blocks of sound from a microphone, through PortAudio, or from a file in its place."""

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digits.live import capture_process

if TYPE_CHECKING:  # the process that lists the devices anew starts sooner without
    from digits.audio import Waveform

FIRST_BLOCK_S = 5.0  # a sound server can take seconds to start a stream
NEXT_BLOCK_S = 2.0
SLICE_S = 0.1  # of waiting, see Microphone._read
RETRY_S = 1.0
RECEIVED = 100  # blocks at most in this process; the others wait in the capture process, which counts those it loses
INSTALL = (
    "PortAudio is missing: install it (Debian, Ubuntu: apt-get install libportaudio2; macOS and Windows: pip's sounddevice has it)"
)


class MicrophoneError(OSError):
    """A microphone delivers no sound; the message says why and what to do."""


def _sounddevice() -> Any:
    try:
        import sounddevice
    except OSError as error:
        raise MicrophoneError(INSTALL) from error
    except ImportError as error:
        raise MicrophoneError("a microphone needs sounddevice: pip install '.[live]'") from error
    return sounddevice


def input_devices() -> list[dict[str, Any]]:
    """PortAudio's devices that have inputs: ``index``, ``name``, ``default_samplerate`` and more.

    Raises:
        MicrophoneError: PortAudio is missing.
    """
    return [device for device in _sounddevice().query_devices() if device["max_input_channels"] > 0]


def describe_devices() -> str:
    """One line per device, with a ``*`` before the default one."""
    default = _sounddevice().default.device[0]
    lines = [
        f"{'*' if device['index'] == default else ' '} {device['index']:>3}  {device['name']}  "
        f"({device['default_samplerate']:.0f} Hz, {device['max_input_channels']} channels)"
        for device in input_devices()
    ]
    return "\n".join(lines) or "no input device"


def find_device(device: int | str | None) -> dict[str, Any]:
    """The input device with that number, or with that text in its name (ignoring case), or the default one.

    Raises:
        MicrophoneError: no device matches, or several do.
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


def read_blocks(waveform: "Waveform", block_length: int) -> "Iterator[Waveform]":
    """A recording in the blocks that a microphone would have delivered."""
    for start in range(0, len(waveform), block_length):
        yield waveform[start : start + block_length]


class Microphone:
    """An endless iterator of mono blocks, shape (samples,), at the device's own sample rate, since many devices refuse any other.

    If the device disappears, the user is told once, and the iterator waits until a device of that name is back. Sound from the
    time in between is missing.

    Args:
        device: one of :func:`input_devices`.
        block_ms: length of a block.
        say: called with a sentence on what happens to the device.
    """

    def __init__(self, device: dict[str, Any], block_ms: float, say: "Callable[[str], None]") -> None:
        self.device, self.say = device, say
        self.sample_rate = int(device["default_samplerate"])
        self.block_length = max(1, round(block_ms / 1000 * self.sample_rate))
        self.overruns = 0  # blocks lost because they came faster than they were heard
        self._before = 0  # of these, in earlier capture processes
        self.backlog_s = 0.0  # age of the latest block when it was taken
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Microphone":
        """Open the device.

        Raises:
            MicrophoneError: it cannot be opened, or delivers nothing.
        """
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def __iter__(self) -> "Iterator[Waveform]":
        import numpy

        while True:
            block = self._read(NEXT_BLOCK_S)
            if block is None:
                self._reopen()
            else:
                yield numpy.frombuffer(block, dtype=numpy.float32)

    def _open(self) -> None:
        arguments = [self.device["index"], self.sample_rate, self.block_length, min(2, self.device["max_input_channels"])]
        self._process = subprocess.Popen(
            [sys.executable, "-P", capture_process.__file__, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._blocks: queue.Queue[tuple[int, float, bytes] | None] = queue.Queue(RECEIVED)
        self._receiver = threading.Thread(target=_receive, args=(self._process, self._blocks), daemon=True)
        self._receiver.start()
        first = self._read(FIRST_BLOCK_S)
        if first is None:
            reason = self._close() or f"no sound for {FIRST_BLOCK_S:.0f} s"
            raise MicrophoneError(f"{_label(self.device)} cannot be opened ({reason}); list_devices=true shows the others")

    def _read(self, patience_s: float) -> bytes | None:
        """The next block, or None if none comes in time.

        The time in which this process is suspended does not count: a slice ends when it goes on, and the sound is waiting.
        """
        for _ in range(round(patience_s / SLICE_S)):
            with contextlib.suppress(queue.Empty):
                received = self._blocks.get(timeout=SLICE_S)
                if received is None:
                    return None
                overruns, taken, samples = received
                self.overruns, self.backlog_s = self._before + overruns, max(0.0, time.monotonic() - taken)
                return samples
        return None

    def _close(self) -> str:
        """End the capture process and return the last line of its error output."""
        assert self._process is not None
        assert self._process.stderr is not None
        self._process.kill()
        while self._receiver.is_alive():  # it may be waiting for room
            with contextlib.suppress(queue.Empty):
                self._blocks.get(timeout=SLICE_S)
        errors = self._process.stderr.read()  # stdout belongs to the receiving thread
        self._process.wait()
        self._before = self.overruns
        return errors.decode(errors="replace").strip().rpartition("\n")[2]

    def _reopen(self) -> None:
        name = self.device["name"]
        self.say(f"no sound from {name} for {NEXT_BLOCK_S:.0f} s: is it unplugged? Waiting for it to come back")
        self._close()
        while True:
            time.sleep(RETRY_S)
            found = [device for device in _ask_for_devices() if device["name"] == name]
            if found and found[0]["default_samplerate"] == self.sample_rate:
                self.device = found[0]
                with contextlib.suppress(MicrophoneError):
                    self._open()
                    self.say(f"{name} is back")
                    return


@contextlib.contextmanager
def opened(
    recording: str | None, device: int | str | None, block_ms: float, say: "Callable[[str], None]"
) -> "Iterator[tuple[Iterable[Waveform], int, str]]":
    """A recording if there is one, else a microphone: its blocks, sample rate and name; see :class:`Microphone`.

    Raises:
        ValueError, OSError: as :func:`digits.audio.stream`, :func:`find_device` and :class:`Microphone`.
    """
    if recording is not None:
        yield *read_file(recording, block_ms), recording
    else:
        with Microphone(find_device(device), block_ms, say) as opened:
            yield opened, opened.sample_rate, opened.device["name"]


def _receive(process: "subprocess.Popen[bytes]", blocks: "queue.Queue[tuple[int, float, bytes] | None]") -> None:
    """Move blocks from the process into the queue; None says that it has ended."""
    assert process.stdout is not None
    while len(header := process.stdout.read(capture_process.HEADER.size)) == capture_process.HEADER.size:
        length, overruns, taken = capture_process.HEADER.unpack(header)
        if len(samples := process.stdout.read(4 * length)) < 4 * length:  # it was killed while it was writing
            break
        blocks.put((overruns, taken, samples))
    blocks.put(None)


def _ask_for_devices() -> list[dict[str, Any]]:
    """The input devices at this moment. PortAudio only knows those present when it started, so a new process asks it."""
    code = "import json; from digits.live import microphone; print(json.dumps(microphone.input_devices()))"
    with contextlib.suppress(subprocess.TimeoutExpired, json.JSONDecodeError):
        folder = Path(__file__).parent.parent.parent  # where the package is, installed or not
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=FIRST_BLOCK_S, cwd=folder)
        devices: list[dict[str, Any]] = json.loads(done.stdout or "[]")
        return devices
    return []


def read_file(path: str | Path, block_ms: float) -> "tuple[Iterator[Waveform], int]":
    """The blocks of a recording and its sample rate.

    Raises:
        ValueError, OSError: as :func:`digits.audio.stream`.
    """
    from digits import audio

    parts, sample_rate = audio.stream(path)
    length = max(1, round(block_ms / 1000 * sample_rate))
    return (block for part in parts for block in read_blocks(part, length)), sample_rate
