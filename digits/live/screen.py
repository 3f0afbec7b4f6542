"""What ``digits mic`` shows: plain lines, JSON lines, or a live view in the terminal."""

import contextlib
import json
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from digits.live.listener import Heard

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

METER_WIDTH, METER_RANGE_DB = 48, 80.0
BAR_WIDTH = 6
WORDS_SHOWN, REJECTED_SHOWN = 7, 3
REFRESH_HZ = 10
MESSAGE_S = 10.0  # how long a message stays
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

    def show(self, heard: Heard) -> None:
        print(self.line(heard), flush=True)

    @staticmethod
    def line(heard: Heard) -> str:
        digit = "-" if heard.digit is None else str(heard.digit)
        probability = "" if heard.probability is None else f"{heard.probability:.0%}"
        columns = f"{heard.start_s:9.2f} s   {digit:^5}  {probability:^11}  {heard.latency_ms:4.0f} ms"
        return columns if heard.accepted else f"{columns}   {heard.reason}"

    def level(self, level_db: float, floor_db: float, threshold_db: float, overruns: int) -> None:
        """Plain lines show no level."""

    def only_zeros(self) -> None:
        self.say(
            "warning: the microphone delivers only zeros: is it muted, or the wrong device? list_devices=true shows the others"
        )

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

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
        return json.dumps(asdict(heard))


class LiveView(Lines):
    """A view that rich redraws in place: a level meter, the latest digits, rejected sounds in grey."""

    def __init__(self, console: "Console | None" = None) -> None:
        from rich.console import Console

        self.console = console or Console()
        self.title = ""
        self._words: deque[Heard] = deque(maxlen=WORDS_SHOWN)
        self._rejected: deque[Heard] = deque(maxlen=REJECTED_SHOWN)
        self._message, self._said = "", 0.0
        self._level = (-METER_RANGE_DB, -METER_RANGE_DB, -METER_RANGE_DB, 0)
        self._n_accepted = self._n_rejected = 0

    def show(self, heard: Heard) -> None:
        (self._words if heard.accepted else self._rejected).append(heard)
        self._n_accepted += heard.accepted
        self._n_rejected += not heard.accepted

    def level(self, level_db: float, floor_db: float, threshold_db: float, overruns: int) -> None:
        self._level = (level_db, floor_db, threshold_db, overruns)

    def say(self, text: str) -> None:
        self._message, self._said = text, time.monotonic()

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

        *_, overruns = self._level
        lost = f", {overruns} overruns" if overruns else ""
        counts = f"{self._n_accepted} digits, {self._n_rejected} rejected{lost}    Ctrl-C to stop"
        message = self._message if time.monotonic() < self._said + MESSAGE_S else ""
        body = Group(
            self._meter(),
            Text(),
            self._digits(),
            Text(),
            *self._grey(),
            Text(message, style="yellow", no_wrap=True, overflow="ellipsis"),
            Text(counts, style="dim"),
        )
        return Panel(body, title=self.title, title_align="left", width=min(self.console.width, 80))

    def _meter(self) -> "Text":
        from rich.text import Text

        level, floor, threshold = (round(METER_WIDTH * min(1.0, max(0.0, 1 + db / METER_RANGE_DB))) for db in self._level[:3])
        text = Text(f"{self._level[0]:4.0f} dB ")
        for cell in range(METER_WIDTH):
            if cell == threshold:
                text.append("┃", style="bold")
            elif cell == floor:
                text.append("│", style="cyan")
            else:
                text.append("█" if cell < level else "·", style="green" if level > threshold else "dim")
        return text.append("  │ floor ┃ word", style="dim")

    def _digits(self) -> "RenderableType":
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 4))
        cells = []
        for heard in self._words:
            assert heard.digit is not None and heard.probability is not None
            rows = (GLYPHS[heard.digit][start : start + 3] for start in range(0, 20, 4))
            cell = Text("\n".join("".join(2 * mark for mark in row) for row in rows), style="default")
            cell.stylize("bold green" if heard is self._words[-1] else "green")
            filled = round(BAR_WIDTH * heard.probability)
            cell.append(f"\n\n{'━' * filled}", style="green").append("━" * (BAR_WIDTH - filled), style="bright_black")
            cells.append(cell.append(f"\n{heard.probability:.0%}").append(f"\n{heard.latency_ms:.0f} ms", style="dim"))
        empty = [Text("\n" * 8)] if not cells else []  # the view keeps its height
        table.add_row(*(cells + empty))
        return table

    def _grey(self) -> "list[Text]":
        from rich.text import Text

        lines = [self.line(heard) for heard in self._rejected]
        return [Text(line[2:], style="bright_black") for line in lines + [""] * (REJECTED_SHOWN - len(lines))]


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
