import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy
import pytest
import soundfile
from scipy.signal import resample_poly
from support import sine

from digits import audio


@pytest.mark.parametrize(("suffix", "tolerance"), [("wav", 1e-4), ("flac", 1e-4), ("ogg", 0.05), ("mp3", 0.05)])
def test_reads_every_format(tmp_path: Path, suffix: str, tolerance: float) -> None:
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, sine(440, 16_000), 16_000)
    waveform, sample_rate = audio.read(path)
    assert sample_rate == 16_000
    assert waveform.dtype == numpy.float32
    assert abs(numpy.sqrt((waveform**2).mean()) - 0.5 / math.sqrt(2)) < tolerance


def test_stereo_is_mixed_down(tmp_path: Path) -> None:
    left, right = sine(300, 8000), sine(500, 8000)
    soundfile.write(tmp_path / "stereo.wav", numpy.stack([left, right], axis=1), 8000, subtype="FLOAT")
    waveform, _ = audio.read(tmp_path / "stereo.wav")
    numpy.testing.assert_allclose(waveform, (left + right) / 2, atol=1e-7)


def write_float(path: Path, samples: list[float] | numpy.ndarray) -> Path:
    soundfile.write(path, numpy.asarray(samples, dtype="float32"), 8000, subtype="FLOAT")
    return path


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        ([], "too short"),
        ([0.1, 0.2, 0.3], "3 samples"),
        ([0.1] * 4000 + [float("nan")], "NaN"),
        ([0.1] * 4000 + [float("inf")], "infinite"),
        ([0.0] * 4000, "silence"),
    ],
)
def test_refuses_what_holds_no_word(tmp_path: Path, samples: list[float], reason: str) -> None:
    path = write_float(tmp_path / "bad.wav", samples)
    with pytest.raises(ValueError, match=rf"bad\.wav: .*{reason}"):
        audio.read(path)


@pytest.mark.parametrize("kept", [10, 40, 44, 5000])
def test_refuses_a_wav_that_is_cut_off(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "cut.wav"
    soundfile.write(path, sine(440, 8000), 8000)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"cut\.wav: "):
        audio.read(path)


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3"])
def test_refuses_a_compressed_file_that_is_cut_off(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut.{suffix}"
    soundfile.write(path, sine(440, 8000, seconds=2), 8000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"cut\.{suffix}: "):
        audio.read(path)


def test_reads_a_wav_written_to_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "piped.wav"
    soundfile.write(path, sine(440, 8000), 8000)
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"  # lengths unknown when the header was written
    path.write_bytes(content)
    assert len(audio.read(path)[0]) == 4000


def test_refuses_noise_that_is_no_audio_file(tmp_path: Path) -> None:
    path = tmp_path / "random.wav"
    path.write_bytes(numpy.random.default_rng(0).bytes(3000))
    with pytest.raises(ValueError, match=r"random\.wav: not readable"):
        audio.read(path)


def test_content_from_elsewhere_is_read_like_a_file(tmp_path: Path) -> None:
    path = tmp_path / "tone.flac"
    soundfile.write(path, sine(440, 8000), 8000)
    from_file, from_content = audio.read(path), audio.read("<stdin>", path.read_bytes())
    assert from_content[1] == from_file[1]
    assert numpy.array_equal(from_content[0], from_file[0])
    with pytest.raises(ValueError, match="<stdin>: not readable as audio"):
        audio.read("<stdin>", b"")


def test_finds_recordings_by_their_suffix_and_leaves_hidden_files_out(tmp_path: Path) -> None:
    for name in ("b.WAV", "a/c.mp3", "a/.hidden.wav", "notes.txt", "d.ogg", "e.flac"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in audio.find_files(tmp_path)] == ["a/c.mp3", "b.WAV", "d.ogg", "e.flac"]


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "corpus/inner").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for name in ("corpus/inner/a.wav", "elsewhere/b.wav"):
        (tmp_path / name).touch()
    (tmp_path / "corpus/again").symlink_to("inner")
    (tmp_path / "corpus/inner/loop").symlink_to("..")
    (tmp_path / "corpus/link").symlink_to("../elsewhere")
    found = audio.find_files(tmp_path / "corpus")
    assert [path.relative_to(tmp_path / "corpus").as_posix() for path in found] == ["inner/a.wav", "link/b.wav"]
    assert len(audio.find_files(tmp_path / "corpus/again")) == 2


def test_pipes_in_a_folder_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "nowhere.wav").symlink_to("gone.wav")
    assert [path.name for path in audio.find_files(tmp_path)] == ["nowhere.wav"]


@pytest.mark.parametrize("suffix", audio.FILE_SUFFIXES)
def test_every_format_that_is_looked_for_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"tone{suffix}"
    formats = {".opus": {"format": "OGG", "subtype": "OPUS"}, ".aif": {"format": "AIFF"}}
    soundfile.write(path, sine(440, 48_000), 48_000, **formats.get(suffix, {}))
    waveform, sample_rate = audio.read(path)
    assert (len(waveform), sample_rate) == (24_000, 48_000)
    assert audio.find_files(tmp_path) == [path]


