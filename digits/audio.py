"""Waveforms: read audio files, whole or in blocks, check and resample them.

A waveform is a one-dimensional float32 array of samples in [-1, 1]. This module does not need torch.
"""

import contextlib
import io
import os
import shlex
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import numpy
import soundfile
import soxr
from numpy.typing import NDArray

from digits import damage
from digits.files import mode

Waveform = NDArray[numpy.float32]  # (samples,)

SAMPLE_RATE = 48_000  # Hz; what microphones and browsers deliver
MIN_RATE_HZ, MAX_RATE_HZ = 4000, 768_000  # no speech below this range, no sound card above it
MAX_CHANNELS = 32  # no recording of a word has more, and a block of a thousand would fill the memory
MIN_PEAK = 1e-6  # of full scale, -120 dB: no microphone is that quiet
MIN_DURATION_S = 0.02  # anything shorter cannot hold a word, nor a frame of digits.word_window
BLOCK_S = 4.0  # files are read piece by piece

FILE_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".opus", ".aif", ".aiff", ".au", ".caf", ".w64")
UNREADABLE_SUFFIXES = (".3gp", ".aac", ".amr", ".m4a", ".mka", ".mp4", ".webm", ".wma")  # libsndfile cannot read these
TRUNCATED = "the file is truncated: it holds less audio than its header says"
NOT_FOUND = "File does not exist or is not a regular file (possibly a pipe?)"  # libsndfile says this of a bad mp3 as well
UNKNOWN_LENGTH = 1 << 62  # libsndfile's number of frames for a flac written to a pipe is above this


def read(path: str | Path, content: bytes | None = None) -> tuple[Waveform, int]:
    """Read an audio file in any format libsndfile supports and mix it down to mono.

    Args:
        path: the file.
        content: the file's bytes, if they do not come from disk; ``path`` then only names them in error messages.

    Returns:
        The waveform, shape (samples,), and its sample rate in Hz.

    Raises:
        ValueError: the file is not readable audio, is truncated or empty, or contains NaN or infinite samples.
        OSError: there is no such file (FileNotFoundError), or no permission to read it (PermissionError).
    """
    blocks, sample_rate = stream(path, content)
    return numpy.concatenate([*blocks]), sample_rate


def stream(path: str | Path, content: bytes | None = None) -> tuple[Iterator[Waveform], int]:
    """Like :func:`read`, in blocks of :data:`BLOCK_S` (the last one may be shorter), so that a long file needs little memory.

    Returns:
        The blocks, shape (samples,) each, and the sample rate in Hz.

    Raises:
        ValueError, OSError: as :func:`read`; the iterator raises what only shows in the samples.
    """
    file = _open(Path(path), content)
    return _blocks(file, path), file.samplerate


def _open(path: Path, content: bytes | None) -> soundfile.SoundFile:
    with _naming(path, f"; {how_to_convert(path)}" if content is None else ""):
        if content is None and not path.is_file():
            content = path.read_bytes()  # a pipe, in which libsndfile cannot seek
        elif content is None:
            path.open("rb").close()  # says more of what is wrong than libsndfile
        name = os.fsencode(path) if os.name == "posix" else path  # soundfile cannot encode every name
        with damage.without_notes():
            file = soundfile.SoundFile(name if content is None else io.BytesIO(content))
        if damage.is_cut_off(file.extra_info) or damage.lacks_its_end(file.format, path, content):
            raise ValueError(TRUNCATED)
        _check_rate(file.samplerate)
        if file.channels > MAX_CHANNELS:
            raise ValueError(f"at most {MAX_CHANNELS} channels can be mixed down, this file has {file.channels}")
    file.seekable = lambda: False  # or soundfile seeks after each block, which damages mp3; and it cannot seek in GSM
    return file


def _blocks(file: soundfile.SoundFile, path: str | Path) -> Iterator[Waveform]:
    length, peak = 0, 0.0
    with _naming(path), file:
        while len(samples := _next(file)):
            block: Waveform = samples.mean(axis=1)
            _check_finite(block)
            yield block
            length, peak = length + len(block), max(peak, numpy.abs(block).max())
        if length < file.frames < UNKNOWN_LENGTH:
            raise ValueError(TRUNCATED)
        _check_length(length, file.samplerate)
        _check_peak(peak)


