import csv
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import soundfile
import torch
from conftest import spoken
from numpy.typing import ArrayLike
from scipy.signal import resample_poly

from digits import audio, data, predict, weights
from digits.corpus import read_folder
from digits.recognizer import NEEDS_TORCH, Recognizer, denoise


def test_recognizer_agrees_with_the_test_loop(tiny_checkpoint: Path, tiny_corpus: Path) -> None:
    """Parity of training and serving: the same probabilities for a file as in the run's predictions.csv."""
    recognizer = Recognizer.load(tiny_checkpoint)
    with (tiny_checkpoint.parent / "predictions.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["condition"] == "clean"]
    for row in rows[::9]:
        prediction = recognizer(*audio.read(tiny_corpus / row["clip"]))
        assert prediction.digit == int(row["predicted"])
        assert abs(prediction.probability - float(row["probability"])) < 1e-3
        assert abs(sum(prediction.probabilities) - 1) < 1e-5


def test_rate_format_channels_and_level_do_not_matter(tiny_checkpoint: Path, tmp_path: Path) -> None:
    clip = spoken(4, 0, 2)
    at_48k = resample_poly(clip, 6, 1)
    variants = {
        "plain.wav": (clip, 8000),
        "high.flac": (at_48k, 48_000),
        "stereo.wav": (numpy.stack([clip, clip], axis=1), 8000),
        "quiet.flac": (0.05 * at_48k, 48_000),
        "small.ogg": (at_48k, 48_000),
        "small.mp3": (at_48k, 48_000),
        "odd.wav": (resample_poly(clip, 441, 80), 44_100),
    }
    recognizer = Recognizer.load(tiny_checkpoint)
    heard = {}
    for name, (samples, sample_rate) in variants.items():
        soundfile.write(tmp_path / name, samples, sample_rate)
        heard[name] = recognizer(*audio.read(tmp_path / name)).digit
    assert heard == dict.fromkeys(variants, 4)


def test_csv_has_a_row_a_file_in_order_and_errors_go_to_stderr(
    tiny_checkpoint: Path, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = [str(tiny_corpus / f"{digit}_ann_{take}.wav") for digit, take in ((3, 0), (1, 4), (9, 2))]
    bad = tmp_path / "bad, really.wav"
    bad.write_bytes(b"noise")
    files = [good[0], str(bad), good[1], str(tmp_path / "missing.wav"), good[2]]
    assert predict.main([*files, "--csv", f"--ckpt-path={tiny_checkpoint}"]) == 1
    output = capsys.readouterr()
    rows = list(csv.reader(io.StringIO(output.out)))
    assert rows[0] == ["path", "digit", "probability", "accepted"]
    assert [row[0] for row in rows[1:]] == good
    assert all(0 < float(row[2]) <= 1 for row in rows[1:])
    errors = [line for line in output.err.splitlines() if line.startswith("digits.predict: ")]
    assert len(errors) == 2
    assert "bad, really.wav" in errors[0]
    assert "missing.wav: no such file" in errors[1]


def test_one_line_a_file_from_the_shell(tiny_checkpoint: Path, tiny_corpus: Path) -> None:
    """The default model is the best finished run below ./outputs."""
    command = [sys.executable, "-m", "digits.predict", str(tiny_corpus / "5_bob_1.wav")]
    outputs = tiny_checkpoint.parent.parent
    assert outputs.name.startswith("outputs")
    if outputs.name != "outputs" and not (outputs.parent / "outputs").exists():
        (outputs.parent / "outputs").symlink_to(outputs)
    done = subprocess.run(command, capture_output=True, text=True, cwd=outputs.parent, env=os.environ, check=True)
    assert done.stdout.count("\n") == 1
    assert done.stdout.startswith(f"{tiny_corpus / '5_bob_1.wav'}: 5  ")
    assert "best.ckpt" in done.stderr


@pytest.mark.parametrize("command", [["digits.predict"], ["digits.predict", "--csv", "--ckpt-path=pretrained"]])
def test_without_a_run_the_pretrained_model_answers_and_is_named(tmp_path: Path, tiny_corpus: Path, command: list[str]) -> None:
    clip = tiny_corpus / "5_bob_1.wav"
    done = subprocess.run([sys.executable, "-m", *command, str(clip)], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert str(clip) in done.stdout
    assert done.stderr.startswith("model: pretrained")


def test_the_pretrained_model_needs_neither_torch_nor_lightning(tmp_path: Path, tiny_corpus: Path) -> None:
    clip = tiny_corpus / "5_bob_1.wav"
    heavy = ["torch", "torchaudio", "lightning", "torchmetrics", "tensorboard", "scipy", "sklearn", "matplotlib", "platformdirs"]
    programs = {
        "predict": f"predict.main(['--ckpt-path=pretrained', {str(clip)!r}])",
        "mic": f"sys.argv[1:] = ['input={clip}', 'ckpt_path=pretrained']; mic.main()",
    }
    for program, call in programs.items():
        code = f"import sys; sys.modules.update(dict.fromkeys({heavy})); from digits import {program}; {call}"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stderr
        assert "pretrained" in done.stderr
    missing = f"import sys; sys.modules.update(dict.fromkeys({heavy})); from digits import predict; "
    missing += f"sys.exit(predict.main(['--ckpt-path=x.ckpt', {str(clip)!r}]))"
    done = subprocess.run([sys.executable, "-c", missing], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert done.stderr == f"digits.predict: x.ckpt: {NEEDS_TORCH}\n"


@pytest.mark.parametrize("convert", [numpy.float64, numpy.float32, torch.from_numpy, list])
def test_a_waveform_may_be_any_array(tiny_checkpoint: Path, convert: Callable[[numpy.ndarray], ArrayLike]) -> None:
    recognizer, clip = Recognizer.load(tiny_checkpoint), spoken(4, 0, 2)
    assert recognizer(convert(clip), 8000) == recognizer(clip, 8000)


def test_denoise_takes_noise_away() -> None:
    sound = (0.02 * numpy.random.default_rng(0).standard_normal(16_000)).astype(numpy.float32)
    time = numpy.arange(4000) / 16_000
    sound[6000:10_000] += sum(0.05 * numpy.sin(2 * numpy.pi * 120 * harmonic * time) for harmonic in range(1, 60))
    cleaned = denoise(sound, 16_000, sound[:5000])
    assert cleaned.shape == sound.shape
    assert cleaned.dtype == numpy.float32
    before, after = ((x[6500:9500] ** 2).mean() / (x[:5000] ** 2).mean() for x in (sound, cleaned))
    assert after > 10 * before  # word over noise


@pytest.mark.fsdd
def test_cached_test_clips_give_the_recognizer_s_answers(fsdd_checkpoint: Path) -> None:
    recognizer = Recognizer.load(fsdd_checkpoint)
    clips = [clip for clip in read_folder(Path(os.environ["FSDD_ROOT"]), "fsdd").clips if clip.take < 5]
    log_mel = data.log_mels(clips, {})
    with torch.inference_mode():
        batch = weights.load(fsdd_checkpoint).network(log_mel).softmax(dim=1)
    right = 0
    for index in range(0, 300, 7):
        prediction = recognizer(*audio.read(clips[index].path))
        assert abs(prediction.probability - batch[index].max().item()) < 1e-3
        right += prediction.digit == clips[index].digit
    assert right >= 41  # of 43