def test_a_damaged_mp3_is_said_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "noise.mp3"
    soundfile.write(path, 0.1 * numpy.random.default_rng(0).standard_normal(80_000), 8000)
    content = path.read_bytes()
    damages = {
        "the file is truncated": (content[: len(content) // 2], content[:500] + bytes(400) + content[900:]),
        r"not readable as audio \(Format not recognised\)": (b"<html>not found</html>" * 50, b"\xff\xfb\x90\x64" + bytes(20_000)),
    }
    for message, contents in damages.items():
        for content in contents:
            path.write_bytes(content)
            with pytest.raises(ValueError, match=rf"noise\.mp3: {message}"):
                audio.read(path)
    os.write(2, b"still open")
    assert capfd.readouterr().err == "still open"


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_that_breaks_off_is_truncated(tmp_path: Path, subtype: str) -> None:
    path = tmp_path / "talk.ogg"
    soundfile.write(path, 0.1 * numpy.random.default_rng(0).standard_normal(5 * 48_000), 48_000, format="OGG", subtype=subtype)
    content = path.read_bytes()
    assert len(audio.read(path)[0]) == len(audio.read("<stdin>", content)[0]) == 5 * 48_000
    for kept in (len(content) - 1, len(content) // 2, len(content) // 3):
        path.write_bytes(content[:kept])
        for args in ((path,), ("<stdin>", content[:kept])):
            with pytest.raises(ValueError, match=r"the file is truncated|not readable as audio"):
                audio.read(*args)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_a_stream_of_blocks_is_the_whole_recording(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"noise.{suffix}"
    soundfile.write(path, 0.1 * numpy.random.default_rng(0).standard_normal((111_111, 2)), 11_025)
    blocks, sample_rate = audio.stream(path)
    parts = list(blocks)
    assert [len(part) for part in parts] == [44_100, 44_100, 22_911]
    assert sample_rate == 11_025
    whole = soundfile.read(path, dtype="float32")[0].mean(axis=1)
    assert numpy.array_equal(numpy.concatenate(parts), audio.read(path)[0])
    numpy.testing.assert_allclose(numpy.concatenate(parts), whole, atol=1e-6)  # mp3 differs in the last bit


@pytest.mark.parametrize("subtype", ["GSM610", "G721_32", "NMS_ADPCM_32"])
def test_telephone_codecs_in_a_wav_are_read(tmp_path: Path, subtype: str) -> None:
    path = tmp_path / "call.wav"
    soundfile.write(path, sine(440, 8000), 8000, subtype=subtype)
    assert len(audio.read(path)[0]) == pytest.approx(4000, abs=640)


def test_a_flac_written_to_a_pipe_has_no_length_in_its_header(tmp_path: Path) -> None:
    path = tmp_path / "piped.flac"
    soundfile.write(path, sine(440, 8000), 8000)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the total number of samples, 36 bits
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert len(audio.read(path)[0]) == 4000


@contextmanager
def not_root() -> Iterator[None]:
    """Somebody else than root, who may read everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path: Path) -> None:
    path = write_float(tmp_path / "secret.wav", [0.1] * 400)
    path.chmod(0)
    with not_root(), pytest.raises(PermissionError, match=r"secret\.wav: no permission to read this file$"):
        audio.read(path)


def test_a_folder_that_may_not_be_read_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir(mode=0)
    (tmp_path / "a.wav").touch()
    with not_root(), pytest.raises(PermissionError, match=r"no permission to read this folder$"):
        audio.find_files(tmp_path)


@pytest.mark.parametrize(("name", "target"), [("a b.m4a", "'a b.wav'"), ("x.webm", "x.wav"), ("x.wav", "x_pcm.wav")])
def test_an_unreadable_format_comes_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, target: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(b"\0\0\0\x1cftypM4A ")
    with pytest.raises(
        ValueError, match=re.escape(f"{name}: not readable as audio (Format not recognised); ffmpeg may convert it")
    ) as e:
        audio.read(name)
    assert str(e.value).endswith(f" {target}")


def test_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        audio.read(tmp_path / "none.wav")


@pytest.mark.parametrize(("old", "new"), [(8000, 48_000), (44_100, 48_000), (48_000, 8000), (16_000, 48_000)])
def test_resampling_agrees_with_scipy(old: int, new: int) -> None:
    waveform = sine(700, old) + sine(1900, old, amplitude=0.2)
    ours = audio.resample(waveform, old, new)
    reference = resample_poly(waveform.astype(float), new // math.gcd(old, new), old // math.gcd(old, new))
    inner = slice(len(reference) // 10, -len(reference) // 10)  # the filters differ at the ends
    assert abs(len(ours) - len(reference)) <= 1
    assert numpy.abs(ours[: len(reference)][inner] - reference[inner]).max() < 0.01


@pytest.mark.parametrize("odd_rate", [44_101, 11_127, 7999])
def test_odd_rates_keep_pitch_and_length(odd_rate: int) -> None:
    resampled = audio.resample(sine(1000, odd_rate, seconds=1.0), odd_rate, 48_000)
    peak = numpy.abs(numpy.fft.rfft(resampled[:48_000])).argmax() * 48_000 / min(48_000, len(resampled))
    assert abs(len(resampled) - 48_000) < 60
    assert abs(peak - 1000) < 2
