import os
import resource
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import soundfile
import torch
from support import spoken

from digits import audio, networks
from digits.corpora import corpus
from digits.effects import Effects
from digits.features import FrontEnd
from digits.training import log_mels as module
from digits.training.log_mels import log_mels


def test_served_log_mels_are_those_of_the_recognizer(cache: Path, clips: list[corpus.Clip]) -> None:
    """Parity: what training reads from the cache is what a file or a microphone gives, one clip at a time."""
    computed = log_mels(clips, {})
    cached = log_mels(clips, {})
    assert torch.equal(computed, cached)
    front_end = FrontEnd()
    for index in (0, 7, 19):
        torch.testing.assert_close(cached[index], front_end([audio.read(clips[index].path)])[0], atol=1e-3, rtol=0)


def test_the_key_follows_content_settings_and_effects(cache: Path, clips: list[corpus.Clip]) -> None:
    log_mels(clips, {})
    log_mels(clips, {"log_mel": {"n_mels": 32}})
    log_mels(clips, {}, {"white_noise": {"snr_db": 5}})
    log_mels(clips, {}, {"white_noise": {"snr_db": 5}}, seed=1)
    assert len(list(cache.iterdir())) == 4
    changed = clips[0].path
    soundfile.write(changed, spoken(9, 9, 9), 8000)
    again = corpus.read_folder(changed.parent, "x").clips
    assert not torch.equal(log_mels(again, {})[0], log_mels(clips, {})[0])


def test_the_key_follows_the_code_that_log_mels_depend_on() -> None:
    package = Path(networks.__file__).parent
    found = {path.relative_to(package).as_posix() for path in module._modules("digits.training.log_mels", set())}
    effects = {f"effects/{name}.py" for name in ("__init__", "noise", "rooms", "channel", "voices", "non_digits", "scene")}
    assert {"training/log_mels.py", "audio.py", "features.py", "corpora/corpus.py", "_torchaudio.py", *effects} <= found
    assert not {"training/datamodule.py", "training/classifier.py", "networks.py", "train.py", "corpora/espeak.py"} & found


def test_the_key_follows_the_order_of_the_effects(cache: Path, clips: list[corpus.Clip]) -> None:
    quiet: Effects = {"level": {"peak_db": -20}}
    loud: Effects = {"dc_offset": {"offset": 0.5}}
    for both in ({**quiet, **loud}, {**loud, **quiet}):
        log_mels(clips[:1], {}, both)
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_a_damaged_cache_is_computed_again(cache: Path, clips: list[corpus.Clip], damage: str) -> None:
    good = log_mels(clips, {})
    (path,) = cache.iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"flip": bytes(content), "truncate": bytes(content[:1000]), "empty": b""}[damage])
    with pytest.warns(UserWarning, match="damaged, computed again"):
        assert torch.equal(log_mels(clips, {}), good)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(log_mels(clips, {}), good)


def test_a_full_disk_costs_only_the_cache(cache: Path, clips: list[corpus.Clip]) -> None:
    """A real write error: a limit on the size of files."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.warns(UserWarning, match="log-mels not kept"):
            assert log_mels(clips, {}).shape == (20, 1, 40, 101)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(cache.iterdir()) == []


def test_two_jobs_at_once_on_a_cold_cache(cache: Path, clips: list[corpus.Clip]) -> None:
    code = f"""
from digits.corpora import corpus
from digits.training.log_mels import log_mels
print(log_mels(corpus.read_folder({str(clips[0].path.parent)!r}, "x").clips, {{}}).double().sum().item())
"""
    jobs = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ) for _ in range(2)]
    sums = {job.communicate()[0] for job in jobs}
    assert [job.returncode for job in jobs] == [0, 0]
    assert len(sums) == 1
    assert len(list(cache.iterdir())) == 1
    assert float(sums.pop()) == log_mels(clips, {}).double().sum().item()


@pytest.mark.parametrize("content", [b"", b"RIFF....WAVE", b"\0" * 4000])
def test_a_corrupt_clip_is_named(cache: Path, clips: list[corpus.Clip], content: bytes) -> None:
    clips[3].path.write_bytes(content)
    with pytest.raises(ValueError, match=clips[3].name):
        log_mels(clips, {})
    assert not cache.exists()


def test_babble_is_other_recordings_and_recorded_noise_is_not_cached(cache: Path, clips: list[corpus.Clip]) -> None:
    babble = {"babble": {"snr_db": 0, "talkers": 2}}
    few = log_mels(clips[:3], {}, babble, voices=clips[3:])
    assert torch.equal(few, log_mels(clips[:3], {}, babble, voices=clips[3:]))
    assert not torch.equal(few, log_mels(clips[:3], {}, babble, voices=clips[4:]))
    with pytest.raises(ValueError, match="no other recordings"):
        log_mels(clips[:1], {}, babble, voices=clips[:1])  # never of the clip itself
    files = len(list(cache.iterdir()))
    log_mels(clips[:3], {}, {"recorded_noise": {"snr_db": 10, "root": str(clips[0].path.parent)}})
    assert len(list(cache.iterdir())) == files
