import ctypes.util
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
import soundfile
from conftest import compose_config, require, spoken
from rich.console import Console

from digits import audio, microphone
from digits import screen as screens
from digits.corpus import read_folder
from digits.mic import Listener, Recorder, check, listen
from digits.recognizer import Recognizer
from digits.screen import Heard, JsonLines, Lines, LiveView
from digits.segmenter import Segmenter, Word

REPOSITORY = Path(__file__).parent.parent
RATE = 48_000


def sequence(path: Path, digits: list[int], gap_s: float = 0.6) -> Path:
    """A recording of several words of the tiny corpus's kind, at 48 kHz with a faint noise floor."""
    parts: list[numpy.ndarray] = [numpy.zeros(RATE)]
    for digit in digits:
        word = audio.resample(spoken(digit, 0, 50), 8000, RATE)
        parts += [word, numpy.zeros(round(gap_s * RATE))]
    sound = numpy.concatenate(parts)
    sound += 2e-4 * numpy.random.default_rng(0).standard_normal(len(sound))
    soundfile.write(path, sound, RATE, subtype="PCM_16")
    return path


def mic(*arguments: str, extra: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "digits.mic", *arguments]
    environment = os.environ | (extra or {})
    return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, env=environment, timeout=60, check=False)


def replay(path: Path, checkpoint: Path, block_ms: float = 10, denoise: bool = False) -> list[dict]:
    """The microphone's loop over a file, in this process."""
    blocks, sample_rate = microphone.read_file(path, block_ms)
    listener = Listener(Segmenter(sample_rate), Recognizer.load(checkpoint), denoise)
    return [vars(heard) for heard in listen(blocks, listener, JsonLines())]


def test_a_file_is_heard_from_the_shell(tiny_checkpoint: Path, tmp_path: Path) -> None:
    words = [3, 1, 4, 5, 9, 2, 6, 8, 7, 0]
    path = sequence(tmp_path / "words.wav", words)
    done = mic(f"input={path}", f"ckpt_path={tiny_checkpoint}", "output=jsonl")
    assert done.returncode == 0, done.stderr
    heard = [json.loads(line) for line in done.stdout.splitlines()]
    fields = {"start_s", "end_s", "digit", "probability", "accepted", "reason", "latency_ms", "computing_ms"}
    assert [set(event) for event in heard] == [fields] * 10
    assert all(event["accepted"] and event["reason"] is None for event in heard)
    assert sum(event["digit"] == word for event, word in zip(heard, words, strict=True)) >= 9
    assert heard[0]["start_s"] == pytest.approx(1.1, abs=0.1)
    assert all(0 < event["computing_ms"] < event["latency_ms"] < 1000 for event in heard)
    assert f"model: {tiny_checkpoint}" in done.stderr
    text = mic(f"input={path}", f"ckpt_path={tiny_checkpoint}")
    assert len(text.stdout.splitlines()) == 11  # a heading, and a line a word
    assert "%" in text.stdout


@pytest.mark.parametrize("block_ms", [0.5, 7.3, 100, 100_000])
def test_the_answer_does_not_depend_on_the_block_size(tiny_checkpoint: Path, tmp_path: Path, block_ms: float) -> None:
    path = sequence(tmp_path / "words.wav", [3, 8, 1])
    reference, heard = replay(path, tiny_checkpoint), replay(path, tiny_checkpoint, block_ms)
    for event in reference + heard:
        del event["latency_ms"], event["computing_ms"]
    assert heard == reference
    assert len(heard) == 3


