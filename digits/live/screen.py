"""What ``digits mic`` shows: plain lines, JSON lines, or a live view in the terminal."""

import contextlib
import json
import math
import re
import sys
import textwrap
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from digits.live.listener import Heard

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

MAX_WIDTH, FRAME = 80, 4  # columns: of the live view, and of the border and padding within it
METER_WIDTH, METER_RANGE_DB = 48, 80.0
LEGEND = "  │ floor ┃ word"
BAR_WIDTH, BETWEEN_DIGITS = 6, 4
WORDS_SHOWN, REJECTED_SHOWN = 7, 3
REFRESH_HZ = 10
MESSAGE_S = 10.0  # how long a message stays
MESSAGE_LENGTH, MESSAGES = 200, 5  # characters that the view has room for, and messages that are kept for it
LOST_S = 1.0  # between two warnings of lost sound
GLYPHS = {  # five rows of three cells, each two characters wide
    0: "███ █ █ █ █ █ █ ███",
    1: " █  ██   █   █  ███",
    2: "███   █ ███ █   ███",
    3: "███   █ ███   █ ███",
    4: "█ █ █ █ ███   █   █",
    5: "███ █   ███   █ ███",
    6: "███ █   ███ █ █ ███",
    7: "███   █   █   █   █",
    8: "███ █ █ ███ █ █ ███",
    9: "███ █ █ ███   █ ███",
}


class Lines:
    """Plain text: one line per sound on stdout, messages on stderr. A :class:`digits.live.listener.Watcher`."""

    heading = "         at   digit  probability  latency"
    _lost, _lost_said = 0, -LOST_S

    def show(self, heard: Heard) -> None:
        print(self.line(heard), flush=True)

    @staticmethod
    def line(heard: Heard) -> str:
        digit = "-" if heard.digit is None else str(heard.digit)
        probability = "" if heard.probability is None else f"{heard.probability:.0%}"
        columns = f"{heard.start_s:9.2f} s   {digit:^5}  {probability:^11}  {heard.latency_ms:4.0f} ms"
        return columns if heard.accepted else f"{columns}   {heard.reason}"

    def level(self, level_db: float, floor_db: float, threshold_db: float, overruns: int) -> None:
        """Plain lines show no level, but say when sound is lost."""
        if overruns > self._lost and time.monotonic() >= self._lost_said + LOST_S:
            self._lost, self._lost_said = overruns, time.monotonic()
            self.say(f"warning: {overruns} blocks of sound have been lost so far; what was said in them was not heard")

    def only_zeros(self) -> None:
        self.say("warning: only zeros come in: a muted microphone, or the wrong one? list_devices=true shows the others")

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def ask(self, question: str) -> None:
        """Show a question until the next one."""
        self.say(question)

    @contextlib.contextmanager
    def running(self, title: str) -> Iterator[None]:
        """Surrounds the time in which sound comes in."""
        self.say(title)
        if self.heading:
            print(self.heading, flush=True)
        yield


class JsonLines(Lines):
    """One JSON object per sound on stdout."""

    heading = ""

    @staticmethod
    def line(heard: Heard) -> str:
        fields = asdict(heard)
        del fields["prediction"]
        return json.dumps(fields | {"time": datetime.now().astimezone().isoformat(timespec="milliseconds")})


@dataclass
class _Message:
    text: str
    until: float = math.inf  # on the clock of time.monotonic(); set when it is first shown


