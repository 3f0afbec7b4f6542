"""Spoken-digit recognition: experiments on the Free Spoken Digit Dataset and a live recogniser."""

import importlib
import os
from typing import Any

__version__ = "0.1.0"

# A speech program sends nothing. onnxruntime would write a device id and look up a telemetry host as soon as it is imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"


def __getattr__(name: str) -> Any:
    """``from digits import Recognizer`` works, and ``import digits`` costs nothing."""
    if name == "Recognizer":
        return importlib.import_module("digits.recognition.recognizer").Recognizer
    raise AttributeError(f"module 'digits' has no attribute {name!r}")
