import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import compose_config, spoken, tiny_run, write_corpus
from hydra.utils import instantiate

from digits import audio, corpus, data, espeak, results
from digits.data import DigitsDataModule
from digits.features import FrontEnd
from digits.train import train


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIGITS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "log_mels"


@pytest.fixture
def clips(tmp_path: Path) -> list[corpus.Clip]:
    return corpus.read_folder(write_corpus(tmp_path / "clips", takes=1), "x").clips


def test_served_log_mels_are_those_of_the_recognizer(cache: Path, clips: list[corpus.Clip]) -> None:
    """Parity: what training reads from the cache is what a file or a microphone gives, one clip at a time."""
    computed = data.log_mels(clips, {})
    cached = data.log_mels(clips, {})
    assert torch.equal(computed, cached)
    front_end = FrontEnd()
    for index in (0, 7, 19):
        torch.testing.assert_close(cached[index], front_end([audio.read(clips[index].path)])[0], atol=1e-3, rtol=0)


def test_the_key_follows_content_settings_and_effects(cache: Path, clips: list[corpus.Clip]) -> None:
    data.log_mels(clips, {})
    data.log_mels(clips, {"log_mel": {"n_mels": 32}})
    data.log_mels(clips, {}, {"white_noise": {"snr_db": 5}})
    data.log_mels(clips, {}, {"white_noise": {"snr_db": 5}}, seed=1)
    assert len(list(cache.iterdir())) == 4
    changed = clips[0].path
    import soundfile

    soundfile.write(changed, spoken(9, 9, 9), 8000)
    again = corpus.read_folder(changed.parent, "x").clips
    assert not torch.equal(data.log_mels(again, {})[0], data.log_mels(clips, {})[0])


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_a_damaged_cache_is_computed_again(cache: Path, clips: list[corpus.Clip], damage: str) -> None:
    good = data.log_mels(clips, {})
    (path,) = cache.iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"flip": bytes(content), "truncate": bytes(content[:1000]), "empty": b""}[damage])
    with pytest.warns(UserWarning, match="damaged, computed again"):
        assert torch.equal(data.log_mels(clips, {}), good)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(data.log_mels(clips, {}), good)


def test_a_full_disk_costs_only_the_cache(cache: Path, clips: list[corpus.Clip]) -> None:
    """A real write error (a file size limit) in a process of its own."""
    code = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
from digits import corpus, data
print(tuple(data.log_mels(corpus.read_folder({str(clips[0].path.parent)!r}, "x").clips, {{}}).shape))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "(20, 1, 40, 101)"
    assert "log-mels not kept" in done.stderr
    assert list(cache.iterdir()) == []


def test_two_jobs_at_once_on_a_cold_cache(cache: Path, clips: list[corpus.Clip]) -> None:
    code = f"""
from digits import corpus, data
print(data.log_mels(corpus.read_folder({str(clips[0].path.parent)!r}, "x").clips, {{}}).double().sum().item())
"""
    jobs = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ) for _ in range(2)]
    sums = {job.communicate()[0] for job in jobs}
    assert [job.returncode for job in jobs] == [0, 0]
    assert len(sums) == 1
    assert len(list(cache.iterdir())) == 1
    assert float(sums.pop()) == data.log_mels(clips, {}).double().sum().item()


@pytest.mark.parametrize("content", [b"", b"RIFF....WAVE", b"\0" * 4000])
def test_a_corrupt_clip_is_named(cache: Path, clips: list[corpus.Clip], content: bytes) -> None:
    clips[3].path.write_bytes(content)
    with pytest.raises(ValueError, match=clips[3].name):
        data.log_mels(clips, {})
    assert not cache.exists()


def build(root: Path, *overrides: str) -> DigitsDataModule:
    cfg = compose_config("data=folder", f"data.root={root}", "name=x", "run_dir=x", *overrides)
    module: DigitsDataModule = instantiate(cfg.data)
    module.setup("fit")
    return module


