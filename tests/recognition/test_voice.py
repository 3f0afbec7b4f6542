import json
from dataclasses import replace
from pathlib import Path

import numpy
import pytest

from digits import audio
from digits.recognition import model_files, voice
from digits.recognition.recognizer import Recognizer


def separable(seed: int = 0, takes: int = 3, features: int = 40) -> tuple[voice.Examples, voice.Examples]:
    """Two draws of examples of which a model tells nothing, though their features tell everything."""
    random = numpy.random.default_rng(seed)
    centres = random.standard_normal((10, features))
    draws = []
    for _ in range(2):
        labels = numpy.repeat(numpy.arange(10), takes)
        near = centres[labels] + 0.3 * random.standard_normal((len(labels), features)) + 5.0
        unsure = numpy.log(numpy.full((len(labels), 11), 1 / 11))
        rather_none = unsure + 3 * numpy.eye(11)[10]
        draws.append(voice.Examples(labels, near, unsure, 5 + random.standard_normal(near.shape), rather_none))
    return draws[0], draws[1]


def test_a_voice_learns_what_the_model_did_not_know() -> None:
    learnt, unheard = separable()
    assert (voice.answers(unheard) == unheard.labels).mean() <= 0.2
    assert (voice.answers(unheard, voice.fit(learnt)) == unheard.labels).mean() >= 0.95


def test_what_is_played_backwards_stays_no_digit() -> None:
    learnt, unheard = separable()
    shifted = unheard.backwards_logits + voice.fit(learnt).shift(unheard.backwards)
    assert (shifted.argmax(axis=1) == 10).mean() >= 0.9


def test_what_is_unlike_the_recordings_is_left_alone() -> None:
    learnt, unheard = separable()
    far = unheard.features + 100
    numpy.testing.assert_allclose(voice.fit(learnt).shift(far), 0, atol=1e-6)


def test_it_is_the_minimum_of_the_penalised_likelihood() -> None:
    """By another optimiser, scipy's, on the function written out."""
    from scipy.optimize import minimize

    learnt, _ = separable(takes=1, features=8)
    middle = learnt.features.mean(axis=0)
    scale = numpy.sqrt(((learnt.features - middle) ** 2).sum(axis=1).mean())
    inputs = (numpy.concatenate([learnt.features, learnt.backwards]) - middle) / scale
    logits = numpy.concatenate([learnt.logits, learnt.backwards_logits])
    kept = numpy.exp(learnt.backwards_logits)
    targets = numpy.concatenate([numpy.eye(11)[learnt.labels], kept / kept.sum(axis=1, keepdims=True)])
    kernel = numpy.array([[a @ b * numpy.exp(-((a - b) ** 2).sum() / (2 * voice.WIDTH**2)) for b in inputs] for a in inputs])

    def loss(flat: numpy.ndarray) -> float:
        weights = flat.reshape(20, 11)
        shifted = logits + kernel @ weights
        log_p = shifted - numpy.logaddexp.reduce(shifted, axis=1, keepdims=True)
        return -(targets * log_p).sum() + voice.PENALTY / 2 * numpy.trace(weights.T @ kernel @ weights)

    found = minimize(loss, numpy.zeros(220), options={"gtol": 1e-4})
    fitted = voice.fit(learnt)
    assert loss(fitted.weights.ravel()) <= found.fun + 1e-3
    numpy.testing.assert_allclose(fitted.shift(inputs * scale + middle), kernel @ found.x.reshape(20, 11), atol=0.05)


def test_the_same_recordings_give_the_same_voice() -> None:
    one, other = voice.fit(separable()[0]), voice.fit(separable()[0])
    assert (one.weights == other.weights).all()


def test_a_digit_without_a_recording_is_named() -> None:
    learnt, _ = separable()
    with pytest.raises(ValueError, match="at least one recording of each digit is needed; there is none of 3, 7"):
        voice.fit(learnt.part(~numpy.isin(learnt.labels, [3, 7])))


