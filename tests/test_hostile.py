"""What hostile and mistaken input leads to: a table of command lines and outcomes.

Whatever is refused ends in one line that names it, with a status other than 0; nothing is printed as heard, and nothing is left
behind.
"""

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import soundfile
from support import Outcome, sequence, spoken

RATE = 8000

RECORDINGS = {  # refused by predict, mic and Recognizer alike, with these words
    "nowhere.wav": "no such file",
    "empty.wav": "not readable as audio",
    "text.wav": "not readable as audio",
    "random.flac": "not readable as audio",
    "zeros.wav": "not readable as audio",
    "riff.wav": "not readable as audio",
    "memo.m4a": "ffmpeg -i",
    "page.mp3": "not readable as audio",
    "cut.wav": "the file is truncated",
    "cut.flac": "",
    "cut.ogg": "the file is truncated",
    "cut.aiff": "the file is truncated",
    "cut.au": "the file is truncated",
    "cut.w64": "the file is truncated",
    "chained.ogg": "holds several recordings, one after another",
    "silent.wav": "only silence",
    "faint.wav": "only silence",
    "none.wav": "too short to hold a word",
    "short.wav": "too short to hold a word",
    "nan.wav": "NaN or infinite",
    "inf.wav": "NaN or infinite",
    "slow.wav": "sample_rate must be 4000 to 768000 Hz, got 100",
    "fast.wav": "sample_rate must be 4000 to 768000 Hz, got 2000000",
    "looped.wav": "",
    "seven.wav/inner.wav": "no such file",
    300 * "x": "File name too long",
}

MODELS = {  # refused by predict, mic, export, evaluation
    "nowhere.onnx": "no such model",
    "nowhere.npz": "no such model",
    "nowhere.ckpt": "no such ",
    "empty.onnx": "damaged",
    "empty.npz": "damaged",
    "empty.ckpt": "",
    "text.onnx": "damaged",
    "text.npz": "damaged",
    "text.ckpt": "",
    "half.onnx": "damaged",
    "half.npz": "damaged",
    "half.ckpt": "",
    "longer.onnx": "damaged",
    "sound.onnx": "damaged",
    "sound.npz": "damaged",
    "sound.ckpt": "",
    "swapped.npz": "damaged",
    "swapped.onnx": "damaged",
    "swapped.ckpt": "",
}