def _next(file: soundfile.SoundFile) -> NDArray[numpy.float32]:
    with damage.without_notes() if file.format == "MP3" else contextlib.nullcontext():
        return file.read(round(BLOCK_S * file.samplerate), dtype="float32", always_2d=True)


@contextmanager
def _naming(path: str | Path, hint: str = "") -> Iterator[None]:
    """Turn whatever goes wrong with a file into one sentence that names it."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"{path}: no such file") from error
    except PermissionError as error:
        raise PermissionError(f"{path}: no permission to read this file") from error
    except OSError as error:
        raise ValueError(f"{path}: not readable ({error.strerror})") from error
    except soundfile.SoundFileError as error:
        reason = str(error).rsplit(": ", 1)[-1].strip().rstrip(".").replace(NOT_FOUND, "Format not recognised")
        raise ValueError(f"{path}: not readable as audio ({reason}){hint}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def how_to_convert(path: Path) -> str:
    """A hint for a recording in a format that cannot be read; the copy gets another name."""
    target = path.with_name(f"{path.stem}_pcm.wav" if path.suffix.lower() == ".wav" else f"{path.stem}.wav")
    return f"ffmpeg may convert it: ffmpeg -i {shlex.quote(str(path))} {shlex.quote(str(target))}"


def find_files(folder: Path, suffixes: Collection[str] = FILE_SUFFIXES) -> list[Path]:
    """All recordings in a folder and its subfolders, sorted by path; hidden files, pipes and devices are skipped.

    Links to folders are followed; a folder that can be reached in several ways is listed once.

    Args:
        folder: where to look.
        suffixes: of the files, in lower case.
    """
    found: list[str] = []  # not paths, which take ten times as long to make and sort
    endings = tuple(suffixes)
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    for top in waiting:  # it grows by the links on the way, so that a real folder comes before the links to it
        for current, folders, files in os.walk(top, onerror=_no_permission):
            status = Path(current).stat()
            if (status.st_dev, status.st_ino) in seen:
                folders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            names = [name for name in files if name.lower().endswith(endings) and not name.startswith(".")]
            paths = [f"{current}{os.sep}{name}" for name in names]
            found += [path for path in paths if stat.S_IFMT(mode(path)) in (0, stat.S_IFREG)]
            waiting += sorted(path for name in folders if (path := Path(current, name)).is_symlink())
    return [Path(path) for path in sorted(found, key=lambda path: path.replace(os.sep, "\0"))]  # folder by folder


def _no_permission(error: OSError) -> NoReturn:
    raise type(error)(f"{error.filename}: no permission to read this folder") from error


def check(waveform: Waveform, sample_rate: float) -> None:
    """Check that a waveform can hold a word.

    Raises:
        ValueError: it is not one-dimensional, is shorter than :data:`MIN_DURATION_S`, is silent, or has NaN or infinite samples;
            or the sample rate is outside [:data:`MIN_RATE_HZ`, :data:`MAX_RATE_HZ`].
    """
    if waveform.ndim != 1:
        raise ValueError(f"waveform must have shape (samples,), got {waveform.shape}")
    _check_rate(sample_rate)
    _check_length(len(waveform), sample_rate)
    _check_finite(waveform)
    _check_peak(numpy.abs(waveform).max())


def _check_rate(sample_rate: float) -> None:
    if not MIN_RATE_HZ <= sample_rate <= MAX_RATE_HZ:
        raise ValueError(f"sample_rate must be {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz, got {sample_rate}")


def _check_length(length: int, sample_rate: float) -> None:
    if length < MIN_DURATION_S * sample_rate:
        raise ValueError(
            f"too short to hold a word: {length} samples at {sample_rate} Hz, at least {MIN_DURATION_S * 1000:.0f} ms are needed"
        )


def _check_finite(waveform: Waveform) -> None:
    if not numpy.isfinite(waveform).all():
        raise ValueError("some samples are NaN or infinite")


def _check_peak(peak: float) -> None:
    if peak < MIN_PEAK:
        raise ValueError(f"only silence: no sample is larger than {MIN_PEAK}")


def resample(waveform: Waveform, sample_rate: float, new_sample_rate: float) -> Waveform:
    """Band-limited resampling between any two rates, by soxr."""
    if sample_rate == new_sample_rate:
        return waveform
    return soxr.resample(waveform, sample_rate, new_sample_rate)