def batches(module: DigitsDataModule, epoch: int) -> list[torch.Tensor]:
    loader = module.train_dataloader()
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return [label for _, label in loader]


def test_same_seed_same_batches_another_epoch_others(cache: Path, tiny_corpus: Path) -> None:
    one, two, other = build(tiny_corpus), build(tiny_corpus), build(tiny_corpus, "seed=1")
    assert all(torch.equal(a, b) for a, b in zip(batches(one, 3), batches(two, 3), strict=True))
    assert not torch.equal(torch.cat(batches(one, 3))[:20], torch.cat(batches(one, 4))[:20])
    assert not torch.equal(torch.cat(batches(one, 3))[:20], torch.cat(batches(other, 3))[:20])


def test_loaders_have_the_shapes_they_promise(cache: Path, tiny_corpus: Path) -> None:
    module = build(tiny_corpus, "data.batch_size=16")
    log_mel, label = next(iter(module.train_dataloader()))
    assert log_mel.shape == (16, 1, 40, 101)
    assert log_mel.dtype == torch.float32
    assert label.shape == (16,)
    assert [len(part) for part in (module.parts.train, module.parts.val, module.parts.test)] == [40, 100, 100]


def test_test_conditions_are_the_same_for_every_seed(cache: Path, tiny_corpus: Path) -> None:
    one, two = build(tiny_corpus), build(tiny_corpus, "seed=1")
    assert torch.equal(one.test_sets[1].log_mel, two.test_sets[1].log_mel)
    assert not torch.equal(one.test_sets[0].log_mel, one.test_sets[1].log_mel)


def test_train_effects_touch_the_training_part_alone(cache: Path, tiny_corpus: Path) -> None:
    plain = build(tiny_corpus)
    noise = "{white_noise: {snr_db: [0, 10]}}"
    heavy = build(tiny_corpus, "data.train_sets.clean.copies=0", f"+data.train_sets.noisy={{copies: 3, effects: {noise}}}")
    assert len(heavy.train_set) == 3 * len(plain.train_set)
    copies = heavy.train_set.tensors[0].chunk(3)
    assert not torch.equal(copies[0], copies[1])
    assert torch.equal(heavy.val_set.tensors[0], plain.val_set.tensors[0])
    assert torch.equal(heavy.train_set.tensors[1], plain.train_set.tensors[1].repeat(3))


def test_training_on_everything_tests_on_nothing_in_any_condition(cache: Path, tiny_corpus: Path) -> None:
    data = DigitsDataModule(
        "folder", str(tiny_corpus), split="all", test_conditions={"clean": {}, "white_0": {"white_noise": {"snr_db": 0}}}
    )
    data.setup("fit")
    assert data.test_sets == []
    assert len(data.train_set) == 240


@pytest.mark.parametrize("copies", [1.5, -1, "2"])
def test_copies_are_whole_numbers(copies: object) -> None:
    with pytest.raises(ValueError, match=r"data\.train_sets\.clean\.copies must be 0 or more"):
        DigitsDataModule("folder", train_sets={"clean": {"copies": copies}})


def test_copies_made_for_one_split_serve_all(cache: Path, tiny_corpus: Path) -> None:
    noisy = "+data.train_sets.noisy={copies: 1, effects: {white_noise: {snr_db: 10}}, effects_rate_hz: 16000}"
    one = build(tiny_corpus, noisy, "conditions=clean")
    files = len(list(cache.iterdir()))
    other = build(tiny_corpus, noisy, "conditions=clean", "data.split=speaker", "data.test_speakers=[ann]")
    assert len(list(cache.iterdir())) == files
    assert len(one.train_set) == 2 * len(one.parts.train)
    n_bob = len(other.parts.train)  # none of ann's clips is among what is trained on
    labels = [other.corpus.clips[i].digit for i in other.parts.train]
    assert {other.corpus.clips[i].speaker for i in other.parts.train} == {"bob"}
    assert other.train_set.tensors[1].tolist() == 2 * labels
    assert not torch.equal(other.train_set.tensors[0][:n_bob], other.train_set.tensors[0][n_bob:])


