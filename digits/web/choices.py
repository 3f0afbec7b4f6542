"""What a visitor may choose, by the query of an address: a threshold, a voice, or to teach one."""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from digits import settings
from digits.live.prompt import Prompt
from digits.live.recorder import Recorder
from digits.live.voices import Lesson, Voices, check_learner
from digits.recognition import model_files, voice
from digits.recognition.recognizer import Recognizer
from digits.web.stream import Stream

ROUNDS = 3  # of the ten digits, to teach a voice
MAX_VOICES = 100


class RefusedError(Exception):
    """Something that a visitor may not do or send; the message says why.

    Args:
        status: the HTTP status code of the answer.
    """

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


class Choices:
    """Makes recognisers and streams as visitors want them.

    Args:
        recognizer: of those who choose nothing.
        model: its file, or ``pretrained``.
        isolated: reject digits in the middle of other speech.
        voices: that visitors can teach, use and delete; None if they cannot.
    """

    def __init__(self, recognizer: Recognizer, model: str, isolated: bool, voices: Voices | None) -> None:
        self.default, self.model, self.isolated, self._voices = recognizer, model, isolated, voices
        self._sha256 = voice.sha256(model_files.file_of(model))
        self._learning: set[str] = set()  # voices

    @property
    def name(self) -> str:
        """File name of the model, without its folder."""
        return Path(self.model).name

    @property
    def voices(self) -> Voices:
        """The voices that visitors may use.

        Raises:
            RefusedError: there are none.
        """
        if self._voices is None:
            raise RefusedError("this server keeps no voices", 403)
        return self._voices

    def names(self) -> list[str] | None:
        """Names of the voices; None if visitors may not use them."""
        return None if self._voices is None else self._voices.names()

    def recognizer(self, query: Mapping[str, str]) -> Recognizer:
        """A recogniser with the ``threshold`` and the ``voice`` in the query.

        Raises:
            RefusedError, ValueError, OSError: an impossible threshold, or no such voice.
        """
        model, threshold = self.default.model, self.default.threshold
        if "threshold" in query:
            threshold = parse_threshold(query["threshold"])
        if "voice" in query:
            model = self.voices.load(query["voice"], model, self._sha256)  # type: ignore[arg-type]  # it was loaded from a file
        return Recognizer(self.default.window, model, threshold)

    def stream(self, query: Mapping[str, str]) -> Stream:
        """A stream at the ``sample_rate`` in the query, with recordings and pictures if it holds ``details``.

        Raises:
            RefusedError, ValueError, OSError: as :meth:`recognizer`, or an impossible sample rate.
        """
        rate = query.get("sample_rate", "")
        if not (rate.isascii() and rate.isdecimal() and len(rate) < 10):
            raise RefusedError(f"sample_rate must be a whole number of hertz, got {rate[:20] or 'nothing'}")
        isolated = self.isolated and "enroll" not in query  # an answer to a question counts wherever it stands
        return Stream(self.recognizer(query), int(rate), isolated, "details" in query)

    @contextlib.contextmanager
    def teaching(self, stream: Stream, query: Mapping[str, str]) -> Iterator[Callable[[], Lesson] | None]:
        """Meanwhile, a stream asks for digits if the query says ``enroll``, with the name of a voice.

        What is yielded then fits the voice, once all digits were said; otherwise the recordings are deleted in the end.

        Raises:
            RefusedError, ValueError, OSError: an impossible name, or one that is being taught already; or the disk is full.
        """
        if "enroll" not in query:
            yield None
            return
        name = self.voices.path(query["enroll"]).stem
        if name in self._learning:
            raise RefusedError(f"somebody is teaching the voice {name} at this moment")
        if len(self.voices.names()) >= MAX_VOICES:
            raise RefusedError(f"there are {MAX_VOICES} voices already: delete one first")
        check_learner(self.model, self.default.model)  # type: ignore[arg-type]  # raises now, not after thirty answers
        with self.voices.session(name) as folder:
            stream.prompt = Prompt(Recorder(folder, name, stream.say), ROUNDS, stream.ask)
            stream.prompt.ask()
            self._learning.add(name)
            try:
                yield partial(self._teach, name, folder)
            finally:
                self._learning.discard(name)

    def _teach(self, name: str, session: Path) -> Lesson:
        self.voices.keep(name, session)
        return self.voices.teach(name, self.model)

    def delete(self, name: str) -> None:
        """Delete a voice.

        Raises:
            RefusedError, ValueError, OSError: there is no such voice, or it is being taught at this moment.
        """
        if self.voices.path(name).stem in self._learning:
            raise RefusedError(f"somebody is teaching the voice {name} at this moment", 409)
        self.voices.delete(name)


def parse_threshold(value: Any) -> float:
    """A visitor's threshold.

    Raises:
        RefusedError: it is not a number from 0 to 1.
    """
    with contextlib.suppress(TypeError, ValueError):
        if settings.PROBABILITY.allows(number := float(value)):
            return number
    raise RefusedError(f"threshold must {settings.PROBABILITY.must}, got {str(value)[:20]}")


def sentence(error: Exception) -> str:
    """An error's message for visitors, without the paths of this machine's folders."""
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError) and error.strerror:
        return f"this cannot be done on the server: {error.strerror}"
    return re.sub(r"\S*[/\\](?=[^/\\\s]+)", "", str(error))
