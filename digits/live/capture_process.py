"""Writes a microphone's samples to stdout: ``python -P capture_process.py INDEX SAMPLE_RATE BLOCK_LENGTH CHANNELS``.

:mod:`digits.live.microphone` runs this as a separate process, because PortAudio hangs for good when its sound server dies, and sees
new devices only when it starts. Each block is a header (:data:`HEADER`) followed by its samples, mono, float32.
"""

import math
import queue
import signal
import struct
import sys
import time
from typing import Any

HEADER = struct.Struct("=IId")  # number of samples, overruns so far, time.monotonic() at its end: one clock for all processes
QUEUED_S = 180.0  # of sound kept for a reader that is slow or suspended (35 MB); what comes after it is lost, and counted


def capture(index: int, sample_rate: int, block_length: int, channels: int) -> None:
    """Write blocks until stdout is closed."""
    blocks: queue.Queue[tuple[int, float, bytes]] = queue.Queue(math.ceil(QUEUED_S * sample_rate / block_length))
    overruns = 0

    def take(samples: Any, frames: int, times: Any, status: Any) -> None:
        nonlocal overruns
        overruns += bool(status.input_overflow)
        try:
            blocks.put_nowait((overruns, time.monotonic(), samples.mean(axis=1).tobytes()))
        except queue.Full:
            overruns += 1

    import sounddevice

    stream = sounddevice.InputStream(
        samplerate=sample_rate, blocksize=block_length, device=index, channels=channels, dtype="float32", callback=take
    )
    with stream:
        while True:
            lost, taken, samples = blocks.get()
            sys.stdout.buffer.write(HEADER.pack(len(samples) // 4, lost, taken) + samples)
            sys.stdout.buffer.flush()


def main() -> int:
    import sounddevice

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    if hasattr(signal, "SIGTSTP"):
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)  # Ctrl-Z suspends the parent; what is said meanwhile waits for it
    try:
        capture(*(int(argument) for argument in sys.argv[1:5]))
    except (sounddevice.PortAudioError, OSError) as error:  # no such device, or the parent has gone
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
