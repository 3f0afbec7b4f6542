import re
import subprocess
import sys
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from support import compose_config

from digits import cli, networks, settings

EXPERIMENTS = sorted(path.stem for path in Path(cli.CONF, "experiment").glob("*.yaml"))
SWEEPS = sorted(path.stem for path in Path(cli.CONF, "sweep").glob("*.yaml"))
GROUPS = sorted(
    f"{group}={path.stem}"
    for group in ("data", "conditions", "augment", "model", "trainer")
    for path in Path(cli.CONF, group).glob("*.yaml")
    if path.stem != "default" or group == "trainer"
)
LOG_MEL = "data.front_end.log_mel"


def check(*overrides: str) -> None:
    settings.check(compose_config("name=x", "run_dir=x", *overrides))


@cache
def defaults() -> DictConfig:
    return compose_config("name=x", "run_dir=x")


def check_one(name: str, value: str) -> None:
    """``check`` of one setting of the defaults, parsed by Hydra's grammar but without composing anew."""
    override = OverridesParser.create().parse_override(f"{name}={value}")
    cfg = deepcopy(defaults())
    OmegaConf.update(cfg, override.key_or_group, override.value(), force_add=True)
    settings.check(cfg)


@pytest.mark.parametrize("choice", [f"experiment={name}" for name in EXPERIMENTS] + GROUPS)
def test_every_config_passes(choice: str) -> None:
    check(choice)


@pytest.mark.parametrize("sweep", SWEEPS)
def test_every_sweep_passes(sweep: str) -> None:
    with initialize_config_dir(cli.CONF, version_base="1.3"):
        params = compose("train", overrides=[f"+sweep={sweep}"], return_hydra_config=True).hydra.sweeper.params
    for experiment in str(params.experiment).split(","):
        check(f"+sweep={sweep}", f"experiment={experiment}")


WRONG = {
    "name": ["a/b", "''"],
    "seed": ["1" + 400 * "0", "1.5", "abc", "-1", "true", "null"],
    "max_epochs": ["0", "abc", "1.5"],
    "trainer.max_epochs": ["0", "-1", "abc", "1.5"],
    "trainer.limit_train_batches": ["abc", "true"],
    "fit": ["no", "maybe", "1", "null"],
    "resume": ["maybe", "0"],
    "export": ["maybe"],
    "ckpt_path": ["7", "''"],
    "run_dir": ["7", "null"],
    "noise_root": ["7"],
    "room_root": ["[a]"],
    "classifier.learning_rate": ["abc", "0", "nan", "-1", "inf"],
    "classifier.weight_decay": ["-1", "abc"],
    "classifier.label_smoothing": ["1", "-0.1", "abc"],
    "model.name": ["os.system"],
    "model.channels": ["[0,0,0]", "abc", "[8,16]", "[8,16,2.5]", "5"],
    "model.convolutions": ["[0,2,2]", "5", "[1,2]"],
    "model.first_kernel": ["4", "0", "abc", "[3]", "9", "3.0", "true"],
    "model.dropout": ["1", "-0.1", "abc"],
    "model.n_outputs": ["9", "12", "10.0"],
    "augment.time_shift": ["102", "-1"],
    "augment.time_mask_param": ["1000", "-1", "2.5"],
    "augment.freq_mask_param": ["41", "-1"],
    "augment.n_masks": ["2.5", "-1"],
    "augment.equalizer_db": ["-1", "nan"],
    "data.root": ["2024", "true", "/nowhere/at/all"],
    "data.split": ["random", "0"],
    "data.fold": ["10", "-1", "0.5"],
    "data.test_speakers": ["george", "[1]"],
    "data.batch_size": ["2.5", "0", "abc"],
    "data.train_sets": ["null", "5"],
    "data.train_sets.clean": ["null", "5"],
    "data.train_sets.clean.copies": ["1.5", "-1"],
    "+data.train_sets.clean.effects_rate_hz": ["0", "abc"],
    "data.front_end": ["5"],
    "data.front_end.sample_rate": ["0", "44100.5", "abc"],
    "data.front_end.window_s": ["0", "-1", "100", "abc"],
    "data.front_end.trim": ["abc"],
    "data.front_end.trim.ratio": ["1.5", "abc"],
    "data.front_end.trim.range_db": ["0", "-1"],
    "data.front_end.trim.bridge_ms": ["-1", "abc"],
    "data.front_end.trim.margin_ms": ["-1", "nan"],
    f"{LOG_MEL}.n_mels": ["0", "40.0", "7"],
    f"{LOG_MEL}.hop_length": ["0", "2.5", "48000"],
    f"{LOG_MEL}.win_length": ["0", "1201", "1538"],
    f"{LOG_MEL}.n_fft": ["0", "1000", "abc"],
    f"{LOG_MEL}.f_min": ["-1", "4000", "abc"],
    f"{LOG_MEL}.f_max": ["0", "24001", "abc"],
    f"{LOG_MEL}.top_db": ["0", "-1"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_an_impossible_value_is_named_in_one_sentence(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=r"^[a-z_.]+ must [^\n]+, got [^\n]+$") as caught:
        check_one(name, value)
    if (name, value) != (f"{LOG_MEL}.n_fft", "1000"):  # win_length is then too large
        assert str(caught.value).startswith(f"{name.removeprefix('+')} must ")


@pytest.mark.parametrize("name", ["embedding", "n_mels"])
def test_the_residual_network_s_own_settings(name: str) -> None:
    for value in ("0", "2.5", "abc"):
        with pytest.raises(ValueError, match=rf"^model\.{name} must be a whole number"):
            check("model=resnet", f"model.{name}={value}")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["seed=1.5"], "seed must be a whole number from 0 to 4294967295, got 1.5"),
        (["fit=no", "ckpt_path=best.ckpt"], "fit must be true or false, got no"),
        (["data.test_speakers=george"], "data.test_speakers must be a list of names, like [george], got george"),
        (["data.root=true"], "data.root must be a folder (write ./7 if its name is a number), or null, got true"),
        (["ckpt_path=7"], "ckpt_path must be a path (write ./7 if its name is a number), or null, got 7"),
        (["model.channels=[8,16]"], "model.channels must hold 3 numbers for DigitCNN, got [8, 16]"),
        (["augment.time_mask_param=1000"], "augment.time_mask_param must be at most 101, the number of frames, got 1000"),
        (["classifier.learning_rate=0"], "classifier.learning_rate must be a number above 0, got 0"),
        (["classifier.label_smoothing=1"], "classifier.label_smoothing must lie in [0, 1), got 1"),
        (["model=resnet", "model.n_mels=64"], f"model.n_mels must be {LOG_MEL}.n_mels, 40, got 64"),
        (["model.n_outputs=12"], "model.n_outputs must be 10 or 11, got 12"),
        (["+augment.n_mask=1"], "there is no setting augment.n_mask"),
        (["+data.front_end.log_mel.fmin=1"], "there is no setting data.front_end.log_mel.fmin"),
    ],
)
def test_what_the_messages_say(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check(*overrides)


def test_the_edges_of_the_ranges_pass() -> None:
    check("seed=0", "max_epochs=1", "data.batch_size=1", "model.dropout=0", "classifier.weight_decay=0", "augment.n_masks=0")
    check("augment.time_mask_param=101", "augment.freq_mask_param=40", "classifier.label_smoothing=0", "ckpt_path=./7")
    check("~model.dropout", f"~{LOG_MEL}.top_db", "data.front_end.trim=null", "data.test_speakers=[]")


def test_a_number_may_name_a_folder_that_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "2024").mkdir()
    check("data.root=2024")
    with pytest.raises(ValueError, match=r"data\.root must be a folder .*, or null, got 2025"):
        check("data.root=2025")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"clips": 0}, "clips must be a whole number, 1 or more, got 0"),
        ({"clips": "abc"}, "clips must be a whole number, 1 or more, got abc"),
        ({"root": 7}, "root must be a folder .*, or null, got 7"),
        ({"ckpt_path": None}, "ckpt_path must be a path .*, got null"),
        ({"out": 7}, r"out must be a file name that ends in \.onnx, in a folder that exists, got 7"),
        ({"out": "foo.bin"}, "out must .* got foo.bin"),
        ({"out": "/nowhere/at/all/x.onnx"}, "out must .* got /nowhere/at/all/x.onnx"),
        ({"out": "???"}, "out must .* got nothing"),
    ],
)
def test_settings_of_an_export(overrides: dict[str, object], message: str) -> None:
    right = {"ckpt_path": "pretrained", "out": "x.onnx", "root": None, "clips": 100}
    settings.check(OmegaConf.create(right), settings.EXPORT)
    with pytest.raises(ValueError, match=message):
        settings.check(OmegaConf.create(right | overrides), settings.EXPORT)