# Refused; more values of a wrong kind stand in test_settings and test_mic. {f} is a folder with the files above, {c} a
# small corpus.
COMMAND_LINES = [
    ("predict", ["{f}/seven.wav", "--threshold=2"], "threshold must be strict, balanced, eager or a number from 0 to 1, got 2.0"),
    ("predict", ["{f}/seven.wav", "--threshold=nan"], "threshold must be strict, balanced, eager or a number from 0 to 1, got nan"),
    (
        "predict",
        ["{f}/seven.wav", "--threshold=high"],
        "threshold must be strict, balanced, eager or a number from 0 to 1, got high",
    ),
    ("predict", ["{f}/seven.wav", "--csv", "--json"], "not allowed with argument"),
    ("predict", ["{f}/seven.wav", "--score", "--csv"], "not allowed with argument"),
    ("predict", ["--loud", "{f}/seven.wav"], "unrecognized arguments: --loud"),
    ("predict", [], "the following arguments are required: FILE"),
    ("predict", [""], "an empty file name"),
    ("predict", ["/dev/zero"], "a device, not a recording"),
    ("predict", ["/dev/null"], "a device, not a recording"),
    ("predict", ["{f}/empty folder"], "no recordings in this folder"),
    ("predict", ["--score", "{f}/empty folder"], "no recordings in this folder"),
    ("predict", ["--score", "{f}/nowhere"], "no such file"),
    ("predict", ["--score", "{f}/seven.wav"], "a recording must be named"),
    ("predict", ["--score", "{f}/unlabelled"], "a recording must be named {digit}_{speaker}_{n}"),
    ("predict", ["--score", ""], "an empty file name"),
    ("predict", ["--score", "{f}/long"], "longer than 2.5 s, which is no recording of one word"),
    ("mic", ["{f}/seven.wav", "hydra.mode=MULTIRUN"], "Hydra's own settings are only for digits train"),
    ("mic", ["{f}/seven.wav", "record=/"], "record must be a folder with a name"),
    ("mic", ["{f}/seven.wav", "{f}/text.wav"], "one recording at a time"),
    ("mic", ["{f}/seven.wav", "input=x"], "one recording at a time"),
    ("mic", ["input=[a]"], "input must be the name of a file"),
    ("mic", ["input={a:1}"], "input must be the name of a file"),
    ("mic", ["input=a b [c]"], "cannot read input=a b [c]"),
    ("mic", ["input='unfinished"], "cannot read"),
    ("mic", ["{f}/seven.wav", "+loud=1"], "there is no setting loud"),
    ("mic", ["{f}/seven.wav", "loud=1"], "there is no setting loud"),
    ("mic", ["{f}/seven.wav", "segmenter.loud=1"], "there is no setting segmenter.loud"),
    ("mic", ["{f}/seven.wav", "--loud"], "unrecognized arguments: --loud"),
    ("mic", ["-m", "{f}/seven.wav"], "only for digits train"),
    ("mic", ["{f}/seven.wav", "threshold=high"], "threshold must be strict, balanced, eager or a number from 0 to 1, got high"),
    ("mic", ["{f}/seven.wav", "threshold=-1"], "threshold must be strict, balanced, eager or a number from 0 to 1, got -1"),
    ("mic", ["{f}/seven.wav", "output=xml"], "output must be text or jsonl, got xml"),
    ("mic", ["{f}/seven.wav", "block_ms=1e9"], "block_ms must be a number above 0"),
    ("mic", ["{f}/seven.wav", "record={f}/seven.wav"], "is not a folder"),
    ("mic", ["{f}/seven.wav", "record={f}/seven.wav/inner"], ""),
    ("mic", ["{f}/seven.wav", "record={f}/new", "speaker=a/b"], "speaker must consist of letters and digits"),
    ("mic", ["{f}/seven.wav", "prompt=true"], "prompt=true needs record=FOLDER"),
    ("mic", ["{f}/seven.wav", "segmenter.hang_ms=-5"], "segmenter.hang_ms must be a number from 0"),
    ("mic", ["{f}/seven.wav", "segmenter.min_ms=900", "segmenter.max_ms=100"], ""),
    ("export", [], "out must be a file name that ends in .onnx"),
    ("export", ["out=model.bin"], "out must be a file name that ends in .onnx"),
    ("export", ["out=/nowhere/at/all/x.onnx"], "in a folder that exists"),
    ("export", ["out={f}/new.onnx", "clips=0"], "clips must be a whole number, 1 or more"),
    ("export", ["out={f}/new.onnx", "root={f}/nowhere"], "no such folder"),
    ("export", ["out={f}/new.onnx", "root={f}/empty folder"], "no recordings named like"),
    ("export", ["out={f}/new.onnx", "root={f}/unlabelled"], "a recording must be named"),
    ("export", ["out={f}/new.onnx", "ckpt_path={f}/good.onnx"], "ckpt_path must be pretrained"),
    ("export", ["out={f}/new.onnx", "ckpt_path=7"], "ckpt_path must be a path"),
    ("export", ["out={f}/new.onnx", "loud=1"], "there is no setting loud"),
    ("calibrate", [], "the following arguments are required"),
    ("calibrate", ["{f}/good.ckpt", "{f}/new.npz"], "the following arguments are required: --held-out"),
    ("calibrate", ["{f}/good.ckpt", "{f}/new.npz", "--held-out", "{f}/nowhere"], "no finished run"),
    ("calibrate", ["{f}/text.ckpt", "{f}/new.npz", "--held-out", "{f}/outputs"], ""),
    ("calibrate", ["{f}/nowhere.ckpt", "{f}/new.npz", "--held-out", "{f}/outputs"], ""),
    ("train", ["experiment=loud"], "loud"),
    ("train", ["data=loud"], "loud"),
    ("train", ["experiment"], "experiment is not a setting"),
    ("train", ["=5"], ""),
    ("train", ["--loud"], "unrecognized arguments: --loud"),
    ("train", ["loud=1"], "there is no setting loud"),
    ("train", ["+augment._loud=1"], "there is no setting augment._loud"),
    ("train", ["+data._partial_=true"], "there is no setting data._partial_"),
    ("train", ["+data.loud=1"], "there is no setting data.loud"),
    ("train", ["+loud=1"], "there is no setting loud"),
    ("train", ["seed=1.5"], "seed must be a whole number"),
    ("train", ["seed=1,2"], ""),
    ("train", ["max_epochs=0"], "max_epochs must be a whole number, 1 or more"),
    ("train", ["trainer.loud=1"], "there is no setting trainer.loud"),
    ("train", ["data.source=songs"], "data.source must be one of fsdd, "),
    ("train", ["data=folder"], "data=folder needs data.root=FOLDER"),
    ("train", ["data=folder", "data.root={f}/nowhere"], "data.root must be a folder that exists"),
    ("train", ["data=folder", "data.root={f}/seven.wav"], "data.root must be a folder that exists"),
    ("train", ["data=folder", "data.root={f}/empty folder"], "no recordings named like"),
    ("train", ["data=folder", "data.root={f}/unlabelled"], "a recording must be named"),
    ("train", ["data=folder", "data.root={f}/formats"], "ffmpeg -i"),
    ("train", ["data=folder", "data.root={f}/damaged", "data.split=all"], "not readable as audio"),
    ("train", ["data=folder", "data.root={f}/mute", "data.split=all"], "only silence"),
    ("train", ["data=folder", "data.root={c}", "data.split=speaker"], "data.test_speakers must name some of ann, bob, got []"),
    ("train", ["data=folder", "data.root={c}", "data.split=speaker", "data.test_speakers=[eve]"], "ann, bob, got ['eve']"),
    ("train", ["data=folder", "data.root={c}", "data.split=speaker", "data.test_speakers=[ann,bob]"], "names every speaker"),
    ("train", ["data=folder", "data.root={c}", "data.split=take_fold", "data.fold=9"], "leaves no clips for test"),
    ("train", ["data=folder", "data.root={c}", "data.split=test_only"], "leaves nothing to train on"),
    ("train", ["data.train_sets.clean.copies=0"], "data.train_sets needs a part with copies"),
    ("train", ["+data.train_sets.more.source=songs"], "data.train_sets.more.source must be one of"),
    ("train", ["+data.train_sets.clean.effects={echo: {}}"], "unknown effect echo"),
    ("train", ["+data.train_sets.clean.effects={reverb: {rt60_s: -1}}"], "effect reverb"),
    ("train", ["+data.train_sets.clean.effects={white_noise: {snr_db: [1, 2, 3]}}"], "[lowest, highest]"),
    ("train", ["+data.train_sets.clean.loud=1"], "loud"),
    ("train", ["+data.loud=1"], "loud"),
    ("train", ["+classifier.loud=1"], "loud"),
    ("train", ["+model.loud=1"], "loud"),
    ("train", ["+augment.loud=1"], "there is no setting augment.loud"),
    ("train", ["conditions=recorded"], "noise_root=FOLDER"),
    ("train", ["conditions=recorded", "noise_root={f}/nowhere"], "no such folder"),
    ("train", ["conditions=recorded", "noise_root={f}/empty folder"], "no recordings in this folder"),
    ("train", ["conditions=loud"], "loud"),
    ("train", ["+conditions.echo={echo: {}}"], "unknown effect echo"),
    ("train", ["~conditions.clean"], "data.test_conditions needs one named clean"),
    ("train", ["data.front_end.log_mel.f_max=30000"], "f_max must be at most 24000"),
    ("train", ["model.name=os.system"], "model.name must be DigitCNN or DigitResNet"),
    ("train", ["model.channels=[8,16]"], "model.channels must hold 3 numbers"),
    ("train", ["model=resnet", "model.channels=[100000,1,1,1]"], "whole numbers from 1 to 4096"),
    ("train", ["classifier.learning_rate=0"], "classifier.learning_rate must be a number above 0"),
    ("train", ["augment.time_mask_param=1000"], "augment.time_mask_param must be at most 101"),
    ("train", ["fit=no"], "fit must be true or false, got no"),
    ("train", ["fit=false"], "it needs ckpt_path=.../best.ckpt"),
    ("train", ["name=a/b"], "name must consist of letters, digits, _ and -"),
    ("train", ["ckpt_path=7"], "ckpt_path must be a path"),
    ("train", ["ckpt_path={f}/good.onnx"], "digits predict --score FOLDER measures a model of any kind"),
    ("train", ["ckpt_path=pretrained", "fit=false"], "digits predict --score FOLDER measures a model of any kind"),
    ("train", ["ckpt_path={f}/text.ckpt"], ""),
    ("train", ["ckpt_path={f}/good.ckpt"], "they must match"),
    ("train", ["ckpt_path={f}/stranger/last.ckpt"], "which is not taken from a file"),
    ("train", ["ckpt_path={f}/unreadable/last.ckpt"], "not readable as the settings of a run"),
    ("train", ["data.front_end.trim.margin_ms=1e308"], "data.front_end.trim.margin_ms must lie in [0, 10000]"),
    ("train", ["data.front_end.log_mel.hop_length=1"], "hop_length must leave at most 1000 frames"),
    ("train", ["data.front_end.log_mel.n_fft=65536"], "n_fft must be a whole number from 16 to 8192"),
    ("train", ["+conditions.x={white_noise: {snr_db: nan}}"], "snr_db must be at most"),
    ("train", ["+conditions.x={drop_packets: {fraction: 1}}"], "leaves nothing to hear"),
    ("train", ["+conditions.x={reverb: {rt60_s: 1000}}"], "rt60_s must be above 0, at most 20"),
    ("train", ['fit="false"'], "fit must be true or false, got the text 'false'"),
    ("train", ["trainer.limit_train_batches=0"], "leaves nothing to learn from"),
    ("train", ["trainer.limit_val_batches=0"], "leaves nothing to choose the best epoch by"),
]

