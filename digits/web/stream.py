"""One visitor's stream of sound, as bytes in and messages out; it knows nothing of the network."""

import base64
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy
from numpy.typing import NDArray

from digits import audio
from digits.audio import Waveform
from digits.live.listener import Heard, Listener, Meter
from digits.live.prompt import Prompt
from digits.live.recorder import wav
from digits.live.segmenter import Segmenter, Word
from digits.recognition.recognizer import Recognizer

Message = dict[str, Any]  # with a "type", ready for JSON

MAX_BLOCK_S = 1.0
MAX_RATE_HZ = 192_000
SHOWN_DB = 60.0  # of a log-mel picture, below its loudest value; as in digits.features.LogMel
GAP_S = 2.0  # a block that is later than this follows sound that was never sent
DRIFT = 1e-3  # how much slower than ours a sound card's clock may run; ten times what is common


class Stream:
    """Hears digits in blocks of 16-bit samples (little-endian, mono), in the order in which they were recorded.

    Args:
        recognizer: judges the words.
        sample_rate: of the samples, Hz.
        isolated: reject digits in the middle of other speech.
        details: add the recording and its log-mel to what was heard.
        clock: seconds; the waiting time of blocks is measured by it.

    Raises:
        ValueError: the sample rate is below :data:`digits.audio.MIN_RATE_HZ` or above :data:`MAX_RATE_HZ`.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        sample_rate: int,
        isolated: bool = True,
        details: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not audio.MIN_RATE_HZ <= sample_rate <= MAX_RATE_HZ:
            raise ValueError(f"sample_rate must be {audio.MIN_RATE_HZ} to {MAX_RATE_HZ} Hz, got {sample_rate}")
        # a recogniser of its own, because the visitor can change its threshold
        self._model = Observed(recognizer.model) if details else recognizer.model
        self.recognizer = Recognizer(recognizer.window, self._model, recognizer.threshold)
        self.sample_rate, self.clock = sample_rate, clock
        self.prompt: Prompt | None = None  # asks for digits, if the visitor wants to teach a voice
        segmenter = Segmenter(sample_rate)
        self._listener = Listener(segmenter, self.recognizer, isolated=isolated, record=self._record)
        self._meter = Meter(segmenter, self)
        self._words: deque[Word] = deque()  # what the listener is about to return
        self._messages: list[Message] = []
        self._began = math.inf  # when the sound began, if its fastest block took no time to arrive

    @property
    def seconds(self) -> float:
        """Seconds of sound that have come in."""
        return self._meter.samples / self.sample_rate

    @property
    def zeros_s(self) -> float:
        """How long nothing but zeros has come."""
        return self._meter.zeros_s

    def feed(self, content: bytes) -> list[Message]:
        """Take the next samples and return what is to be told: levels, warnings and sounds.

        Raises:
            ValueError: the content is not whole 16-bit samples, or more than :data:`MAX_BLOCK_S`.
        """
        if len(content) % 2 or not 2 <= len(content) <= 2 * MAX_BLOCK_S * self.sample_rate:
            raise ValueError(f"a message must hold 16-bit samples, at most {MAX_BLOCK_S:g} s of them; got {len(content)} bytes")
        block = numpy.frombuffer(content, dtype="<i2").astype(numpy.float32) / numpy.float32(32768)
        waited_s = self._waited_s(len(block))
        sounds = self._listener.hear(block, waited_s)
        for heard in sounds:
            self._tell(heard)
        self._meter.read(block)
        if sounds and self.prompt and not self.prompt.done:
            self.prompt.ask(self.seconds)
        return self._take()

    def finish(self) -> list[Message]:
        """The sounds still going on when the stream ends."""
        for heard in self._listener.finish():
            self._tell(heard)
        return self._take()

    def level(self, level_db: float, floor_db: float, threshold_db: float, overruns: int) -> None:
        levels = {"level_db": level_db, "floor_db": floor_db, "threshold_db": threshold_db}
        self._messages.append({"type": "level", **{name: round(value, 1) for name, value in levels.items()}})

    def only_zeros(self) -> None:
        self._messages.append({"type": "only_zeros"})

    def ask(self, question: str) -> None:
        """Ask the visitor to say something."""
        self._messages.append({"type": "ask", "text": question})

    def say(self, text: str) -> None:
        """Tell the visitor something."""
        self._messages.append({"type": "note", "text": text})

    def _record(self, word: Word, heard: Heard) -> None:
        self._words.append(word)
        if self.prompt:
            self.prompt(word, heard)

    def _waited_s(self, samples: int) -> float:
        """How late this block is, compared with the most punctual one so far."""
        length_s = samples / self.sample_rate
        began = self.clock() - self.seconds - length_s
        self._began = began if began > self._began + GAP_S else min(self._began + DRIFT * length_s, began)
        return began - self._began

    def _tell(self, heard: Heard) -> None:
        word = self._words.popleft()
        facts = vars(replace(heard, prediction=None)) | {
            "probabilities": heard.prediction.probabilities if heard.prediction else None,
        }
        del facts["prediction"], facts["overruns"]
        if isinstance(self._model, Observed):
            log_mel = self._model.log_mels.popleft() if heard.prediction else None
            facts |= details(word.waveform, word.sample_rate, log_mel)
        self._messages.append({"type": "heard", **facts})

    def _take(self) -> list[Message]:
        messages, self._messages = self._messages, []
        return messages


class Observed:
    """A model from a file, whose log-mels are kept until they are taken, in the order in which it was asked.

    Those of a file of an older ``digits export`` are None.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self.log_mels: deque[NDArray[numpy.float32] | None] = deque()

    def __call__(self, windows: NDArray[numpy.float32]) -> NDArray[numpy.float32]:
        outputs: dict[str, NDArray[numpy.float32]] = self._model.outputs(windows)
        self.log_mels += [log_mel[0] for log_mel in outputs["log_mel"]] if "log_mel" in outputs else [None] * len(windows)
        return outputs["probabilities"]


def details(waveform: Waveform, sample_rate: int, log_mel: NDArray[numpy.float32] | None) -> dict[str, Any]:
    """What a page can play and show of a sound.

    Args:
        waveform: shape (samples,).
        sample_rate: Hz.
        log_mel: what the network saw of it, (n_mels, frames), dB; None if it saw nothing.

    Returns:
        ``wav``, the recording in base64, and of a log-mel, ``log_mel``: ``bands`` times ``frames`` bytes in base64, the lowest band
        first, from 0 for :data:`SHOWN_DB` below the loudest value to 255 for that value.
    """
    shown: dict[str, Any] = {"wav": base64.b64encode(wav(waveform, sample_rate)).decode()}
    if log_mel is None:
        return shown
    levels = numpy.clip(255 * (1 + (log_mel - log_mel.max()) / SHOWN_DB), 0, 255).round().astype(numpy.uint8)
    picture = {"bands": levels.shape[0], "frames": levels.shape[1], "levels": base64.b64encode(levels.tobytes()).decode()}
    return shown | {"log_mel": picture}