def test_synthetic_voices_join_the_training_part(
    cache: Path, tiny_corpus: Path, clips: list[corpus.Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(espeak, "load", {"espeak-voices": corpus.Corpus("espeak-voices", clips)}.__getitem__)
    with_voices = build(tiny_corpus, "+data.train_sets.synthetic={source: espeak-voices, copies: 2}")
    assert len(with_voices.train_set) == len(with_voices.parts.train) + 2 * 20
    assert with_voices.train_set.tensors[1][-40:].tolist() == 2 * [clip.digit for clip in clips]


def test_sounds_that_are_no_digits_have_a_label_of_their_own_and_need_an_output(
    cache: Path, tiny_corpus: Path, tmp_path: Path, clips: list[corpus.Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [replace(clip, digit=corpus.NO_DIGIT) for clip in clips]
    loaded = {"espeak-words": corpus.Corpus("espeak-words", words), "espeak": corpus.Corpus("espeak", clips)}
    monkeypatch.setattr(espeak, "load", lambda name="espeak": loaded[name])
    others = (
        "+data.train_sets.words={source: espeak-words, copies: 1}",
        "+data.train_sets.noises={is_digit: false, copies: 1, effects: {bursts: {number: 2}}}",
        "+data.train_sets.pairs={is_digit: false, copies: 1, effects: {pair: {gap_s: 0}}}",
    )
    module = build(tiny_corpus, *others)
    n_train = len(module.parts.train)
    labels = module.train_set.tensors[1]
    assert len(labels) == 20 + 3 * n_train
    assert labels[:n_train].max() == 9
    assert (labels[n_train:] == corpus.NO_DIGIT).all()
    short = ("trainer=smoke", "data.batch_size=10", *others)
    with pytest.raises(ValueError, match=r"holds sounds that are no digits, which takes model\.n_outputs=11"):
        train(tiny_run(tiny_corpus, tmp_path / "ten", *short))
    metrics = train(tiny_run(tiny_corpus, tmp_path / "eleven", *short, "model.n_outputs=11"))
    assert metrics["test/total"] == 100
    rows = results.read_predictions(tmp_path / "eleven")
    assert {len(row["logits"]) for row in rows} == {11}
    assert {row["predicted"] for row in rows} <= set(range(10))


def test_babble_is_other_recordings_and_recorded_noise_is_not_cached(cache: Path, clips: list[corpus.Clip]) -> None:
    babble = {"babble": {"snr_db": 0, "talkers": 2}}
    few = data.log_mels(clips[:3], {}, babble, voices=clips[3:])
    assert torch.equal(few, data.log_mels(clips[:3], {}, babble, voices=clips[3:]))
    assert not torch.equal(few, data.log_mels(clips[:3], {}, babble, voices=clips[4:]))
    with pytest.raises(ValueError, match="no other recordings"):
        data.log_mels(clips[:1], {}, babble, voices=clips[:1])  # never of the clip itself
    files = len(list(cache.iterdir()))
    data.log_mels(clips[:3], {}, {"recorded_noise": {"snr_db": 10, "root": str(clips[0].path.parent)}})
    assert len(list(cache.iterdir())) == files


@pytest.mark.parametrize(
    ("train_sets", "message"),
    [
        ({"clean": {"copies": 0}}, "needs a part with copies: 1 or more"),
        ({"air": {"effect": {}}}, r"data\.train_sets\.air: .*'effect'"),
    ],
)
def test_impossible_training_sets_are_refused(train_sets: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DigitsDataModule(train_sets=train_sets)


def test_unknown_source_is_named() -> None:
    with pytest.raises(ValueError, match=r"data\.source must be fsdd, espeak or folder, got tape"):
        DigitsDataModule(source="tape").setup("fit")
    with pytest.raises(ValueError, match=r"data\.root=FOLDER"):
        DigitsDataModule(source="folder").setup("fit")
