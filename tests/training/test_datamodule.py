import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import torch
from hydra.utils import instantiate
from support import compose_config, spoken, tiny_run, write_corpus

from digits.corpora import catalog, corpus, espeak
from digits.train import train
from digits.training import runs
from digits.training.datamodule import DigitsDataModule


def build(root: Path, *overrides: str) -> DigitsDataModule:
    cfg = compose_config("data=folder", f"data.root={root}", "name=x", "run_dir=x", *overrides)
    module: DigitsDataModule = instantiate(cfg.data)
    module.setup("fit")
    return module


def batches(module: DigitsDataModule, epoch: int) -> list[torch.Tensor]:
    loader = module.train_dataloader()
    loader.batch_sampler.sampler.set_epoch(epoch)  # type: ignore[union-attr]  # as Lightning does
    return [label for _, label in loader]


def test_same_seed_same_batches_another_epoch_others(tiny_corpus: Path) -> None:
    one, two, other = build(tiny_corpus), build(tiny_corpus), build(tiny_corpus, "seed=1")
    assert all(torch.equal(a, b) for a, b in zip(batches(one, 3), batches(two, 3), strict=True))
    assert not torch.equal(torch.cat(batches(one, 3))[:20], torch.cat(batches(one, 4))[:20])
    assert not torch.equal(torch.cat(batches(one, 3))[:20], torch.cat(batches(other, 3))[:20])