@pytest.fixture
def own(exported_model: Path, tiny_corpus: Path, tmp_path: Path) -> Path:
    """A voice of the tiny corpus's ann."""
    clips = sorted(tiny_corpus.glob("*_ann_[0-2].wav"))
    model = model_files.load(exported_model)
    seen = voice.examples(model, [audio.read(clip) for clip in clips], [int(clip.name[0]) for clip in clips])
    path = tmp_path / "ann.voice"
    replace(voice.fit(seen), model=str(exported_model), sha256=voice.sha256(exported_model)).write(path)
    return path


def test_a_file_gives_the_fitted_answers(own: Path, exported_model: Path, tiny_corpus: Path) -> None:
    clips = sorted(tiny_corpus.glob("*_ann_7.wav"))
    seen = voice.examples(model_files.load(exported_model), [audio.read(clip) for clip in clips], list(range(10)))
    kept = voice.read(own)
    recognizer = Recognizer.load(own)
    answers = [recognizer(*audio.read(clip)) for clip in clips]
    assert [answer.digit for answer in answers] == voice.answers(seen, kept).tolist() == list(range(10))
    shifted = numpy.exp(seen.logits + kept.shift(seen.features))
    expected = shifted / shifted.sum(axis=1, keepdims=True)
    numpy.testing.assert_allclose([answer.probabilities for answer in answers], expected[:, :10], atol=1e-4)
    assert recognizer.threshold == Recognizer.load(exported_model).threshold


def test_a_voice_is_small_and_plain(own: Path) -> None:
    assert own.stat().st_size < 200_000
    assert json.loads(own.read_text())["format"] == 1


def test_another_version_of_its_model_is_noticed(own: Path, exported_model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    content = json.loads(own.read_text())
    other.write_bytes(exported_model.read_bytes() + b"x")
    own.write_text(json.dumps(content | {"model": str(other)}))
    with pytest.raises(ValueError, match="checksum"):  # the model itself is damaged, which is said first
        Recognizer.load(own)
    own.write_text(json.dumps(content | {"model": "pretrained"}))
    with pytest.raises(ValueError, match=r"ann\.voice: fitted to another model, or to another version of pretrained; "):
        Recognizer.load(own)


def test_a_model_that_has_gone_is_named(own: Path) -> None:
    own.write_text(json.dumps(json.loads(own.read_text()) | {"model": "gone.onnx"}))
    with pytest.raises(FileNotFoundError, match=r"ann\.voice: the model that this voice changes is gone \(gone\.onnx: no "):
        Recognizer.load(own)


@pytest.mark.parametrize("content", ["", "no JSON", "[]", "{}", 100_000 * "[", 30_000_000 * " "])
def test_what_is_no_voice_is_refused_in_one_sentence(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.voice"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"x\.voice: not a voice that digits enroll wrote, or damaged") as refusal:
        Recognizer.load(path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"model": 1},
        {"sha256": None},
        {"scale": 0},
        {"scale": [1]},
        {"scale": float("nan")},
        {"middle": []},
        {"middle": [[0.0]]},
        {"examples": [[0.0]]},
        {"examples": [[0.0], [0.0, 1.0]]},
        {"weights": [["x"]]},
        {"weights": [[0.0] * 11]},
        {"weights": None},
    ],
)
def test_a_voice_with_anything_wrong_is_refused(own: Path, change: dict) -> None:
    own.write_text(json.dumps(json.loads(own.read_text()) | change))
    with pytest.raises(ValueError, match=r"ann\.voice: not a voice that digits enroll wrote, or damaged"):
        Recognizer.load(own)


def test_weights_of_another_network_are_refused(own: Path) -> None:
    smaller = {"middle": [0.0], "examples": [[0.0]], "weights": [[0.0] * 11]}
    own.write_text(json.dumps(json.loads(own.read_text()) | smaller))
    with pytest.raises(ValueError, match=r"ann\.voice: its answer to a test signal cannot be used"):
        Recognizer.load(own)


def test_a_voice_that_leads_to_a_voice_is_refused(own: Path) -> None:
    own.write_text(json.dumps(json.loads(own.read_text()) | {"model": str(own)}))
    with pytest.raises(ValueError, match="it names another voice as its model"):
        Recognizer.load(own)
