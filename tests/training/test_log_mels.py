import itertools
import os
import resource
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from support import spoken

from digits import audio, networks
from digits.corpora.corpus import Clip
from digits.corpora.folder import read_folder
from digits.effects import Effects
from digits.features import FrontEnd
from digits.training import log_mels as module
from digits.training import render
from digits.training.log_mels import LogMels, concatenate, log_mels
from digits.training.render import Render


def rendered(clips: Sequence[Clip], front_end: dict[str, Any], effects: Effects | None = None, **more: Any) -> torch.Tensor:
    (found,) = log_mels([Render(clips, front_end, effects or {}, **more)])
    return found.all()


def test_served_log_mels_are_those_of_the_recognizer(cache: Path, clips: list[Clip]) -> None:
    """Parity: what training reads from the cache is what a file or a microphone gives, one clip at a time."""
    computed = rendered(clips, {})
    cached = rendered(clips, {})
    assert torch.equal(computed, cached)
    front_end = FrontEnd()
    for index in (0, 7, 19):
        torch.testing.assert_close(cached[index], front_end([audio.read(clips[index].path)])[0], atol=1e-3, rtol=0)


def test_the_key_follows_content_settings_and_effects(cache: Path, clips: list[Clip]) -> None:
    rendered(clips, {})
    rendered(clips, {"log_mel": {"n_mels": 32}})
    rendered(clips, {}, {"white_noise": {"snr_db": 5}})
    rendered(clips, {}, {"white_noise": {"snr_db": 5}}, seed=1)
    assert len(list(cache.iterdir())) == 4
    changed = clips[0].path
    soundfile.write(changed, spoken(9, 9, 9), 8000)
    again = read_folder(changed.parent, "x").clips
    assert not torch.equal(rendered(again, {})[0], rendered(clips, {})[0])


def test_the_key_follows_the_code_that_log_mels_depend_on() -> None:
    package = Path(networks.__file__).parent
    found = {path.relative_to(package).as_posix() for path in render._modules("digits.training.render", set())}
    effects = {f"effects/{name}.py" for name in ("__init__", "noise", "rooms", "channel", "voices", "non_digits", "scene")}
    assert {"training/render.py", "audio.py", "features.py", "corpora/corpus.py", "_torchaudio.py", *effects} <= found
    assert (
        not {
            "training/log_mels.py",
            "training/datamodule.py",
            "training/classifier.py",
            "networks.py",
            "train.py",
            "corpora/espeak.py",
        }
        & found
    )


def test_the_key_follows_the_order_of_the_effects(cache: Path, clips: list[Clip]) -> None:
    quiet: Effects = {"level": {"peak_db": -20}}
    loud: Effects = {"dc_offset": {"offset": 0.5}}
    for both in ({**quiet, **loud}, {**loud, **quiet}):
        rendered(clips[:1], {}, both)
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_a_damaged_cache_is_computed_again(cache: Path, clips: list[Clip], damage: str) -> None:
    good = rendered(clips, {})
    (path,) = cache.iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"flip": bytes(content), "truncate": bytes(content[:1000]), "empty": b""}[damage])
    with pytest.warns(UserWarning, match="damaged, computed again"):
        assert torch.equal(rendered(clips, {}), good)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(rendered(clips, {}), good)


def test_a_full_disk_costs_only_the_cache(cache: Path, clips: list[Clip]) -> None:
    """A real write error: a limit on the size of files."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.warns(UserWarning, match="log-mels not kept"):
            assert rendered(clips, {}).shape == (20, 1, 40, 101)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(cache.iterdir()) == []


def test_two_jobs_at_once_on_a_cold_cache(cache: Path, clips: list[Clip]) -> None:
    code = f"""
