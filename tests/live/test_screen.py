import dataclasses
import io
import json
from datetime import datetime

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


ZEROS = "warning: only zeros come in: a muted microphone, or the wrong one? list_devices=true shows the others"


@pytest.mark.parametrize(("width", "digits"), [(40, [5, 6, 7, 8]), (60, [3, 4, 5, 6, 7, 8]), (100, [2, 3, 4, 5, 6, 7, 8])])
def test_everything_fits_a_narrow_terminal(width: int, digits: list[int]) -> None:
    view = LiveView()
    view.title = "[USB] Microphone with a long name, 48000 Hz; model: outputs/2026-11-24/robust/best.onnx"
    empty = shown(view, width)
    view.level(-20.0, -60.0, -50.0, 123)
    for digit in range(9):
        view.show(dataclasses.replace(heard(digit, 1.0), latency_ms=123_456.0))
    view.show(heard(3, 0.4, "not sure"))
    view.show(heard(None, None, "too short"))
    view.only_zeros()
    lines = shown(view, width).splitlines()
    assert {len(line) for line in lines} == {min(width, 80)}
    assert len(lines) == len(empty.splitlines())
    assert lines[0].startswith("╭─ [USB] Microphone with a long")
    assert "dB" in lines[1]
    assert sum(line.count("100%") for line in lines) == len(digits)
    assert sum(line.count("123 s") for line in lines) == len(digits)
    text = " ".join(line.strip("│ ") for line in lines)
    for whole in (ZEROS, "not sure", "too short", "9 digits, 2 rejected, 123 overruns"):
        assert whole in text


def test_messages_wait_for_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(screen.time, "monotonic", lambda: now[0])
    view = LiveView()
    view.say("a first message " * 12)
    view.say("b second message")
    for _ in range(2):
        assert "b second message" in (picture := shown(view))
        assert "a first" not in picture
    now[0] += screen.MESSAGE_S
    assert "b second message" not in (picture := shown(view))
    assert picture.count("a first message") >= 10
    view.say("x" * 1000)
    assert len(shown(view).splitlines()) == len(picture.splitlines())
    now[0] += screen.MESSAGE_S
    assert "message" not in shown(view)


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
    fields = json.loads(output.out)
    assert datetime.fromisoformat(fields.pop("time")).tzinfo is not None
    assert fields == {name: value for name, value in vars(heard(7, 0.934)).items() if name != "prediction"}
    assert output.err == "the title\n"


def test_unknown_output_is_refused() -> None:
    with pytest.raises(ValueError, match="output must be text or jsonl, got xml"):
        screen.make("xml", live=False)


@pytest.mark.parametrize("lines", [Lines, JsonLines])
def test_lost_sound_is_said_when_it_grows(lines: type[Lines], capsys: pytest.CaptureFixture[str]) -> None:
    shown = lines()
    for lost in (0, 0, 7, 7, 9):
        shown.level(-20.0, -60.0, -50.0, lost)
    shown._lost_said -= screen.LOST_S
    shown.level(-20.0, -60.0, -50.0, 9)
    output = capsys.readouterr()
    assert [line.split()[:2] for line in output.err.splitlines()] == [["warning:", "7"], ["warning:", "9"]]
    assert output.out == ""