def test_the_table_knows_every_network() -> None:
    assert set(settings.N_CHANNELS) == set(networks.NETWORKS)
    for name, n_channels in settings.N_CHANNELS.items():
        networks.build(name, channels=[8] * n_channels)


@pytest.mark.parametrize("name", ["train", "export"])
def test_every_setting_of_the_table_is_in_the_config(name: str) -> None:
    train = [compose_config("name=x", "run_dir=x", group) for group in ("model=resnet", "model=cnn", "data=shards")]
    cfgs = train if name == "train" else [compose_config(name="export")]
    for pattern in settings.TRAIN if name == "train" else settings.EXPORT:
        setting = pattern.replace("*", "clean")
        may_lack = setting in ("out", "data.shards") or setting.startswith("data.train_sets.clean.")
        assert may_lack or any(OmegaConf.select(cfg, setting, default="none") != "none" for cfg in cfgs)


@pytest.mark.parametrize("name", ["train", "mic", "export"])
def test_a_setting_that_no_command_has_cannot_be_added(name: str) -> None:
    needed = {"train": ["name=x", "run_dir=x"], "mic": [], "export": ["out=x.onnx"]}[name]
    tables = {"train": settings.TRAIN, "mic": settings.MIC, "export": settings.EXPORT}
    settings.check(compose_config(*needed, name=name), tables[name])
    with pytest.raises(ValueError, match=r"^there is no setting loudness$"):
        settings.check(compose_config(*needed, "+loudness=3", name=name), tables[name])


@pytest.mark.parametrize("name", ["data.source", "+data.train_sets.clean.source"])
def test_an_unknown_corpus_is_named_before_anything_is_loaded(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(name.lstrip('+'))} must be one of fsdd, .*, got songs$"):
        check(f"{name}=songs")


def test_it_loads_neither_torch_nor_hydra() -> None:
    code = "import sys, digits.settings; print(*sorted({'torch', 'hydra', 'lightning', 'omegaconf'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