from digits.corpora.folder import read_folder
from digits.training.log_mels import log_mels
from digits.training.render import Render
(found,) = log_mels([Render(read_folder({str(clips[0].path.parent)!r}, "x").clips, {{}})])
print(found.all().double().sum().item())
"""
    jobs = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ) for _ in range(2)]
    sums = {job.communicate()[0] for job in jobs}
    assert [job.returncode for job in jobs] == [0, 0]
    assert len(sums) == 1
    assert len(list(cache.iterdir())) == 1
    assert float(sums.pop()) == rendered(clips, {}).double().sum().item()


@pytest.mark.parametrize("content", [b"", b"RIFF....WAVE", b"\0" * 4000])
def test_a_corrupt_clip_is_named(cache: Path, clips: list[Clip], content: bytes) -> None:
    clips[3].path.write_bytes(content)
    with pytest.raises(ValueError, match=clips[3].name):
        rendered(clips, {})
    assert not cache.exists()


def test_babble_is_other_recordings_and_recorded_noise_is_not_cached(cache: Path, clips: list[Clip]) -> None:
    babble = {"babble": {"snr_db": 0, "talkers": 2}}
    few = rendered(clips[:3], {}, babble, voices=clips[3:])
    assert torch.equal(few, rendered(clips[:3], {}, babble, voices=clips[3:]))
    assert not torch.equal(few, rendered(clips[:3], {}, babble, voices=clips[4:]))
    with pytest.raises(ValueError, match="no other recordings"):
        rendered(clips[:1], {}, babble, voices=clips[:1])  # never of the clip itself
    files = len(list(cache.iterdir()))
    rendered(clips[:3], {}, {"recorded_noise": {"snr_db": 10, "root": str(clips[0].path.parent)}})
    assert len(list(cache.iterdir())) == files


def numbered(*sizes: int) -> LogMels:
    """Chunks of these sizes, whose log-mels are their numbers from 0."""
    numbers = torch.arange(sum(sizes)).reshape(-1, 1, 1, 1).float()
    return LogMels(torch.split(numbers, list(sizes)))


def test_log_mels_of_several_files_are_found_by_their_positions() -> None:
    found = numbered(3, 1, 5)
    assert len(found) == 9
    assert found.all().flatten().tolist() == list(range(9))
    assert found[[8, 0, 3, 3, 2]].flatten().tolist() == [8, 0, 3, 3, 2]
    chosen = found.select([7, 1, 4])
    assert chosen[[2, 0]].flatten().tolist() == [4, 7]
    assert chosen.select([1]).all().flatten().tolist() == [1]
    both = concatenate([chosen, numbered(2), found.select([])])
    assert both.all().flatten().tolist() == [7, 1, 4, 0, 1]
    assert both[[3, 2]].flatten().tolist() == [0, 4]


def test_log_mels_on_disk_take_no_memory_until_they_are_asked_for(cache: Path, clips: list[Clip]) -> None:
    rendered(clips, {})
    (found,) = log_mels([Render(clips, {})])
    mapped = Path("/proc/self/maps").read_text()
    (path,) = cache.iterdir()
    assert str(path) in mapped
    found.chunks[0].zero_()  # a private copy: never the file
    assert rendered(clips, {}).abs().max() > 0


def test_several_processes_compute_the_same_as_one(cache: Path, clips: list[Clip], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 8)
    noise = {"white_noise": {"snr_db": 5}, "babble": {"snr_db": 5}}
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    alone = rendered(clips, {}, noise, voices=clips)
    assert len(list(cache.iterdir())) == 3
    shutil.rmtree(cache)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(module, "MIN_PARALLEL", 0)
    monkeypatch.setattr(Render, "compute", lambda _: pytest.fail("computed in this process"))
    assert torch.equal(rendered(clips, {}, noise, voices=clips), alone)
    assert len(list(cache.iterdir())) == 3


def test_what_an_interrupted_run_has_computed_is_kept(cache: Path, clips: list[Clip], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    with monkeypatch.context() as patch:
        patch.setattr(Render, "compute", interrupted_at(3))
        with pytest.raises(KeyboardInterrupt):
            rendered(clips, {})
    kept = {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert len(kept) == 2
    rendered(clips, {})
    assert {path.name: path.stat().st_mtime_ns for path in cache.iterdir() if path.name in kept} == kept
    assert len(list(cache.iterdir())) == 3


def interrupted_at(call: int) -> Callable[[Render], torch.Tensor]:
    calls, compute = itertools.count(1), Render.compute

    def compute_or_stop(self: Render) -> torch.Tensor:
        if next(calls) == call:
            raise KeyboardInterrupt
        return compute(self)

    return compute_or_stop
