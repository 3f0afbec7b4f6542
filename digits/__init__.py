"""Spoken-digit recognition: experiments on the Free Spoken Digit Dataset and a live recogniser."""

import importlib
import os
import sys
from typing import Any

__version__ = "0.1.0"

# If an output is closed, the next file that the program opens would take its number, and receive what is printed.
if sys.stderr is None:
    sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - as long as the process
if sys.stdout is None:
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123

# A speech program sends nothing. onnxruntime would write a device id and look up a telemetry host as soon as it is imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"


def __getattr__(name: str) -> Any:
    """``from digits import Recognizer`` works, and ``import digits`` costs nothing."""
    if name == "Recognizer":
        return importlib.import_module("digits.recognition.recognizer").Recognizer
    raise AttributeError(f"module 'digits' has no attribute {name!r}")
