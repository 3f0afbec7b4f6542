"""What the settings of the commands may be, checked before anything is made or loaded.

:data:`TRAIN`, :data:`MIC`, :data:`ENROLL`, :data:`WEB` and :data:`EXPORT` list them by name, and :data:`MODEL` those that a model
file brings along. The constructors keep checks of their own, for use as a library.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digits import audio, cli
from digits.corpora.corpus import N_DIGITS, N_FOLDS, SPLITS
from digits.kinds import (
    BATCHES,
    FOLDER,
    GROUP,
    NAME,
    NAMES,
    PATH,
    SWITCH,
    TEXT,
    Kind,
    can_be_written,
    is_number,
    is_text,
    list_of,
    number,
    one_of,
    optional,
    whole,
)

if TYPE_CHECKING:
    from omegaconf import DictConfig


N_CHANNELS = {"DigitCNN": 3, "DigitResNet": 4}  # model.name -> length of model.channels
MAX_MODEL_BYTES = 100_000_000  # of a model file; ours have two million
MAX_SIZE = 4096  # of a layer: what is larger is a mistake, and would fill the memory
MAX_DEPTH = 16  # convolutions in a block
MAX_FRAMES = 1000  # of a log-mel: ten times as many as usual
MIN_FRAMES = 8  # of a log-mel, and as many bands: the networks halve both three times
THRESHOLDS = {"strict": 4.0, "balanced": 1.0, "eager": 0.25}  # name -> factor of the odds of the model's own threshold
RATE = whole(audio.MIN_RATE_HZ, audio.MAX_RATE_HZ)

PROBABILITY = number(0, 1)
HOST = Kind("be the name of a host", lambda value: is_text(value) and bool(re.fullmatch(r"[A-Za-z0-9._-]+", value)))
THRESHOLD = Kind(
    f"be {', '.join(THRESHOLDS)} or a number from 0 to 1",
    lambda value: (isinstance(value, str) and value in THRESHOLDS) or PROBABILITY.allows(value),
)

TRAIN = {
    "name": NAME,
    "seed": whole(0, 2**32 - 1),
    "max_epochs": whole(1),
    "trainer.max_epochs": whole(1),
    "trainer.enable_progress_bar": optional(SWITCH),
    "trainer.limit_train_batches": optional(BATCHES),
    "trainer.limit_val_batches": optional(BATCHES),
    "trainer.limit_test_batches": optional(BATCHES),
    "fit": SWITCH,
    "ckpt_path": optional(PATH),
    "resume": SWITCH,
    "optimized_metric": TEXT,
    "export": SWITCH,
    "run_dir": PATH,
    "noise_root": optional(PATH),
    "room_root": optional(PATH),
    "logger": optional(GROUP),
    "callbacks": optional(GROUP),
    "classifier.compile": SWITCH,
    "classifier.learning_rate": number(0, without=(0,)),
    "classifier.weight_decay": number(0),
    "classifier.label_smoothing": number(0, 1, without=(1,)),
    "model.name": one_of(*N_CHANNELS),
    "model.channels": list_of(whole(1, MAX_SIZE), f"whole numbers from 1 to {MAX_SIZE}"),
    "model.embedding": whole(1, MAX_SIZE),
    "model.convolutions": Kind(
        f"be three whole numbers from 1 to {MAX_DEPTH}",
        lambda value: isinstance(value, list) and len(value) == 3 and all(map(whole(1, MAX_DEPTH).allows, value)),
    ),
    "model.first_kernel": Kind(
        f"be an odd number from 1 to {MIN_FRAMES - 1}", lambda value: is_number(value, int) and value in range(1, MIN_FRAMES, 2)
    ),
    "model.dropout": number(0, 1, without=(1,)),
    "model.n_mels": whole(MIN_FRAMES),
    "model.n_outputs": one_of(N_DIGITS, N_DIGITS + 1),
    "augment.time_shift": whole(0),
    "augment.time_mask_param": whole(0),
    "augment.freq_mask_param": whole(0),
    "augment.n_masks": whole(0),
    "augment.equalizer_db": number(0),
    "conditions": GROUP,
    "data.source": TEXT,
    "data.root": optional(FOLDER),
    "data.shards": TEXT,
    "data.split": one_of(*SPLITS),
    "data.fold": whole(0, N_FOLDS - 1),
    "data.test_speakers": NAMES,
    "data.batch_size": whole(1),
    "data.seed": whole(0, 2**32 - 1),
    "data.val_sources": list_of(TEXT, "corpora, like [speech_commands]"),
    "data.test_conditions": GROUP,
    "data.train_sets": GROUP,
    "data.train_sets.*": GROUP,
    "data.train_sets.*.copies": whole(0),
    "data.train_sets.*.source": optional(TEXT),
    "data.train_sets.*.only": list_of(whole(0, N_DIGITS), f"labels, 0 to {N_DIGITS}"),
    "data.train_sets.*.effects_rate_hz": optional(RATE),
    "data.front_end.sample_rate": RATE,
    "data.front_end.window_s": number(0.1, 10),
    "data.front_end.trim.ratio": number(0, 1),
    "data.front_end.trim.range_db": number(0, 1000, without=(0,)),
    "data.front_end.trim.bridge_ms": number(0, 10_000),
    "data.front_end.trim.margin_ms": number(0, 10_000),
    "data.front_end.log_mel.n_fft": whole(16, 2**13),
    "data.front_end.log_mel.win_length": whole(2),
    "data.front_end.log_mel.hop_length": whole(1),
    "data.front_end.log_mel.n_mels": whole(MIN_FRAMES, 512),
    "data.front_end.log_mel.f_min": number(0),
    "data.front_end.log_mel.f_max": number(0, without=(0,)),
    "data.front_end.log_mel.top_db": number(0, without=(0,)),
}
LOG_MEL = "data.front_end.log_mel"
CLOSED = ("data", "data.front_end", "data.front_end.trim", LOG_MEL, "augment")  # groups without other settings
OF_HYDRA = ("data._target_", "data._convert_", "data._recursive_")
MAX_SEGMENTER = 10_000  # no decibels, milliseconds or seconds above this make sense
MIC = {
    "ckpt_path": optional(TEXT, "be pretrained or the name of a model file"),
    "outputs": Kind("be the name of a folder", is_text),
    "prefer": list_of(TEXT, "experiments, like [live,robust]"),
    "list_devices": SWITCH,
    "device": Kind(
        "be the number of a microphone or part of its name",
        lambda value: value is None or is_text(value) or (is_number(value, int) and value >= 0),
    ),
    "input": optional(TEXT, "be the name of a file, which can also stand alone: digits mic FILE"),
    "threshold": THRESHOLD,
    "output": one_of("text", "jsonl"),
    "block_ms": Kind("be a number above 0, at most 1000", lambda value: is_number(value, int | float) and 0 < value <= 1000),
    "seconds": optional(number(0), "be a number, 0 or more"),
    "live": Kind("be true, false or auto", lambda value: isinstance(value, bool) or value == "auto"),
    "record": optional(TEXT, "be the name of a folder"),
    "speaker": Kind("be letters and digits", lambda value: is_text(value) or (is_number(value, int) and value >= 0)),
    "prompt": SWITCH,
    "rounds": whole(1),
    "isolated": SWITCH,
    "denoise": SWITCH,
    "segmenter": Kind("be changed by its parts, like segmenter.hang_ms=200", lambda value: isinstance(value, dict)),
    "segmenter.*": Kind(
        f"be a number from 0 to {MAX_SEGMENTER}", lambda value: is_number(value, int | float) and 0 <= value <= MAX_SEGMENTER
    ),
}
ENROLL = {name: MIC[name] for name in ("ckpt_path", "outputs", "prefer", "rounds", "device", "input", "block_ms", "live")} | {
    "name": optional(MIC["speaker"]),
    "voices": MIC["outputs"],
    "root": optional(FOLDER),
    "delete": SWITCH,
}
WEB = {name: MIC[name] for name in ("ckpt_path", "outputs", "prefer", "threshold", "isolated")} | {
    "host": Kind("be an address of this machine, like 127.0.0.1 or 0.0.0.0", is_text),
    "port": whole(0, 65_535),
    "hosts": list_of(HOST, "names without a port, like [digits.example.org]"),
    "voices": optional(TEXT, "be the name of a folder, or auto"),
    "streams": whole(1, 10_000),
    "idle_s": number(0, 86_400, without=(0,)),
    "speed": number(1, 10_000),
    "upload_mb": number(0, 10_000, without=(0,)),
    "upload_s": number(0, 86_400, without=(0,)),
}
MODEL = {name: kind for name, kind in TRAIN.items() if name.startswith(("model.", "data.front_end."))} | {"threshold": PROBABILITY}
EXPORT = {
    "ckpt_path": PATH,
    "out": Kind("be a file name that ends in .onnx, in a folder that exists", can_be_written),
    "root": optional(FOLDER),
    "clips": whole(1),
}


def check(cfg: "DictConfig", table: Mapping[str, Kind] = TRAIN) -> None:
    """Check every setting that the table lists; one that the config lacks is left to its default.

    Raises:
        ValueError: a setting has the wrong type, lies outside its range or contradicts another; the message names it.
    """
    from omegaconf import OmegaConf

    check_values(OmegaConf.to_container(cfg, resolve=True), table)


def check_values(settings: Any, table: Mapping[str, Kind]) -> None:
    """As :func:`check`, for nested dictionaries."""
    for pattern, kind in table.items():
        for name, value in _find(settings, pattern.split(".")):
            _require(kind.allows(value), name, kind.must, value)
    _check_names(settings, table)
    _check_together(dict(pair for pattern in table for pair in _find(settings, pattern.split("."))))


def _find(settings: Any, steps: list[str], before: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values at a path whose step ``*`` stands for every name; none where a group is null or lacks the name."""
    if not steps:
        yield before, settings
    elif settings is not None:
        _require(GROUP.allows(settings), before, GROUP.must, settings)
        for name in settings if steps[0] == "*" else {steps[0]} & set(settings):
            yield from _find(settings[name], steps[1:], f"{before}.{name}" if before else str(name))


