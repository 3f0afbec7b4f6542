import ctypes.util
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

import pytest
import soundfile
import torch
from conftest import compose_config, require, spoken

from digits import audio, microphone
from digits.mic import Listener, Screen, listen
from digits.recognizer import Recognizer
from digits.segmenter import Segmenter

REPOSITORY = Path(__file__).parent.parent
RATE = 48_000


def sequence(path: Path, digits: list[int], gap_s: float = 0.6) -> Path:
    """A recording of several words of the tiny corpus's kind, at 48 kHz with a faint noise floor."""
    parts = [torch.zeros(RATE)]
    for digit in digits:
        word = audio.resample(torch.from_numpy(spoken(digit, 0, 50)), 8000, RATE)
        parts += [word, torch.zeros(round(gap_s * RATE))]
    sound = torch.cat(parts)
    sound += 2e-4 * torch.randn(len(sound), generator=torch.Generator().manual_seed(0))
    soundfile.write(path, sound.numpy(), RATE, subtype="PCM_16")
    return path


def mic(*arguments: str, extra: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "digits.mic", *arguments]
    environment = os.environ | (extra or {})
    return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, env=environment, timeout=60, check=False)


def replay(path: Path, checkpoint: Path, block_ms: float = 10, **settings: bool) -> list[dict]:
    """The microphone's loop over a file, in this process."""
    blocks, sample_rate = microphone.read_file(path, block_ms)
    listener = Listener(Segmenter(sample_rate), Recognizer.load(checkpoint), **settings)
    return [vars(heard) for heard in listen(blocks, listener, Screen("jsonl", meter=False))]


def test_a_file_is_heard_from_the_shell(tiny_checkpoint: Path, tmp_path: Path) -> None:
    words = [3, 1, 4, 5, 9, 2, 6, 8, 7, 0]
    path = sequence(tmp_path / "words.wav", words)
    done = mic(f"input={path}", f"ckpt_path={tiny_checkpoint}", "output=jsonl")
    assert done.returncode == 0, done.stderr
    heard = [json.loads(line) for line in done.stdout.splitlines()]
    assert [set(event) for event in heard] == [{"start_s", "end_s", "digit", "probability", "accepted", "latency_ms"}] * 10
    assert sum(event["digit"] == word for event, word in zip(heard, words, strict=True)) >= 9
    assert heard[0]["start_s"] == pytest.approx(1.1, abs=0.1)
    assert all(0 < event["latency_ms"] < 1000 for event in heard)
    assert f"model: {tiny_checkpoint}" in done.stderr
    text = mic(f"input={path}", f"ckpt_path={tiny_checkpoint}")
    assert len(text.stdout.splitlines()) == 10
    assert "%" in text.stdout


@pytest.mark.parametrize("block_ms", [0.5, 7.3, 100, 100_000])
def test_the_answer_does_not_depend_on_the_block_size(tiny_checkpoint: Path, tmp_path: Path, block_ms: float) -> None:
    path = sequence(tmp_path / "words.wav", [3, 8, 1])
    reference, heard = replay(path, tiny_checkpoint), replay(path, tiny_checkpoint, block_ms)
    for event in reference + heard:
        event.pop("latency_ms")
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
    assert len(list(listen(blocks, listener, Screen("text", meter=False), seconds=1.9))) == 1


def test_zeros_are_warned_of_once(tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listener = Listener(Segmenter(RATE), Recognizer.load(tiny_checkpoint))
    blocks = microphone.read_blocks(torch.zeros(10 * RATE), 480)
    assert list(listen(blocks, listener, Screen("text", meter=False))) == []
    assert capsys.readouterr().err.count("delivers only zeros") == 1


def test_the_level_meter_shows_level_and_floor(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen("text", meter=True)
    screen.level(-20.0, -60.0)
    line = capsys.readouterr().err
    assert line.startswith("\r")
    assert "-20 dB" in line
    assert 15 < line.count("█") < 28
    screen.level(-100.0, -75.0)
    assert "█" not in capsys.readouterr().err


def test_unknown_output_is_refused() -> None:
    with pytest.raises(ValueError, match="output must be text or jsonl, got xml"):
        Screen("xml", meter=False)


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
        (["devise=1"], "devise"),
    ],
)
def test_mistakes_end_in_one_line(arguments: list[str], message: str, tiny_checkpoint: Path) -> None:
    given = arguments if "kpt" in arguments[0] or "outputs" in arguments[0] else [*arguments, f"ckpt_path={tiny_checkpoint}"]
    done = mic(*given)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "Error executing job" not in done.stderr


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