class LiveView(Lines):
    """A view that rich redraws in place: a level meter, the latest digits, rejected sounds in grey."""

    def __init__(self, console: "Console | None" = None) -> None:
        from rich.console import Console

        self.console = console or Console()
        self.title = self.question = ""
        self._words: deque[Heard] = deque(maxlen=WORDS_SHOWN)
        self._rejected: deque[Heard] = deque(maxlen=REJECTED_SHOWN)
        self._messages: deque[_Message] = deque(maxlen=MESSAGES)
        self._level = (-METER_RANGE_DB, -METER_RANGE_DB, -METER_RANGE_DB, 0)
        self._n_accepted = self._n_rejected = 0

    def show(self, heard: Heard) -> None:
        (self._words if heard.accepted else self._rejected).append(heard)
        self._n_accepted += heard.accepted
        self._n_rejected += not heard.accepted

    def level(self, level_db: float, floor_db: float, threshold_db: float, overruns: int) -> None:
        self._level = (level_db, floor_db, threshold_db, overruns)

    def say(self, text: str) -> None:
        self._messages.append(_Message(text))

    def ask(self, question: str) -> None:
        self.question = question

    @contextlib.contextmanager
    def running(self, title: str) -> Iterator[None]:
        from rich.live import Live

        self.title = title
        with Live(get_renderable=self.render, console=self.console, refresh_per_second=REFRESH_HZ):
            yield

    def render(self) -> "RenderableType":
        from rich.console import Group
        from rich.panel import Panel
        from rich.text import Text

        width = min(self.console.width, MAX_WIDTH)
        inner = width - FRAME
        body = Group(
            self._meter(inner),
            Text(),
            *([Text(f"{self.question}\n", style="bold")] if self.question else []),
            self._digits(inner),
            Text(),
            *self._grey(inner),
            *(Text(line, style="yellow", no_wrap=True, overflow="ellipsis") for line in self._message_lines(inner)),
            Text(self._counts(inner), style="dim", no_wrap=True, overflow="ellipsis"),
        )
        title = Text(self.title)
        title.truncate(inner - 2, overflow="ellipsis")
        return Panel(body, title=title, title_align="left", width=width)

    def _counts(self, width: int) -> str:
        overruns = self._level[3]
        counts = f"{self._n_accepted} digits, {self._n_rejected} rejected" + (f", {overruns} overruns" if overruns else "")
        with_help = f"{counts}    Ctrl-C to stop"
        return with_help if len(with_help) <= width else counts

    def _message_lines(self, width: int) -> list[str]:
        """As many of the latest messages as fit; older ones follow when these have expired."""
        now, room = time.monotonic(), math.ceil(MESSAGE_LENGTH / width)
        lines: list[str] = []
        for message in [message for message in list(self._messages) if now < message.until][::-1]:
            wrapped = textwrap.wrap(message.text, width, break_on_hyphens=False, max_lines=room, placeholder=" …")
            if len(lines) + len(wrapped) > room:
                break
            message.until = min(message.until, now + MESSAGE_S)
            lines = wrapped + lines
        return lines + [""] * (room - len(lines))

    def _meter(self, width: int) -> "Text":
        from rich.text import Text

        text = Text(f"{self._level[0]:4.0f} dB ")
        legend = LEGEND if width >= METER_WIDTH else ""
        cells = max(1, min(METER_WIDTH, width - len(text) - len(legend)))
        level, floor, threshold = (round(cells * min(1.0, max(0.0, 1 + db / METER_RANGE_DB))) for db in self._level[:3])
        for cell in range(cells):
            if cell == threshold:
                text.append("┃", style="bold")
            elif cell == floor:
                text.append("│", style="cyan")
            else:
                text.append("█" if cell < level else "·", style="green" if level > threshold else "dim")
        return text.append(legend, style="dim")

    def _digits(self, width: int) -> "RenderableType":
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, BETWEEN_DIGITS))
        cells = []
        room = max(1, (width + BETWEEN_DIGITS) // (BAR_WIDTH + BETWEEN_DIGITS))
        for heard in list(self._words)[-room:]:
            assert heard.digit is not None and heard.probability is not None
            rows = (GLYPHS[heard.digit][start : start + 3] for start in range(0, 20, 4))
            cell = Text("\n".join("".join(2 * mark for mark in row) for row in rows), style="default")
            cell.stylize("bold green" if heard is self._words[-1] else "green")
            filled = round(BAR_WIDTH * heard.probability)
            cell.append(f"\n\n{'━' * filled}", style="green").append("━" * (BAR_WIDTH - filled), style="bright_black")
            cells.append(cell.append(f"\n{heard.probability:.0%}").append(f"\n{_short_time(heard.latency_ms)}", style="dim"))
        empty = [Text("\n" * 8)] if not cells else []  # the view keeps its height
        table.add_row(*(cells + empty))
        return table

    def _grey(self, width: int) -> "list[Text]":
        from rich.text import Text

        lines = [self.line(heard)[2:] for heard in self._rejected]
        if any(len(line) > width for line in lines):
            lines = [re.sub(r" {2,}", "  ", line.strip()) for line in lines]
        lines += [""] * (REJECTED_SHOWN - len(lines))
        return [Text(line, style="bright_black", no_wrap=True, overflow="ellipsis") for line in lines]


def _short_time(milliseconds: float) -> str:
    """In at most :data:`BAR_WIDTH` characters."""
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    return f"{milliseconds / 1000:.1f} s" if milliseconds < 99_950 else f"{milliseconds / 1000:.0f} s"


def make(output: str, live: bool) -> Lines:
    """The screen for ``output=text`` or ``output=jsonl``.

    Raises:
        ValueError: any other output.
    """
    if output not in ("text", "jsonl"):
        raise ValueError(f"output must be text or jsonl, got {output}")
    if output == "jsonl":
        return JsonLines()
    return LiveView() if live else Lines()