TAKEN = [  # unusual, and right
    ("predict", ["{f}/seven.wav"], ": 7  "),
    ("predict", ["{f}/stereo.wav"], ": 7  "),
    ("predict", ["{f}/loud.wav"], ": 7  "),
    ("predict", ["{f}/seven"], ": 7  "),
    ("predict", ["{f}/./seven.wav", "--threshold=0"], ": 7  "),
    ("predict", ["{f}/ü [1] & {x}.wav"], ": 7  "),
    ("predict", ["{f}/seven.wav", "--threshold=1e-9", "--csv"], ",7,"),
    ("predict", ["--json", "{f}/seven.wav"], '"digit": 7'),
    ("predict", ["--score", "{f}/good"], "100.0% (1 of 1"),
    ("predict", ["{f}/words.wav"], ": 3  "),
    ("mic", ["{f}/ü [1] & {x}.wav"], ""),
    ("mic", ["{f}/words.wav", "block_ms=999"], " 3 "),
    ("mic", ["{f}/words.wav", "block_ms=0.5", "seconds=2"], " 3 "),
    ("mic", ["output=jsonl", "{f}/words.wav", "--cfg", "job"], "output: jsonl"),
]


@pytest.fixture(scope="module")
def hostile(
    tmp_path_factory: pytest.TempPathFactory, exported_model: Path, plain_model: Path, tiny_checkpoint: Path, tiny_corpus: Path
) -> Path:
    """A folder with everything that the tables name."""
    folder = tmp_path_factory.mktemp("hostile")
    word, models = spoken(7, 0, 0), {"onnx": exported_model, "npz": plain_model, "ckpt": tiny_checkpoint}
    soundfile.write(folder / "seven.wav", word, RATE)
    (folder / "seven").write_bytes((folder / "seven.wav").read_bytes())
    (folder / "ü [1] & {x}.wav").write_bytes((folder / "seven.wav").read_bytes())
    soundfile.write(folder / "stereo.wav", numpy.stack([word, word], axis=1), RATE)
    soundfile.write(folder / "loud.wav", 1000 * word, RATE, subtype="FLOAT")
    sequence(folder / "words.wav", [3, 8])
    unreadable = {"empty.wav": b"", "text.wav": b"hello", "zeros.wav": bytes(1000), "riff.wav": b"RIFF\xff\xff\xff\xffWAVE"}
    unreadable |= {"random.flac": numpy.random.default_rng(0).bytes(5000), "page.mp3": b"<html>not found</html>" * 50}
    unreadable |= {"memo.m4a": b"\0\0\0\x1cftypM4A " + bytes(500)}
    for name, content in unreadable.items():
        (folder / name).write_bytes(content)
    for suffix in ("wav", "flac", "ogg", "aiff", "au", "w64"):
        soundfile.write(folder / f"cut.{suffix}", numpy.tile(word, 4), RATE)
        (folder / f"cut.{suffix}").write_bytes((folder / f"cut.{suffix}").read_bytes()[:-900])
    ogg = io.BytesIO()
    soundfile.write(ogg, word, RATE, format="OGG", subtype="VORBIS")
    chained = ogg.getvalue().replace(ogg.getvalue()[14:18], b"next")  # the serial number of its stream
    (folder / "chained.ogg").write_bytes(ogg.getvalue() + chained)
    odd = {"silent": numpy.zeros(RATE), "faint": numpy.full(RATE, 1e-8), "none": numpy.zeros(0), "short": word[:50]}
    odd |= {"nan": numpy.append(word, numpy.nan), "inf": numpy.append(word, numpy.inf)}
    for name, samples in odd.items():
        soundfile.write(folder / f"{name}.wav", samples, RATE, subtype="FLOAT")
    soundfile.write(folder / "slow.wav", word, 100)
    soundfile.write(folder / "fast.wav", word, 2_000_000)
    (folder / "looped.wav").symlink_to("looped.wav")
    for kind, model in models.items():
        content = model.read_bytes()
        (folder / f"good.{kind}").write_bytes(content)
        (folder / f"half.{kind}").write_bytes(content[: len(content) // 2])
        (folder / f"longer.{kind}").write_bytes(content + b"\0")
        (folder / f"sound.{kind}").write_bytes((folder / "seven.wav").read_bytes())
        (folder / f"empty.{kind}").touch()
        (folder / f"text.{kind}").write_text("hello")
    for kind, other in (("onnx", "npz"), ("npz", "onnx"), ("ckpt", "onnx")):
        (folder / f"swapped.{kind}").write_bytes(models[other].read_bytes())
    for name, text in {
        "stranger": "- '+trainer.plugins=[{_target_: os.system, command: touch was_here}]'",
        "unreadable": ": : [",
    }.items():
        (folder / name / ".hydra").mkdir(parents=True)
        (folder / name / ".hydra" / "overrides.yaml").write_text(text)
        (folder / name / "last.ckpt").write_bytes(tiny_checkpoint.read_bytes())
    for name, files in {
        "empty folder": {},
        "outputs": {},
        "good": {"7_ann_0.wav": "seven.wav"},
        "unlabelled": {"seven.wav": "seven.wav"},
        "formats": {"7_ann_0.m4a": "memo.m4a"},
        "damaged": {"7_ann_5.wav": "seven.wav", "8_ann_5.wav": "text.wav"},
        "long": {"7_ann_5.wav": "words.wav"},
        "mute": {"7_ann_5.wav": "seven.wav", "8_ann_5.wav": "silent.wav"},
    }.items():
        (folder / name).mkdir()
        for copy, original in files.items():
            (folder / name / copy).write_bytes((folder / original).read_bytes())
    return folder


@pytest.fixture
def try_out(
    hostile: Path, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Outcome]
) -> Callable[..., Outcome]:
    """Runs a row of a table; what a file is asked for is heard by the tiny model, and the folders are as before."""

    def run(name: str, arguments: list[str]) -> Outcome:
        monkeypatch.chdir(tmp_path)
        given = [argument.replace("{f}", str(hostile)).replace("{c}", str(tiny_corpus)) for argument in arguments]
        model = {"predict": "--ckpt-path=", "mic": "ckpt_path="}.get(name)
        if model and not any(argument.startswith(model) for argument in given):
            given.append(f"{model}{hostile / 'good.onnx'}")
        before = sorted(hostile.rglob("*"))
        outcome = command(name, *given)
        assert sorted(hostile.rglob("*")) == before
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
        return outcome

    return run


def refused(outcome: Outcome, name: str, message: str) -> None:
    """One line of explanation, after those in which a command says what it is about to do."""
    assert outcome.returncode != 0
    lines = [line for line in outcome.stderr.splitlines() if not re.search(r"(^|; )model: ", line)]
    assert [line for line in lines if line.startswith(f"digits {name}: ")] == lines, outcome.stderr
    assert len(lines) == 1
    assert message in lines[0]
    assert "Error(" not in lines[0]


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda name: name[:20])
@pytest.mark.parametrize("name", ["predict", "mic"])
def test_recordings_that_are_refused(try_out: Callable[..., Outcome], hostile: Path, name: str, recording: str) -> None:
    outcome = try_out(name, [f"{{f}}/{recording}"])
    refused(outcome, name, RECORDINGS[recording])
    assert Path(recording).name in outcome.stderr
    assert "%" not in outcome.stdout  # nothing was heard