def _require(condition: bool, name: str, must: str, value: Any) -> None:
    if not condition:
        raise ValueError(f"{name} must {must}, got {_show(value)}")


def _show(value: Any) -> str:
    if value in ("true", "false", "null"):
        return f"the text '{value}'"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return "nothing" if value in ("", "???") else str(value)  # ??? is OmegaConf's mark for what must be given


def _check_names(settings: dict[str, Any], table: Mapping[str, Kind]) -> None:
    """No other names in the groups whose settings are all known: their constructors would not say where a wrong one comes from."""
    for name in settings:
        if name not in {pattern.partition(".")[0] for pattern in table}:
            raise ValueError(f"there is no setting {name}")
    for name, why in cli.REFUSED.items():
        for _ in _find(settings, name.split(".")):
            raise ValueError(f"there is no setting {name}: {why}")
    known = {name for pattern in TRAIN for name in (pattern, pattern.rpartition(".")[0])}.union(OF_HYDRA)
    for group in CLOSED:
        for _, content in _find(settings, group.split(".")):
            for name in content or ():
                if f"{group}.{name}" not in known:
                    raise ValueError(f"there is no setting {group}.{name}")


def _check_together(given: dict[str, Any]) -> None:
    """Settings that limit each other; where one of them is left to its default, the constructors check."""
    for part, purpose in (("train", "learn from"), ("val", "choose the best epoch by")):
        if given.get("fit") and given.get(f"trainer.limit_{part}_batches") == 0:
            raise ValueError(
                f"trainer.limit_{part}_batches=0 leaves nothing to {purpose}: give a number of batches, or a fraction above 0.0"
            )
    names = [f"acc_{name}" for name in given.get("conditions") or ()]
    several = {"test/mean", "test/worst"} if len(names) > 1 else set()
    metric, known = given.get("optimized_metric", "val/loss"), {f"test/{name}" for name in names} | several
    is_known = metric in ("val/loss", "val/acc", "test/acc") or metric in known
    _require(is_known, "optimized_metric", f"be measured: val/loss, val/acc, test/acc, {', '.join(sorted(known))}", metric)
    _check_corpora(given)
    if given.get("model.name") and (channels := given.get("model.channels")) is not None:
        n_channels = N_CHANNELS[given["model.name"]]
        _require(len(channels) == n_channels, "model.channels", f"hold {n_channels} numbers for {given['model.name']}", channels)
    front_end = {name.rpartition(".")[2]: value for name, value in given.items() if name.startswith("data.front_end.")}
    if len(front_end) < sum(name.startswith("data.front_end.") for name in TRAIN):
        return
    win_length, f_min, n_mels = (front_end[name] for name in ("win_length", "f_min", "n_mels"))
    samples, hop_length = round(front_end["window_s"] * front_end["sample_rate"]), front_end["hop_length"]
    _require(samples < MAX_FRAMES * hop_length, f"{LOG_MEL}.hop_length", f"leave at most {MAX_FRAMES} frames", hop_length)
    for name, highest, meaning in _limits(front_end):
        value = given.get(name)
        _require(value is None or value <= highest, name, f"be at most {highest}, {meaning}", value)
    _require(win_length % 2 == 0, f"{LOG_MEL}.win_length", "be even", win_length)
    _require(f_min < front_end["f_max"], f"{LOG_MEL}.f_min", f"be below f_max, {front_end['f_max']}", f_min)
    bands = given.get("model.n_mels", n_mels)
    _require(bands == n_mels, "model.n_mels", f"be {LOG_MEL}.n_mels, {n_mels}", bands)


