import io
import json

import pytest
from rich.console import Console

from digits.live import screen
from digits.live.listener import Heard
from digits.live.screen import JsonLines, Lines, LiveView


def heard(digit: int | None, probability: float | None, reason: str | None = None) -> Heard:
    return Heard(1.0, 1.4, digit, probability, reason is None, reason, 210.0, 4.0)


def shown(view: LiveView, width: int = 100) -> str:
    """The view as a terminal would have it, without colours."""
    view.console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    view.console.print(view.render())
    return view.console.file.getvalue()  # type: ignore[attr-defined]


def test_the_live_view_shows_level_floor_digits_and_rejected_sounds() -> None:
    view = LiveView()
    empty = shown(view)
    view.level(-20.0, -60.0, -50.0, 3)
    view.show(heard(7, 0.93))
    view.show(heard(3, 0.4, "not sure"))
    view.show(heard(None, None, "too short"))
    view.say("USB Microphone is back")
    picture = shown(view)
    meter = next(line for line in picture.splitlines() if "dB" in line)
    assert meter.index("-20 dB") < meter.index("│ floor") - meter.count("·")
    assert 25 < meter.count("█") < 40
    for text in ("93%", "210 ms", "not sure", "too short", "USB Microphone is back", "1 digits, 2 rejected, 3 overruns"):
        assert text in picture
    assert "██████" in picture
    assert len(empty.splitlines()) == len(picture.splitlines())  # it does not jump
    assert all(len(line) <= 80 for line in picture.splitlines())
    for _ in range(50):
        view.show(heard(8, 1.0))
    assert len(shown(view).splitlines()) == len(picture.splitlines())


def test_every_digit_has_its_own_glyph() -> None:
    assert {len(glyph) for glyph in screen.GLYPHS.values()} == {19}
    assert len(set(screen.GLYPHS.values())) == 10


def test_a_line_holds_time_digit_probability_and_reason() -> None:
    assert Lines.line(heard(7, 0.934)).split() == ["1.00", "s", "7", "93%", "210", "ms"]
    assert Lines.line(heard(3, 0.4, "not sure")).split() == ["1.00", "s", "3", "40%", "210", "ms", "not", "sure"]
    assert Lines.line(heard(None, None, "too short")).split() == ["1.00", "s", "-", "210", "ms", "too", "short"]


def test_json_lines_hold_everything_and_have_no_heading(capsys: pytest.CaptureFixture[str]) -> None:
    lines = screen.make("jsonl", live=True)
    with lines.running("the title"):
        lines.show(heard(7, 0.934))
    output = capsys.readouterr()
    assert isinstance(lines, JsonLines)
    assert json.loads(output.out) == vars(heard(7, 0.934))
    assert output.err == "the title\n"


def test_unknown_output_is_refused() -> None:
    with pytest.raises(ValueError, match="output must be text or jsonl, got xml"):
        screen.make("xml", live=False)