def test_the_microphone_s_answer_is_the_file_s(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for digit in (0, 3, 6, 9):
        path = sequence(tmp_path / f"{digit}.wav", [digit])
        (heard,) = replay(path, tiny_checkpoint)
        assert heard["digit"] == Recognizer.load(tiny_checkpoint)(*audio.read(path)).digit


def test_denoise_runs_on_each_word(tiny_checkpoint: Path, tmp_path: Path) -> None:
    path = sequence(tmp_path / "words.wav", [3, 8])
    plain, cleaned = replay(path, tiny_checkpoint), replay(path, tiny_checkpoint, denoise=True)
    assert len(cleaned) == 2
    assert [event["probability"] for event in plain] != [event["probability"] for event in cleaned]


def test_seconds_ends_the_stream(tiny_checkpoint: Path, tmp_path: Path) -> None:
    path = sequence(tmp_path / "words.wav", [3, 8, 1])
    listener = Listener(Segmenter(RATE), Recognizer.load(tiny_checkpoint))
    blocks, _ = microphone.read_file(path, 10)
    assert len(list(listen(blocks, listener, Lines(), seconds=1.9))) == 1


@pytest.mark.slow
def test_ten_hours_lose_nothing_drift_nowhere_and_fill_no_memory(tiny_checkpoint: Path) -> None:
    """A word every ten seconds, replayed as fast as it is computed."""
    rate, hours = 16_000, 10
    word = audio.resample(spoken(3, 0, 50), 8000, rate)
    noise = (2e-4 * numpy.random.default_rng(0).standard_normal(10 * rate)).astype(numpy.float32)
    noise[5 * rate : 5 * rate + len(word)] += word
    blocks = (block for _ in range(360 * hours) for block in noise.reshape(-1, rate // 10))
    listener = Listener(Segmenter(rate), Recognizer.load(tiny_checkpoint))
    starts, digits, memory = [], set(), []
    for heard in listen(blocks, listener, Lines()):
        starts.append(heard.start_s)
        digits.add(heard.digit)
        memory.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
    assert len(starts) == 360 * hours
    assert digits == {3}
    drift = [start - 10 * index for index, start in enumerate(starts)]
    assert max(drift) - min(drift) < 0.011  # a level frame
    assert max(memory[100:]) - min(memory[100:]) < 20e6


def test_zeros_are_warned_of_once(tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listener = Listener(Segmenter(RATE), Recognizer.load(tiny_checkpoint))
    blocks = microphone.read_blocks(numpy.zeros(10 * RATE, dtype=numpy.float32), 480)
    assert list(listen(blocks, listener, Lines())) == []
    assert capsys.readouterr().err.count("delivers only zeros") == 1


def heard(digit: int | None, probability: float | None, reason: str | None = None) -> Heard:
    return Heard(1.0, 1.4, digit, probability, reason is None, reason, 210.0, 4.0)


def shown(view: LiveView, width: int = 100) -> str:
    """The view as a terminal would have it, without colours."""
    view.console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    view.console.print(view.render())
    return view.console.file.getvalue()  # type: ignore[attr-defined]


def test_the_live_view_shows_level_floor_digits_and_refusals() -> None:
    view = LiveView()
    empty = shown(view)
    view.level(-20.0, -60.0, -50.0, 3)
    view.show(heard(7, 0.93))
    view.show(heard(3, 0.4, "not sure"))
    view.show(heard(None, None, "too short"))
    view.say("USB Microphone is back")
    picture = shown(view)
    meter = next(line for line in picture.splitlines() if "dB" in line)
    assert meter.index("-20 dB") < meter.index("│ floor") - meter.count("·")
    assert 25 < meter.count("█") < 40
    for text in ("93%", "210 ms", "not sure", "too short", "USB Microphone is back", "1 digits, 2 refused, 3 overruns"):
        assert text in picture
    assert "██████" in picture
    assert len(empty.splitlines()) == len(picture.splitlines())  # it does not jump
    assert all(len(line) <= 80 for line in picture.splitlines())
    for _ in range(50):
        view.show(heard(8, 1.0))
    assert len(shown(view).splitlines()) == len(picture.splitlines())


def test_every_digit_has_its_own_glyph() -> None:
    assert {len(glyph) for glyph in screens.GLYPHS.values()} == {19}
    assert len(set(screens.GLYPHS.values())) == 10


def test_unknown_output_is_refused() -> None:
    with pytest.raises(ValueError, match="output must be text or jsonl, got xml"):
        screens.make("xml", live=False)


def test_refused_sounds_say_why(tiny_checkpoint: Path, tmp_path: Path) -> None:
    click = numpy.zeros(RATE)
    click[RATE // 2] = 1.0
    noise = 2e-4 * numpy.random.default_rng(0).standard_normal(8 * RATE)
    noise[RATE : 2 * RATE] += click
    noise[3 * RATE : 6 * RATE] += 0.1 * numpy.sin(numpy.arange(3 * RATE) * 0.05)
    soundfile.write(tmp_path / "sounds.wav", noise, RATE)
    events = replay(tmp_path / "sounds.wav", tiny_checkpoint)
    assert [(event["reason"], event["digit"], event["accepted"]) for event in events] == [
        ("too short", None, False),
        ("too long", None, False),
    ]


@pytest.mark.parametrize(("lacking", "reason"), [(0.1, "not sure"), (0.6, "no digit")])
def test_a_sound_that_is_no_digit_is_told_from_one_that_is_not_sure(lacking: float, reason: str) -> None:
    probabilities = numpy.array([[0.5 - lacking / 2, 0.5 - lacking / 2, *[0.0] * 8]], dtype=numpy.float32)
    recognizer = Recognizer(audio.WordWindow(), lambda windows: probabilities, threshold=0.9)
    noise = 1e-3 * numpy.random.default_rng(0).standard_normal(2 * RATE)
    noise[RATE : RATE + RATE // 3] += 0.1 * numpy.sin(numpy.arange(RATE // 3) * 0.1)
    (event,) = Listener(Segmenter(RATE), recognizer).hear(noise.astype(numpy.float32))
    assert (event.digit, event.accepted, event.reason) == (0, False, reason)


def test_what_was_heard_can_be_recorded_as_a_corpus(tiny_checkpoint: Path, tmp_path: Path) -> None:
    path = sequence(tmp_path / "words.wav", [3, 8, 1])
    folder = tmp_path / "mine"
    for _ in range(2):  # a second time goes on counting
        blocks, sample_rate = microphone.read_file(path, 10)
        listener = Listener(Segmenter(sample_rate), Recognizer.load(tiny_checkpoint), record=Recorder(folder, "ann"))
        events = list(listen(blocks, listener, Lines()))
    corpus = read_folder(folder, "mine")
    assert [(clip.digit, clip.speaker) for clip in corpus.clips] == sorted((event.digit, "ann") for event in 2 * events)
    assert len({clip.take for clip in corpus.clips}) == 6
    recognizer = Recognizer.load(tiny_checkpoint)
    assert all(recognizer(*audio.read(clip.path)).digit == clip.digit for clip in corpus.clips)
    Recorder(folder, "ann")(word_of(path), heard(3, 0.4, "not sure"))
    assert [path.name for path in (tmp_path / "mine_refused").iterdir()] == ["not-sure_6.wav"]
    with pytest.raises(ValueError, match="speaker must consist of letters and digits, got a_b"):
        Recorder(folder, "a_b")


def word_of(path: Path) -> Word:
    waveform, sample_rate = audio.read(path)
    return next(iter(Segmenter(sample_rate).feed(waveform)))


def test_the_config_s_segmenter_is_the_default_one() -> None:
    settings = compose_config(name="mic").segmenter
    assert vars(Segmenter(RATE, **settings)).keys() == vars(Segmenter(RATE)).keys()
    configured, default = vars(Segmenter(RATE, **settings)), vars(Segmenter(RATE))
    assert {k: v for k, v in configured.items() if isinstance(v, int | float)} == {
        k: v for k, v in default.items() if isinstance(v, int | float)
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["input=/nowhere.wav"], "/nowhere.wav: no such file"),
        (["ckpt_path=/nowhere.ckpt"], "/nowhere.ckpt: no such checkpoint"),
        (["ckpt_path=/nowhere.npz"], "/nowhere.npz: no such model"),
        (["devise=1"], "digits.mic: there is no setting devise"),
        (["segmenter.onset=1"], "digits.mic: there is no setting segmenter.onset"),
    ],
)
def test_mistakes_end_in_one_line(arguments: list[str], message: str, tiny_checkpoint: Path) -> None:
    given = arguments if "kpt" in arguments[0] or "outputs" in arguments[0] else [*arguments, f"ckpt_path={tiny_checkpoint}"]
    done = mic(*given)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "Error executing job" not in done.stderr


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seconds=long", "seconds must be a number, 0 or more, got long"),
        ("block_ms=-3", "block_ms must be a number, 0 or more, got -3"),
        ("segmenter.onset_db=true", r"segmenter\.onset_db must be a number, 0 or more, got True"),
        ("denoise=7", "denoise must be true or false, got 7"),
        ("live=maybe", "live must be true, false or auto, got maybe"),
    ],
)
def test_settings_of_a_wrong_kind_are_named(setting: str, message: str) -> None:
    check(compose_config(name="mic"))
    with pytest.raises(ValueError, match=message):
        check(compose_config(setting, name="mic"))


def test_missing_portaudio_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    with pytest.raises(microphone.MicrophoneError, match="PortAudio is missing: install it"):
        microphone.input_devices()


class FakeSoundDevice:
    """PortAudio's answers on a machine with two microphones and a loudspeaker."""

    class default:  # noqa: N801 - sounddevice's name
        device = (1, 0)

    @staticmethod
    def query_devices() -> list[dict]:
        names = [("Loudspeaker", 0), ("Built-in Microphone", 2), ("USB Microphone", 1)]
        return [
            {"index": index, "name": name, "max_input_channels": channels, "default_samplerate": 44_100.0}
            for index, (name, channels) in enumerate(names)
        ]


def test_devices_are_found_by_number_and_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", FakeSoundDevice)
    assert microphone.find_device(None)["name"] == "Built-in Microphone"
    assert microphone.find_device(2)["name"] == "USB Microphone"
    assert microphone.find_device("usb")["name"] == "USB Microphone"
    with pytest.raises(microphone.MicrophoneError, match=r"several .*device=microphone.*1 \(Built-in Microphone\), 2 \(USB"):
        microphone.find_device("microphone")
    for nonsense in (0, 7, "trumpet"):
        with pytest.raises(microphone.MicrophoneError, match=f"no input device matches device={nonsense}; there are: 1"):
            microphone.find_device(nonsense)
    assert "* " in microphone.describe_devices().splitlines()[0]
    monkeypatch.setattr(FakeSoundDevice, "query_devices", lambda: [])
    with pytest.raises(microphone.MicrophoneError, match="no input device"):
        microphone.find_device(None)


class SoundServer:
    """A private PulseAudio with a null sink whose monitor is the microphone; no sound card takes part."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.environment = {
            "HOME": folder,
            "XDG_RUNTIME_DIR": folder,
            "PULSE_RUNTIME_PATH": folder,
            "PULSE_SERVER": f"unix:{folder}/native",
            "PULSE_SOURCE": "fake.monitor",
        }
        self.start()

    def start(self) -> None:
        command = ["pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1", "--disable-shm=yes"]
        modules = (
            f"module-native-protocol-unix socket={self.folder}/native auth-anonymous=1",
            "module-null-sink sink_name=fake rate=48000 channels=1 format=s16le",
        )
        command += [f"--load={module}" for module in modules]
        self.process = subprocess.Popen(command, env=os.environ | self.environment, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not Path(self.folder, "native").exists() and time.monotonic() < deadline:
            time.sleep(0.05)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        Path(self.folder, "native").unlink(missing_ok=True)

    def wait_for_listener(self) -> None:
        """Until a client records from the null sink."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self._run("pactl", "list", "short", "source-outputs").stdout.strip():
                return
            time.sleep(0.1)
        raise AssertionError("the microphone was never opened")

    def play(self, path: Path) -> None:
        assert self._run("paplay", "--device=fake", str(path)).returncode == 0

    def _run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command, env=os.environ | self.environment, capture_output=True, text=True, check=False)


@pytest.fixture
def sound_server() -> Iterator[SoundServer]:
    require(ctypes.util.find_library("portaudio"), "PortAudio is not installed")
    folder = tempfile.mkdtemp(prefix="pulse-")  # short: a socket's path has at most 107 characters
    server = SoundServer(folder)
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


def start_mic(checkpoint: Path | str, environment: dict[str, str], *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "digits.mic", f"ckpt_path={checkpoint}", "device=pulse", *arguments]
    return subprocess.Popen(
        command, cwd=REPOSITORY, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.hardware
@pytest.mark.fsdd
def test_hears_fsdd_s_digits_through_a_real_capture_stream(tmp_path: Path, sound_server: SoundServer) -> None:
    chosen = random.Random(1)
    recordings = Path(os.environ["FSDD_ROOT"])
    recordings = recordings / "recordings" if (recordings / "recordings").is_dir() else recordings
    speakers = ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"]
    words = list(range(10))
    chosen.shuffle(words)
    parts: list[numpy.ndarray] = [numpy.zeros(2 * RATE)]
    for word in words:
        clip = audio.read(recordings / f"{word}_{chosen.choice(speakers)}_{chosen.randrange(5)}.wav")
        parts += [audio.resample(*clip, RATE), numpy.zeros(round(0.7 * RATE))]
    sound = numpy.concatenate(parts)
    sound += 5e-4 * numpy.random.default_rng(0).standard_normal(len(sound))  # no room is as silent as zeros
    soundfile.write(tmp_path / "words.wav", sound, RATE, subtype="PCM_16")

    process = start_mic("pretrained", sound_server.environment, "output=jsonl")
    sound_server.wait_for_listener()
    sound_server.play(tmp_path / "words.wav")
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=20)
    events = [json.loads(line) for line in output.splitlines()]
    heard = [event["digit"] for event in events if event["accepted"]]
    assert process.returncode == 0, errors
    assert "stopped" in errors
    assert "Traceback" not in errors
    assert len(heard) == 10, (heard, words)
    assert sum(one == other for one, other in zip(heard, words, strict=True)) >= 9


@pytest.mark.hardware
def test_a_microphone_that_goes_and_comes_back_is_taken_up_again(
    tiny_checkpoint: Path, tmp_path: Path, sound_server: SoundServer
) -> None:
    process = start_mic(tiny_checkpoint, sound_server.environment, "output=jsonl")
    sound_server.wait_for_listener()
    sound_server.play(sequence(tmp_path / "before.wav", [3]))
    sound_server.stop()
    time.sleep(4)
    sound_server.start()
    sound_server.wait_for_listener()
    sound_server.play(sequence(tmp_path / "after.wav", [8]))
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert [json.loads(line)["digit"] for line in output.splitlines()] == [3, 8]
    assert errors.index("no sound has come from") < errors.index("is back") < errors.index("stopped")
    assert "Traceback" not in errors


@pytest.mark.hardware
def test_devices_are_listed(sound_server: SoundServer) -> None:
    done = mic("list_devices=true", extra=sound_server.environment)
    assert done.returncode == 0, done.stderr
    assert "pulse" in done.stdout


@pytest.mark.hardware
def test_a_microphone_that_cannot_be_opened_is_one_sentence(tiny_checkpoint: Path, tmp_path: Path) -> None:
    nowhere = {"PULSE_SERVER": f"unix:{tmp_path}/none", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    done = mic(f"ckpt_path={tiny_checkpoint}", extra=nowhere)
    assert done.returncode == 1
    assert "digits.mic: " in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