def test_batches_gathered_on_the_device_are_the_same(tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's way, on the processor: the same weights come out."""
    settings = ("max_epochs=2", "data.batch_size=10")
    train(tiny_run(tiny_corpus, tmp_path / "gathered", *settings))
    monkeypatch.setattr("digits.training.datamodule.fits", lambda log_mels, device: device == torch.device("cpu"))
    train(tiny_run(tiny_corpus, tmp_path / "on_device", *settings))
    one, other = (torch.load(tmp_path / name / "last.ckpt")["state_dict"] for name in ("gathered", "on_device"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_loaders_have_the_shapes_they_promise(tiny_corpus: Path) -> None:
    module = build(tiny_corpus, "data.batch_size=16")
    log_mel, label = next(iter(module.train_dataloader()))
    assert log_mel.shape == (16, 1, 40, 101)
    assert log_mel.dtype == torch.float32
    assert label.shape == (16,)
    assert [len(part) for part in (module.parts.train, module.parts.val, module.parts.test)] == [40, 100, 100]


def test_test_conditions_are_the_same_for_every_seed(tiny_corpus: Path) -> None:
    one, two = build(tiny_corpus), build(tiny_corpus, "seed=1")
    assert torch.equal(*(list(data.test_sets.values())[1].all() for data in (one, two)))
    assert not torch.equal(*(found.all() for found in list(one.test_sets.values())[:2]))


def test_train_effects_touch_the_training_part_alone(tiny_corpus: Path) -> None:
    plain = build(tiny_corpus)
    noise = "{white_noise: {snr_db: [0, 10]}}"
    heavy = build(
        tiny_corpus,
        "data.train_sets.clean.copies=0",
        f"+data.train_sets.noisy={{copies: 2, effects_rate_hz: 16000, effects: {noise}}}",
    )
    assert len(heavy.train_set) == 2 * len(plain.train_set)
    copies = heavy.train_set.log_mels.all().chunk(2)
    assert not torch.equal(copies[0], copies[1])
    assert torch.equal(heavy.val_set.log_mels.all(), plain.val_set.log_mels.all())
    assert torch.equal(heavy.train_set.labels, plain.train_set.labels.repeat(2))


def test_training_on_everything_tests_on_nothing_in_any_condition(tiny_corpus: Path) -> None:
    data = DigitsDataModule(
        "folder", str(tiny_corpus), split="all", test_conditions={"clean": {}, "white_0": {"white_noise": {"snr_db": 0}}}
    )
    data.setup("fit")
    assert data.test_sets == {}
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
    assert other.train_set.labels.tolist() == 2 * labels
    assert not torch.equal(other.train_set.log_mels.all()[:n_bob], other.train_set.log_mels.all()[n_bob:])


def test_synthetic_voices_join_the_training_part(
    tiny_corpus: Path, clips: list[corpus.Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(espeak, "load", {"espeak-voices": corpus.Corpus("espeak-voices", clips)}.__getitem__)
    with_voices = build(tiny_corpus, "+data.train_sets.synthetic={source: espeak-voices, copies: 2}")
    assert len(with_voices.train_set) == len(with_voices.parts.train) + 2 * 20
    assert with_voices.train_set.labels[-40:].tolist() == 2 * [clip.digit for clip in clips]


def test_sounds_that_are_no_digits_have_a_label_of_their_own_and_need_an_output(
    tiny_corpus: Path, tmp_path: Path, clips: list[corpus.Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [replace(clip, digit=corpus.NO_DIGIT) for clip in clips]
    loaded = {"espeak-words": corpus.Corpus("espeak-words", words), "espeak": corpus.Corpus("espeak", clips)}
    monkeypatch.setattr(espeak, "load", lambda name="espeak": loaded[name])
    at_16_khz = "copies: 1, effects_rate_hz: 16000"
    others = (
        "+data.train_sets.words={source: espeak-words, copies: 1}",
        f"+data.train_sets.noises={{{at_16_khz}, non_digit: {{bursts: {{number: 2}}}}}}",
        f"+data.train_sets.pairs={{{at_16_khz}, non_digit: {{pair: {{gap_s: 0}}}}, effects: {{white_noise: {{snr_db: 20}}}}}}",
    )
    module = build(tiny_corpus, "conditions=clean", *others)
    n_train = len(module.parts.train)
    labels = module.train_set.labels
    assert len(labels) == 20 + 3 * n_train
    assert labels[:n_train].max() == 9
    assert (labels[n_train:] == corpus.NO_DIGIT).all()
    short = ("trainer=smoke", "data.batch_size=10", *others)
    with pytest.raises(ValueError, match=r"holds sounds other than digits, which needs model\.n_outputs=11"):
        train(tiny_run(tiny_corpus, tmp_path / "ten", *short))
    metrics = train(tiny_run(tiny_corpus, tmp_path / "eleven", *short, "model.n_outputs=11"))
    assert metrics["test/total"] == 100
    rows = runs.read_predictions(tmp_path / "eleven")
    assert {len(row["logits"]) for row in rows} == {11}
    assert {row["predicted"] for row in rows} <= set(range(10))


def people(clips: list[corpus.Clip]) -> list[corpus.Clip]:
    """20 clips as of another corpus: each of four folds has a zero, a one and three other words, and their labels know it."""
    return [replace(clip, digit=(i // 4) if i < 8 else corpus.NO_DIGIT, fold=i % 4) for i, clip in enumerate(clips)]


def test_other_corpora_validate_too_and_are_not_trained_on_there(
    tiny_corpus: Path, clips: list[corpus.Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(espeak, "load", {"espeak-words": corpus.Corpus("espeak-words", people(clips))}.__getitem__)
    of_people = "+data.train_sets.people={source: espeak-words, copies: 2}"
    without = build(tiny_corpus, "conditions=clean", of_people)
    assert len(without.train_set) == len(without.parts.train) + 2 * 20
    held_out = build(tiny_corpus, "conditions=clean", of_people, "data.val_sources=[espeak-words]")
    assert len(held_out.train_set) == len(held_out.parts.train) + 2 * 10
    assert len(held_out.val_set) == len(without.val_set) + 5
    assert held_out.val_set.labels[-5:].tolist() == [0, 1, 10, 10, 10]
    everything = build(tiny_corpus, "conditions=clean", of_people, "data.val_sources=[espeak-words]", "data.split=all")
    assert len(everything.train_set) == 240 + 2 * 20
    assert len(everything.val_set) == len(held_out.val_set)


def test_a_part_may_hold_only_some_labels(tiny_corpus: Path, clips: list[corpus.Clip], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak, "load", {"espeak-words": corpus.Corpus("espeak-words", people(clips))}.__getitem__)
    rare = build(tiny_corpus, "conditions=clean", "+data.train_sets.rare={source: espeak-words, copies: 3, only: [1]}")
    assert rare.train_set.labels[len(rare.parts.train) :].tolist() == 12 * [1]
    few = build(tiny_corpus, "conditions=clean", "+data.train_sets.clean.only=[7, 8]")
    assert set(few.train_set.labels.tolist()) == {7, 8}
    with pytest.raises(ValueError, match=r"no clips of folder-recordings with the labels \[10\]"):
        build(tiny_corpus, "conditions=clean", "+data.train_sets.clean.only=[10]")


def test_other_sounds_count_in_the_loss_and_not_in_the_accuracy(
    tiny_corpus: Path, tmp_path: Path, clips: list[corpus.Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(espeak, "load", {"espeak-words": corpus.Corpus("espeak-words", people(clips))}.__getitem__)
    seen: dict[str, float] = {}
    at_the_end = "digits.training.callbacks.EpochLines.on_train_epoch_end"
    monkeypatch.setattr(at_the_end, lambda self, trainer, module: seen.update(trainer.callback_metrics))
    short = ("trainer.max_epochs=1", "data.batch_size=20", "data.val_sources=[espeak-words]")
    metrics = train(tiny_run(tiny_corpus, tmp_path / "ten", *short))
    assert seen["val/others"] == 1  # without an output for them, all are taken for digits
    assert 0 <= metrics["val/acc"] <= 1
    train(tiny_run(tiny_corpus, tmp_path / "eleven", *short, "model.n_outputs=11"))
    assert 0 <= seen["val/others"] <= 1


def test_a_corpus_of_digits_and_other_words_can_be_the_experiment_s(tiny_corpus: Path, tmp_path: Path) -> None:
    """Other words are counted apart, and are no errors of the digits."""
    root = tmp_path / "words"
    for path in tiny_corpus.glob("*_ann_*"):
        (root / ("happy" if path.name[0] in "89" else corpus.WORDS[int(path.name[0])])).mkdir(parents=True, exist_ok=True)
        word, take = ("happy" if path.name[0] in "89" else corpus.WORDS[int(path.name[0])]), path.stem.split("_")[-1]
        speaker = hashlib.sha256(f"{take}".encode()).hexdigest()[:8]
        (root / word / f"{speaker}_nohash_{path.name[0]}.wav").write_bytes(path.read_bytes())
    cfg = compose_config(
        "data=speech_commands",
        "name=x",
        f"run_dir={tmp_path / 'run'}",
        f"data.root={root}",
        "conditions=clean",
        "model.n_outputs=11",
        "data.batch_size=10",
        "max_epochs=2",
        "export=false",
        "data.split=take_fold",
    )
    found = {clip.fold for clip in catalog.get("speech_commands").load(str(root)).clips}
    cfg.data.fold = next(fold for fold in found if (fold + 1) % 10 in found)
    metrics = train(cfg)
    rows = runs.read_predictions(tmp_path / "run")
    assert metrics["test/total"] == sum(row["digit"] < 10 for row in rows) > 0
    assert metrics["test/others"] == sum(row["digit"] == 10 for row in rows) > 0
    assert metrics["test/correct"] == sum(row["digit"] == max(range(10), key=row["logits"].__getitem__) for row in rows)


@pytest.mark.parametrize(
    ("train_sets", "message"),
    [
        ({"clean": {"copies": 0}}, "needs a part with copies: 1 or more"),
        ({"air": {"effect": {}}}, r"data\.train_sets\.air: .*'effect'"),
        ({"air": {"non_digit": {"bursts": {}}, "effects": {"bursts": {}}}}, r"air: bursts in both non_digit and effects"),
    ],
)
def test_impossible_training_sets_are_refused(train_sets: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DigitsDataModule(train_sets=train_sets)


def test_unknown_source_is_named() -> None:
    with pytest.raises(ValueError, match=r"data\.source must be one of fsdd, .*, folder, espeak, .*, got tape"):
        DigitsDataModule(source="tape").setup("fit")
    with pytest.raises(ValueError, match=r"data\.root=FOLDER"):
        DigitsDataModule(source="folder").setup("fit")


def test_three_training_clips_are_one_batch(tmp_path: Path) -> None:
    for take in (0, 5, 10, 11, 12):
        soundfile.write(tmp_path / f"7_ann_{take}.wav", spoken(7, 0, take), 8000)
    module = build(tmp_path, "conditions=clean")
    assert [labels.tolist() for _, labels in module.train_dataloader()] == [[7, 7, 7]]


def test_a_folder_may_be_named_by_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_corpus(tmp_path / "2024")
    monkeypatch.chdir(tmp_path)
    assert build(Path("2024"), "conditions=clean").corpus.name == "folder-2024"
