"""Fixtures that several tests share, and marks for what needs recordings or a sound server."""

import importlib
import importlib.util
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from hydra.core.singleton import Singleton
from support import Outcome, compose_config, module_of, require, tiny_run, write_corpus

from digits.corpora.corpus import Clip
from digits.corpora.folder import read_folder

# Both are read when torch is imported. Waiting threads should sleep, as in digits.train.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
WORKER = os.environ.get("PYTEST_XDIST_WORKER")  # set where several processes share the tests
if WORKER:  # one thread each, also in whatever the tests start
    os.environ["OMP_NUM_THREADS"] = "1"


def pytest_configure() -> None:
    if WORKER:
        import torch

        torch.set_num_threads(1)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("fsdd"):
        require(os.environ.get("FSDD_ROOT"), "FSDD_ROOT does not name the FSDD recordings")
    if item.get_closest_marker("hardware"):
        require(shutil.which("pulseaudio") and shutil.which("paplay"), "PulseAudio is not installed")
    if item.get_closest_marker("espeak"):
        require(importlib.util.find_spec("espeakng_loader"), "the extra [espeak] is not installed")
    if item.get_closest_marker("browser"):
        require(shutil.which("chromium") and importlib.util.find_spec("playwright"), "Chromium or playwright is not installed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What one process does alone comes first, so that it is not waited for in the end."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this session of tests have in common."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if WORKER else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


def once(folder: Path, make: Callable[[], object]) -> None:
    """Make what a folder holds, unless another process has; others wait for it."""
    with FileLock(folder.with_suffix(".lock")):
        if not (done := folder.with_suffix(".done")).exists():
            make()
            done.touch()


@pytest.fixture(scope="session", autouse=True)
def private_cache(shared: Path) -> Iterator[Path]:
    """No test reads or fills the user's own cache, but for what takes long to make and is checked when it is read."""
    folder = Path(os.environ.get("DIGITS_CACHE") or shared / "cache")
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
    """Recognising asks for one thread; left behind, it would change the sums of a training in another process."""
    name = "OMP_NUM_THREADS"
    before = os.environ.get(name)
    yield
    os.environ.pop(name, None)
    if before is not None:
        os.environ[name] = before


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, empty at first; where the log-mels go."""
    monkeypatch.setenv("DIGITS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "log_mels"


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    """20 clips that a test may change."""
    return read_folder(write_corpus(tmp_path / "clips", takes=1), "x").clips


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Outcome]]:
    """``command("mic", "seconds=3")`` is ``digits mic seconds=3`` in this process, which saves the time of starting another."""
    root, hydra_state = logging.getLogger(), Singleton.get_state()
    handlers, level = root.handlers[:], root.level

    def run(name: str, *arguments: str) -> Outcome:
        Singleton.set_state(hydra_state)
        monkeypatch.setattr(sys, "argv", [f"digits {name}", *arguments])
        monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
        capsys.readouterr()
        last_words = ""
        try:
            returncode = importlib.import_module(module_of(name)).main() or 0
        except SystemExit as end:
            returncode = end.code if isinstance(end.code, int) else int(end.code is not None)
            last_words = f"{end.code}\n" if isinstance(end.code, str) else ""
        output = capsys.readouterr()
        return Outcome(returncode, output.out, output.err + last_words)

    yield run
    Singleton.set_state(hydra_state)
    root.handlers[:] = handlers
    root.setLevel(level)
    for logger in logging.Logger.manager.loggerDict.values():  # Hydra's job_logging: disabled switches off those that exist
        if isinstance(logger, logging.Logger):
            logger.disabled = False


@pytest.fixture(scope="session")
def tiny_corpus(shared: Path) -> Path:
    """240 clips in FSDD's naming: ten digits, two speakers, takes 0-11."""
    folder = shared / "tiny"
    once(folder, lambda: write_corpus(folder / "recordings"))
    return folder / "recordings"


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_corpus: Path, shared: Path) -> Path:
    """The best checkpoint of a short but real training on the tiny corpus, in a finished run's folder."""
    from digits.train import train

    run_dir = shared / "trained" / "outputs" / "tiny"
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    settings = ("conditions=noise", "trainer.max_epochs=8", "data.batch_size=20", "classifier.learning_rate=0.01")
    once(run_dir, lambda: train(tiny_run(tiny_corpus, run_dir, *settings)))
    return run_dir / "best.ckpt"


@pytest.fixture(scope="session")
def plain_model(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint as a plain file, with temperature 1.5 and threshold 0.4."""
    from digits.recognition import torch_models
    from digits.recognition.calibration import Calibration

    path = tmp_path_factory.mktemp("plain") / "tiny.npz"
    torch_models.write_plain(path, tiny_checkpoint, Calibration(1.5, 0.4), None)
    return path


@pytest.fixture(scope="session")
def exported_model(plain_model: Path, shared: Path) -> Path:
    """The plain file as an ONNX file."""
    from digits.recognition import onnx_export, torch_models

    folder = shared / "exported"
    folder.mkdir(exist_ok=True)
    path = folder / "tiny.onnx"
    once(path, lambda: path.write_bytes(onnx_export.write_graph(torch_models.load(plain_model), plain_model.name, "abc")))
    return path


@pytest.fixture(scope="session")
def fsdd_checkpoint(shared: Path) -> Path:
    """experiment=baseline, seed 0, trained on FSDD as a user would, in half of the epochs; its run folder holds the metrics."""
    from digits.train import train

    run_dir = shared / "fsdd"
    settings = ("experiment=baseline", "max_epochs=5", "name=baseline", f"run_dir={run_dir}", "export=false")
    once(run_dir, lambda: train(compose_config(*settings)))
    return run_dir / "best.ckpt"
