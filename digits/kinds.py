"""Kinds of values that a setting can have, each with the words that describe it in an error message."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Kind:
    """What a setting may be: ``must`` completes the sentence "NAME must ...", ``allows`` tests a value."""

    must: str
    allows: Callable[[Any], bool]


def whole(lowest: int, highest: int | None = None) -> Kind:
    """Whole numbers in a range; 1.0 does not count as one."""
    must = f"be a whole number, {lowest} or more" if highest is None else f"be a whole number from {lowest} to {highest}"
    return Kind(must, lambda value: is_number(value, int) and lowest <= value and (highest is None or value <= highest))


def number(lowest: float, highest: float = math.inf, *, without: tuple[float, ...] = ()) -> Kind:
    """Finite numbers in a range, ``without`` one or both of its ends."""
    if highest == math.inf:
        must = f"be a number above {lowest}" if lowest in without else f"be a number, {lowest} or more"
    else:
        must = f"lie in {'(' if lowest in without else '['}{lowest}, {highest}{')' if highest in without else ']'}"
    return Kind(must, lambda value: is_number(value, int | float) and lowest <= value <= highest and value not in without)


def one_of(*choices: str | int) -> Kind:
    """One of a few values."""
    *others, last = map(str, choices)
    return Kind(f"be {', '.join(others)} or {last}", lambda value: not isinstance(value, bool | float) and value in choices)


def list_of(kind: Kind, each: str) -> Kind:
    """Lists, possibly empty, of values of one kind; ``each`` describes them."""
    return Kind(f"be a list of {each}", lambda value: isinstance(value, list) and all(map(kind.allows, value)))


def optional(kind: Kind, must: str = "") -> Kind:
    """``null``, or a value of that kind; ``must`` describes it in other words."""
    return Kind(must or f"{kind.must}, or null", lambda value: value is None or kind.allows(value))


def is_number(value: Any, types: Any) -> bool:
    """Whether it is a finite number of these types; true and false are none."""
    return isinstance(value, types) and not isinstance(value, bool) and (isinstance(value, int) or math.isfinite(value))


def is_text(value: Any) -> bool:
    """Whether it is text with something in it."""
    return isinstance(value, str) and value.strip() != ""


def is_folder(value: Any) -> bool:
    """A path, or a number that is the name of a folder: YAML reads ``2024`` as a number."""
    return is_text(value) or (is_number(value, int | float) and Path(str(value)).is_dir())


def can_be_written(value: Any) -> bool:
    """Whether it names an .onnx file in a folder that exists."""
    path = Path(value).expanduser() if is_text(value) else None
    return path is not None and path.suffix == ".onnx" and path.parent.is_dir() and not path.is_dir()


SWITCH = Kind("be true or false", lambda value: isinstance(value, bool))
TEXT = Kind("be text", is_text)
NAME = Kind("consist of letters, digits, _ and -", lambda value: is_text(value) and bool(re.fullmatch(r"[\w-]+", value)))
PATH = Kind("be a path (write ./7 if its name is a number)", is_text)
FOLDER = Kind("be a folder (write ./7 if its name is a number)", is_folder)
GROUP = Kind("be a group of settings", lambda value: isinstance(value, dict))
BATCHES = Kind("be a number of batches or a fraction", lambda value: is_number(value, int | float))  # Lightning knows the range
NAMES = list_of(TEXT, "names, like [george]")
