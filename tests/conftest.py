"""A tiny synthetic corpus, and marks for what needs recordings or a sound server."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
import soundfile
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from digits import entry

NO_SKIPS = bool(os.environ.get("DIGITS_NO_SKIPS"))  # set by CI: there a missing part is a failure, not a skip


def require(condition: object, reason: str) -> None:
    """Skip the test with its reason where something it needs is missing."""
    if not condition:
        if NO_SKIPS:
            pytest.fail(f"must run here, but {reason}")
        pytest.skip(reason)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("fsdd"):
        require(os.environ.get("FSDD_ROOT"), "FSDD_ROOT does not name the FSDD recordings")
    if item.get_closest_marker("hardware"):
        require(shutil.which("pulseaudio") and shutil.which("paplay"), "PulseAudio is not installed")
    if item.get_closest_marker("espeak"):
        import importlib.util

        require(importlib.util.find_spec("espeakng_loader"), "the extra [espeak] is not installed")


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or fills the user's own cache, but for what takes long to make and is checked when it is read."""
    folder = Path(os.environ.get("DIGITS_CACHE") or tmp_path_factory.mktemp("cache"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIGITS_CACHE", str(folder))
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        yield folder


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_works() -> None:
    """A shell starts what runs in its background with SIGINT ignored, and so would be all that the tests interrupt."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """Recognising sets one thread for the whole process; sums in another order would change a training after it."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def spoken(digit: int, speaker: int, take: int, sample_rate: int = 8000) -> numpy.ndarray:
    """Something a network can learn: two gliding tones whose pitches tell the digit, with a little noise before, in and after."""
    random = numpy.random.default_rng((digit, speaker, take))
    length = int((0.25 + 0.1 * random.random()) * sample_rate)
    time = numpy.arange(length) / sample_rate
    low, high = 300 + 90 * digit, 1300 + 170 * ((digit * 7) % 10)
    glide = 1 + 0.2 * (digit % 3 - 1) * time
    tone = numpy.sin(2 * numpy.pi * low * time * glide) + 0.6 * numpy.sin(2 * numpy.pi * high * time * glide)
    pause = int(0.08 * sample_rate)
    sound = numpy.concatenate([numpy.zeros(pause), 0.25 * tone * numpy.hanning(length), numpy.zeros(pause)])
    return (sound + 0.001 * random.standard_normal(len(sound))).astype("float32")


def write_corpus(root: Path, takes: int = 12, speakers: tuple[str, ...] = ("ann", "bob")) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for digit in range(10):
        for index, speaker in enumerate(speakers):
            for take in range(takes):
                soundfile.write(root / f"{digit}_{speaker}_{take}.wav", spoken(digit, index, take), 8000)
    return root


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """240 clips in FSDD's naming: ten digits, two speakers, takes 0-11."""
    return write_corpus(tmp_path_factory.mktemp("tiny") / "recordings")


def compose_config(*overrides: str, name: str = "train") -> DictConfig:
    """The config of ``python -m digits.train OVERRIDES``; Hydra's own interpolations need run_dir and name among them."""
    with initialize_config_dir(entry.CONF, version_base="1.3"):
        return compose(name, overrides=list(overrides))


def tiny_run(tiny_corpus: Path, run_dir: Path, *overrides: str) -> DictConfig:
    """A training on the tiny corpus, as short as it can be unless the overrides say otherwise."""
    place = [f"run_dir={run_dir}", "name=tiny", "data=folder", f"data.root={tiny_corpus}", "trainer.accelerator=cpu"]
    return compose_config(*place, *overrides)


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The best checkpoint of a short but real training on the tiny corpus, in a finished run's folder."""
    from digits.train import train

    run_dir = tmp_path_factory.mktemp("outputs") / "tiny"
    train(tiny_run(tiny_corpus, run_dir, "trainer.max_epochs=8", "data.batch_size=20", "classifier.learning_rate=0.01"))
    return run_dir / "best.ckpt"


@pytest.fixture(scope="session")
def plain_model(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint as a plain file, with temperature 1.5 and threshold 0.4."""
    from digits import weights
    from digits.calibration import Calibration

    path = tmp_path_factory.mktemp("weights") / "tiny.npz"
    weights.write(path, tiny_checkpoint, Calibration(1.5, 0.4))
    return path


@pytest.fixture(scope="session")
def fsdd_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """experiment=baseline, seed 0, trained on FSDD exactly as a user would; its run folder holds the metrics."""
    from digits.train import train

    run_dir = tmp_path_factory.mktemp("fsdd") / "baseline"
    train(compose_config("experiment=baseline", "name=baseline", f"run_dir={run_dir}"))
    return run_dir / "best.ckpt"
