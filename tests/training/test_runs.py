import json
import os
from pathlib import Path

import pytest
import torch
from support import compose_config

from digits.training import runs


def add_run(
    folder: Path, experiment: str, val_acc: float | None, age_s: float, finished: bool = True, complete: bool = True
) -> Path:
    folder.mkdir(parents=True)
    (folder / "best.ckpt").touch()
    os.utime(folder / "best.ckpt", (1e9 - age_s, 1e9 - age_s))
    if finished:
        metrics = {"experiment": experiment, "corpus": "fsdd", "split": "official", "seed": 0, "val/acc": val_acc, "test/acc": 1.0}
        (folder / "metrics.json").write_text(json.dumps(metrics | {"complete": complete}))
    return folder / "best.ckpt"


def test_best_is_preferred_experiment_then_accuracy_then_newest(tmp_path: Path) -> None:
    prefer = ["robust", "baseline"]
    assert runs.find_best(tmp_path, prefer) is None
    other = add_run(tmp_path / "0", "over_augmented", 1.0, 0)
    assert runs.find_best(tmp_path, prefer) == other
    baseline = add_run(tmp_path / "1", "baseline", 0.999, 0)
    assert runs.find_best(tmp_path, prefer) == baseline
    add_run(tmp_path / "deep/er/2", "robust", 0.98, 0)
    older = add_run(tmp_path / "deep/er/3", "robust", 0.99, 100)
    assert runs.find_best(tmp_path, prefer) == older
    newer = add_run(tmp_path / "deep/er/4", "robust", 0.99, 50)
    add_run(tmp_path / "5", "robust", 1.0, 0, finished=False)
    add_run(tmp_path / "6", "robust", None, 0)
    add_run(tmp_path / "7", "robust", 1.0, 0, complete=False)
    assert runs.find_best(tmp_path, prefer) == newer
    assert runs.find_best(tmp_path, ["baseline"]) == baseline
    synthetic = add_run(tmp_path / "8", "robust", 1.0, 0).with_name("metrics.json")
    synthetic.write_text(json.dumps(json.loads(synthetic.read_text()) | {"trained_on": "espeak"}))
    assert runs.find_best(tmp_path, prefer) == newer
    all_heard = add_run(tmp_path / "9", "robust", 1.0, 0).with_name("metrics.json")
    all_heard.write_text(json.dumps(json.loads(all_heard.read_text()) | {"split": "all"}))
    assert runs.find_best(tmp_path, prefer) == newer
    (tmp_path / "1" / "metrics.json").write_text("{}")
    with pytest.raises(ValueError, match=r"1/metrics\.json: not a run's"):
        runs.find_best(tmp_path, prefer)


def test_a_run_that_says_it_is_synthetic_comes_last(tmp_path: Path) -> None:
    for name in ("1", "2"):
        path = add_run(tmp_path / name, "robust", 0.9, 0).with_name("metrics.json")
        runs.write_json(path, runs.read_json(path) | {"val/acc": 1.0, "is_synthetic": name == "1", "trained_on": "espeak"})
    assert runs.find_best(tmp_path, ["robust"]) == tmp_path / "2" / "best.ckpt"


def test_the_best_run_s_exported_model_is_taken_if_there_is_one(tmp_path: Path) -> None:
    best = add_run(tmp_path / "1", "robust", 1.0, 0)
    add_run(tmp_path / "2", "robust", 0.9, 0).with_name("best.onnx").touch()
    assert runs.find_best(tmp_path, ["robust"]) == best
    best.with_name("best.onnx").touch()
    assert runs.find_best(tmp_path, ["robust"]) == best.with_name("best.onnx")
    note = f"your own run; {runs.FOR_OTHERS}"
    assert runs.choose_model(tmp_path, ["robust"]) == (str(best.with_name("best.onnx")), note)


@pytest.mark.parametrize(
    ("facts", "lack"),
    [
        ({"n_outputs": 11, "train_clips": 2400, "test/total": 300}, ""),
        ({"n_outputs": 10, "train_clips": 2400, "test/total": 300}, ", which takes every sound for a digit"),
        ({"n_outputs": 11, "train_clips": 19, "test/total": 300}, ", which was trained on 19 clips only"),
        ({"train_clips": 2400, "test/total": 0}, ", which was never tested"),
        ({"n_outputs": 11, "train_clips": None, "test/total": 300}, ""),  # evaluated again in its own folder
        (
            {"n_outputs": 10, "train_clips": 19, "test/total": 5},
            ", which takes every sound for a digit, was trained on 19 clips only and was tested on 5 clips only",
        ),
    ],
)
def test_what_a_run_lacks_for_a_listener_is_named(tmp_path: Path, facts: dict, lack: str) -> None:
    best = add_run(tmp_path / "run", "robust", 1.0, 0)
    path = best.with_name("metrics.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))
    assert runs.choose_model(tmp_path, ["robust"])[1] == f"your own run{lack}; {runs.FOR_OTHERS}"


def test_without_a_run_the_pretrained_model_is_chosen(tmp_path: Path) -> None:
    assert runs.choose_model(tmp_path, ["robust"]) == ("pretrained", f"no finished run in {tmp_path}")


def test_predictions_can_be_read_again(tmp_path: Path) -> None:
    row = {"condition": "clean", "clip": "a, b.wav", "speaker": "ann", "digit": 3, "predicted": 8, "probability": 0.25}
    runs.write_predictions(tmp_path / "predictions.csv", [row | {"logits": [1.5, -0.1239]}])
    assert runs.read_predictions(tmp_path) == [row | {"logits": [1.5, -0.124]}]
    good = (tmp_path / "predictions.csv").read_text()
    for bad in ("a,b\n1,2\n", good.replace(",3,", ",12,"), good + "clean,a\n"):
        (tmp_path / "predictions.csv").write_text(bad)
        with pytest.raises(ValueError, match=r"predictions\.csv: not a run's predictions"):
            runs.read_predictions(tmp_path)


def test_the_digest_follows_what_changes_figures_and_nothing_else() -> None:
    def digest(*overrides: str, **arguments: bool) -> str:
        return runs.config_digest(compose_config("name=x", *overrides), **arguments)

    plain = digest("run_dir=x")
    assert plain == digest("run_dir=y", "resume=true", "ckpt_path=z", "export=false")
    assert plain != digest("run_dir=x", "seed=1")
    assert plain != digest("run_dir=x", "model.dropout=0.3")
    assert digest("run_dir=x", without_seed=True) == digest("run_dir=x", "seed=1", without_seed=True)


def test_damaged_json_is_named(tmp_path: Path) -> None:
    strange = '{"experiment": [], "corpus": "x", "split": "official", "seed": 0, "val/acc": 1, "test/acc": 1}'
    for content, message in (
        ("{", "not readable as JSON"),
        ("[" * 100_000, "not readable as JSON"),
        ("[1]", "not a run's JSON file"),
        (strange, "not a run's metrics"),
        (strange.replace("[]", '"x"').replace("0,", '0, "train_clips": "many",'), "not a run's metrics"),
    ):
        (tmp_path / "metrics.json").write_text(content)
        with pytest.raises(ValueError, match=rf"metrics\.json: {message}: delete it"):
            runs.read_metrics(tmp_path)


def test_the_environment_says_how_many_threads_there_are() -> None:
    environment = runs.environment()
    assert environment["threads"] == torch.get_num_threads()
    assert {"python", "torch", "lightning", "soxr"} <= set(environment["versions"])
