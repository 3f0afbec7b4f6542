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
from datetime import datetime
from pathlib import Path

import numpy
import pytest
import soundfile
from support import require, sequence, shell, start, wait_until

from digits import audio
from digits.live import microphone

RATE = audio.SAMPLE_RATE


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
        wait_until(Path(self.folder, "native").exists, 10)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        Path(self.folder, "native").unlink(missing_ok=True)

    def wait_for_listener(self) -> None:
        """Until a client records from the null sink."""
        wait_until(self._is_recorded, 30)

    def _is_recorded(self) -> bool:
        return bool(self._run("pactl", "list", "short", "source-outputs").stdout.strip())

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


def start_mic(checkpoint: Path | str, environment: dict[str, str]) -> "subprocess.Popen[str]":
    return start("mic", f"ckpt_path={checkpoint}", "device=pulse", "output=jsonl", extra=environment)


def stop_mic(process: "subprocess.Popen[str]") -> tuple[list[dict], str]:
    """End it with Ctrl-C; returns what it heard and its messages."""
    time.sleep(0.3)  # the last word takes its way through the sound server
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert "stopped" in errors
    assert "Traceback" not in errors
    return [json.loads(line) for line in output.splitlines()], errors


@pytest.mark.hardware
@pytest.mark.fsdd
def test_hears_fsdd_s_digits_through_a_real_capture_stream(tmp_path: Path, sound_server: SoundServer) -> None:
    chosen = random.Random(1)
    recordings = Path(os.environ["FSDD_ROOT"])
    recordings = recordings / "recordings" if (recordings / "recordings").is_dir() else recordings
    speakers = ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"]
    words = list(range(10))
    chosen.shuffle(words)
    parts: list[numpy.ndarray] = [numpy.zeros(RATE)]
    for word in words:
        clip = audio.read(recordings / f"{word}_{chosen.choice(speakers)}_{chosen.randrange(5)}.wav")
        parts += [audio.resample(*clip, RATE), numpy.zeros(round(0.4 * RATE))]
    sound = numpy.concatenate(parts)
    sound += 5e-4 * numpy.random.default_rng(0).standard_normal(len(sound))  # no room is as silent as zeros
    soundfile.write(tmp_path / "words.wav", sound, RATE, subtype="PCM_16")

    process = start_mic("pretrained", sound_server.environment)
    sound_server.wait_for_listener()
    sound_server.play(tmp_path / "words.wav")
    events, _ = stop_mic(process)
    heard = [event["digit"] for event in events if event["accepted"]]
    assert len(heard) == 10, (heard, words)
    assert sum(one == other for one, other in zip(heard, words, strict=True)) >= 9


@pytest.mark.hardware
def test_a_microphone_that_goes_and_comes_back_is_taken_up_again(
    exported_model: Path, tmp_path: Path, sound_server: SoundServer
) -> None:
    process = start_mic(exported_model, sound_server.environment)
    assert process.stderr is not None
    sound_server.wait_for_listener()
    sound_server.play(sequence(tmp_path / "before.wav", [3]))
    sound_server.stop()
    messages = [process.stderr.readline(), process.stderr.readline()]
    assert "; model: " in messages[0]
    assert messages[1].startswith("no sound from pulse for 2 s: is it unplugged?")
    sound_server.start()
    sound_server.wait_for_listener()
    sound_server.play(sequence(tmp_path / "after.wav", [8]))
    events, errors = stop_mic(process)
    assert [event["digit"] for event in events] == [3, 8]
    assert "is back" in errors


@pytest.mark.hardware
def test_what_is_said_while_the_process_is_suspended_is_heard_afterwards(
    exported_model: Path, tmp_path: Path, sound_server: SoundServer
) -> None:
    words = [3, 8, 1]
    process = start_mic(exported_model, sound_server.environment)
    sound_server.wait_for_listener()
    sound_server.play(sequence(tmp_path / "before.wav", [3]))
    process.send_signal(signal.SIGSTOP)
    sound_server.play(sequence(tmp_path / "meanwhile.wav", words))
    process.send_signal(signal.SIGCONT)
    sound_server.play(sequence(tmp_path / "after.wav", [8]))
    events, errors = stop_mic(process)
    assert [event["digit"] for event in events] == [3, *words, 8]
    assert {event["overruns"] for event in events} == {0}
    assert "unplugged" not in errors
    latencies = [event["latency_ms"] for event in events]
    assert max(latencies[0], latencies[-1]) < 1500
    assert latencies[1] > 2500  # the first of those that had to wait
    assert latencies[1] > latencies[2] > latencies[3]
    spoken_s = [event["start_s"] for event in events]
    answered = [datetime.fromisoformat(event["time"]).timestamp() for event in events]
    waited = answered[1] - answered[0] - (spoken_s[1] - spoken_s[0])
    assert waited == pytest.approx((latencies[1] - latencies[0]) / 1000, abs=0.5)


@pytest.mark.hardware
def test_blocks_that_the_capture_process_cannot_keep_are_counted(
    monkeypatch: pytest.MonkeyPatch, sound_server: SoundServer
) -> None:
    for name, value in sound_server.environment.items():
        monkeypatch.setenv(name, value)
    (device,) = (found for found in microphone._ask_for_devices() if found["name"] == "pulse")
    shortened = Path(microphone.capture_process.__file__).read_text().replace("QUEUED_S = 180.0", "QUEUED_S = 0.1")
    program = Path(sound_server.folder, "capture_process.py")
    program.write_text(shortened)
    monkeypatch.setattr(microphone.capture_process, "__file__", str(program))
    with microphone.Microphone(device, 10, print) as blocks:
        stream = iter(blocks)
        next(stream)
        time.sleep(2.0)  # as a reader that stalls; 1 s of it is received, and a little stands in the pipe
        wait_until(lambda: len(next(stream)) and blocks.overruns, 10)
        assert 20 < blocks.overruns < 200


@pytest.mark.hardware
def test_devices_are_listed(sound_server: SoundServer) -> None:
    done = shell("mic", "list_devices=true", extra=sound_server.environment)
    assert done.returncode == 0, done.stderr
    assert "pulse" in done.stdout


@pytest.mark.hardware
def test_a_microphone_that_cannot_be_opened_is_one_sentence(tmp_path: Path) -> None:
    nowhere = {"PULSE_SERVER": f"unix:{tmp_path}/none", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    done = shell("mic", "ckpt_path=pretrained", extra=nowhere)
    assert done.returncode == 1
    assert "digits mic: " in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