@pytest.fixture
def sound_server() -> Iterator[tuple[dict[str, str], "subprocess.Popen[bytes]"]]:
    """A private PulseAudio with a null sink whose monitor is the microphone; no sound card takes part."""
    require(ctypes.util.find_library("portaudio"), "PortAudio is not installed")
    folder = tempfile.mkdtemp(prefix="pulse-")  # short: a socket's path has at most 107 characters
    environment = {
        "HOME": folder,
        "XDG_RUNTIME_DIR": folder,
        "PULSE_RUNTIME_PATH": folder,
        "PULSE_SERVER": f"unix:{folder}/native",
        "PULSE_SOURCE": "fake.monitor",
    }
    command = ["pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1", "--disable-shm=yes"]
    modules = (
        f"module-native-protocol-unix socket={folder}/native auth-anonymous=1",
        "module-null-sink sink_name=fake rate=48000 channels=1 format=s16le",
    )
    command += [f"--load={module}" for module in modules]
    server = subprocess.Popen(command, env=os.environ | environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while not Path(folder, "native").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    yield environment, server
    server.kill()
    server.wait()
    shutil.rmtree(folder, ignore_errors=True)


def start_mic(checkpoint: Path, environment: dict[str, str], *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "digits.mic", f"ckpt_path={checkpoint}", "device=pulse", *arguments]
    return subprocess.Popen(
        command, cwd=REPOSITORY, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_until_recording(environment: dict[str, str]) -> None:
    """Until a client records from the null sink."""
    deadline = time.monotonic() + 30
    command = ["pactl", "list", "short", "source-outputs"]
    while time.monotonic() < deadline:
        if subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False).stdout.strip():
            return
        time.sleep(0.1)
    raise AssertionError("the microphone was never opened")


@pytest.mark.hardware
@pytest.mark.fsdd
def test_hears_fsdd_s_test_digits_through_a_real_capture_stream(
    fsdd_checkpoint: Path, tmp_path: Path, sound_server: tuple[dict[str, str], "subprocess.Popen[bytes]"]
) -> None:
    environment, _ = sound_server
    chosen = random.Random(1)
    recordings = Path(os.environ["FSDD_ROOT"])
    recordings = recordings / "recordings" if (recordings / "recordings").is_dir() else recordings
    speakers = ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"]
    words = list(range(10))
    chosen.shuffle(words)
    parts = [torch.zeros(2 * RATE)]
    for word in words:
        clip = audio.read(recordings / f"{word}_{chosen.choice(speakers)}_{chosen.randrange(5)}.wav")
        parts += [audio.resample(*clip, RATE), torch.zeros(round(0.7 * RATE))]
    soundfile.write(tmp_path / "words.wav", torch.cat(parts).numpy(), RATE, subtype="PCM_16")

    process = start_mic(fsdd_checkpoint, environment, "output=jsonl")
    wait_until_recording(environment)
    subprocess.run(["paplay", "--device=fake", str(tmp_path / "words.wav")], env=os.environ | environment, check=True)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=20)
    heard = [json.loads(line)["digit"] for line in output.splitlines()]
    assert process.returncode == 0, errors
    assert "stopped" in errors
    assert "Traceback" not in errors
    assert len(heard) == 10, (heard, words)
    assert sum(one == other for one, other in zip(heard, words, strict=True)) >= 9


@pytest.mark.hardware
def test_a_sound_server_that_dies_ends_in_one_sentence(
    tiny_checkpoint: Path, sound_server: tuple[dict[str, str], "subprocess.Popen[bytes]"]
) -> None:
    environment, server = sound_server
    process = start_mic(tiny_checkpoint, environment)
    wait_until_recording(environment)
    time.sleep(2)
    server.kill()
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "no sound has come from" in errors
    assert "Traceback" not in errors


@pytest.mark.hardware
def test_devices_are_listed(sound_server: tuple[dict[str, str], "subprocess.Popen[bytes]"]) -> None:
    done = mic("list_devices=true", extra=sound_server[0])
    assert done.returncode == 0, done.stderr
    assert "pulse" in done.stdout


@pytest.mark.hardware
def test_a_microphone_that_cannot_be_opened_is_one_sentence(tiny_checkpoint: Path, tmp_path: Path) -> None:
    nowhere = {"PULSE_SERVER": f"unix:{tmp_path}/none", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    done = mic(f"ckpt_path={tiny_checkpoint}", extra=nowhere)
    assert done.returncode == 1
    assert "digits.mic: " in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
