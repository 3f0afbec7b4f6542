"""What 8-bit integers would save and cost in an exported model: ``python experiments/int8/int8.py MODEL.onnx --unseen FOLDER``.

Convolutions and the last layer are quantised statically (onnxruntime, QDQ, per channel), with the ranges of 480 training takes.
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

from digits import audio
from digits.corpora import fsdd
from digits.corpora.corpus import Clip
from digits.corpora.folder import read_folder
from digits.recognition.model_files import seal
from digits.recognition.recognizer import Recognizer
from experiments import tables


class Windows(CalibrationDataReader):  # type: ignore[misc]
    """The windows of training takes."""

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
    del small.metadata_props[:]  # the quantiser's own
    small.metadata_props.extend(entry for entry in onnx.load(model).metadata_props if entry.key != "sha256")
    out.write_bytes(seal(small.SerializeToString()))


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
    parser = argparse.ArgumentParser(description="What 8-bit integers would save in an exported model, and cost.")
    parser.add_argument("model", type=Path, metavar="MODEL.onnx", help="an exported model")
    parser.add_argument("--unseen", type=Path, help="folder of other people's digits")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where to write report.md")
    options = parser.parse_args(arguments)
    takes = fsdd.load().clips
    corpora = {"official test": [clip for clip in takes if clip.take < 5]}
    if options.unseen:
        corpora["unseen speakers"] = read_folder(options.unseen, "unseen").clips
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "int8.onnx"
        quantize(options.model, [clip for clip in takes if clip.take >= 10][::5], small)
        first = None
        for kind, path in (("float32", options.model), ("int8", small)):
            recognizer, cells, found = Recognizer.load(path), [], []
            for clips in corpora.values():
                digits, probabilities, milliseconds = measure(recognizer, clips)
                cells.append(f"{sum(digit == clip.digit for digit, clip in zip(digits, clips, strict=True))}/{len(clips)}")
                found.append(probabilities)
            first = first or found
            difference = max(numpy.abs(a - b).max() for a, b in zip(found, first, strict=True))
            rows.append([kind, f"{path.stat().st_size:,}", f"{milliseconds:.2f}", *cells, f"{difference:.3f}"])
    header = ["model", "bytes", "milliseconds", *(f"{name}, right" for name in corpora), "largest difference"]
    tables.write_report(options.out / "report.md", "8-bit integers", {"Comparison": tables.table(header, rows)})
    print(tables.table(header, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
