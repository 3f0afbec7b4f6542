"""What 8-bit integers would save of an exported model, and cost: ``python experiments/int8.py MODEL.onnx --strangers FOLDER``.

Convolutions and the last layer are quantised statically (onnxruntime, QDQ, per channel), by the ranges of 480 training takes.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantType, quant_pre_process, quantize_static

from digits import audio, fsdd
from digits.corpus import Clip, read_folder
from digits.recognizer import Recognizer


class Windows(CalibrationDataReader):  # type: ignore[misc]
    """Training takes, as the model hears them."""

    def __init__(self, recognizer: Recognizer, clips: Sequence[Clip]) -> None:
        self.windows: Iterator[audio.Waveform] = (recognizer.window(*audio.read(clip.path)) for clip in clips)

    def get_next(self) -> dict[str, numpy.ndarray] | None:
        window = next(self.windows, None)
        return None if window is None else {"waveform": window[None]}


def quantize(model: Path, clips: Sequence[Clip], out: Path) -> None:
    prepared = out.with_suffix(".prepared.onnx")
    quant_pre_process(model, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        out,
        Windows(Recognizer.load(model), clips),
        op_types_to_quantize=["Conv", "Gemm"],
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    small = onnx.load(out)
    del small.metadata_props[:]  # those of the quantiser
    small.metadata_props.extend(onnx.load(model).metadata_props)
    onnx.save(small, out)


def measure(recognizer: Recognizer, clips: Sequence[Clip]) -> tuple[list[int], numpy.ndarray, float]:
    """Digits heard, probabilities (clips, 10), and the median milliseconds of log-mel and network."""
    windows = [recognizer.window(*audio.read(clip.path))[None] for clip in clips]
    taken, probabilities = [], []
    for window in windows:
        started = time.perf_counter()
        probabilities.append(recognizer.model(window)[0])
        taken.append(1000 * (time.perf_counter() - started))
    found = numpy.stack(probabilities)
    return found.argmax(axis=1).tolist(), found, statistics.median(taken)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What 8-bit integers would save of an exported model, and cost.")
    parser.add_argument("model", type=Path, metavar="MODEL.onnx", help="of the official split")
    parser.add_argument("--strangers", type=Path, help="folder of other people's digits")
    options = parser.parse_args(arguments)
    takes = fsdd.load().clips
    corpora = {"official test": [clip for clip in takes if clip.take < 5]}
    if options.strangers:
        corpora["strangers"] = read_folder(options.strangers, "strangers").clips
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "int8.onnx"
        quantize(options.model, [clip for clip in takes if clip.take >= 10][::5], small)
        print("| model | bytes | milliseconds | " + " | ".join(f"{name}, right" for name in corpora) + " | largest difference |")
        print("|---|--:|--:|" + "--:|" * (len(corpora) + 1))
        first = None
        for kind, path in (("float32", options.model), ("int8", small)):
            recognizer, cells, found = Recognizer.load(path), [], []
            for clips in corpora.values():
                digits, probabilities, milliseconds = measure(recognizer, clips)
                cells.append(f"{sum(digit == clip.digit for digit, clip in zip(digits, clips, strict=True))}/{len(clips)}")
                found.append(probabilities)
            first = first or found
            difference = max(numpy.abs(a - b).max() for a, b in zip(found, first, strict=True))
            print(f"| {kind} | {path.stat().st_size:,} | {milliseconds:.2f} | {' | '.join(cells)} | {difference:.3f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