def _check_corpora(given: dict[str, Any]) -> None:
    if root := given.get("data.root"):
        _require(Path(str(root)).expanduser().is_dir(), "data.root", "be a folder that exists", root)
    for name, value in given.items():
        sources = value if name == "data.val_sources" else [value] if name.endswith(".source") and value is not None else []
        for source in sources:
            from digits.corpora import catalog  # here, because recognising needs none

            _require(source in catalog.CORPORA, name, f"be one of {', '.join(catalog.CORPORA)}", source)


def _limits(front_end: dict[str, Any]) -> Iterator[tuple[str, float, str]]:
    """Name of a setting, the highest value that the front end leaves it, and what that value is."""
    samples = round(front_end["window_s"] * front_end["sample_rate"])
    frames = samples // front_end["hop_length"] + 1
    yield f"{LOG_MEL}.win_length", min(front_end["n_fft"], samples), "the smaller of n_fft and the window's samples"
    yield f"{LOG_MEL}.hop_length", samples // (MIN_FRAMES - 1), f"which leaves {MIN_FRAMES} frames"
    yield f"{LOG_MEL}.f_max", front_end["sample_rate"] / 2, "half the sample rate"
    yield "augment.time_shift", frames, "the number of frames"
    yield "augment.time_mask_param", frames, "the number of frames"
    yield "augment.freq_mask_param", front_end["n_mels"], "the number of mel bands"