@pytest.mark.parametrize(
    ("name", "model"),
    [(name, model) for name in ("predict", "export") for model in MODELS if name != "export" or not model.endswith(".onnx")],
)
def test_models_that_are_refused(try_out: Callable[..., Outcome], name: str, model: str) -> None:
    arguments = {
        "predict": [f"--ckpt-path={{f}}/{model}", "{f}/seven.wav"],
        "export": [f"ckpt_path={{f}}/{model}", "out=new.onnx", "root={c}"],
    }
    outcome = try_out(name, arguments[name])
    refused(outcome, name, MODELS[model])
    assert model in outcome.stderr
    assert outcome.stdout == ""


@pytest.mark.parametrize(("name", "arguments", "message"), COMMAND_LINES, ids=[f"{n} {' '.join(a)}" for n, a, _ in COMMAND_LINES])
def test_command_lines_that_are_refused(try_out: Callable[..., Outcome], name: str, arguments: list[str], message: str) -> None:
    outcome = try_out(name, arguments)
    refused(outcome, name, message)
    assert name == "train" or outcome.stdout == ""  # which says what it sets out to do


@pytest.mark.parametrize(("name", "arguments", "output"), TAKEN, ids=[f"{n} {' '.join(a)}" for n, a, _ in TAKEN])
def test_unusual_input_that_is_right(try_out: Callable[..., Outcome], name: str, arguments: list[str], output: str) -> None:
    outcome = try_out(name, arguments)
    assert outcome.returncode == 0, outcome.stderr
    assert output in outcome.stdout
