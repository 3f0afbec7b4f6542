import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import soundfile
from support import Outcome, sequence, shell, spoken, write_corpus

from digits import audio
from digits.corpora.folder import read_folder
from digits.live import voices
from digits.recognition.recognizer import Recognizer

Command = Callable[..., Outcome]


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "recordings", takes=3, speakers=("ann",))


@pytest.fixture
def enroll(command: Command, exported_model: Path, tmp_path: Path) -> Callable[..., Outcome]:
    def run(*arguments: str) -> Outcome:
        return command("enroll", f"voices={tmp_path / 'voices'}", f"ckpt_path={exported_model}", *arguments)

    return run


def test_a_voice_is_learnt_from_a_folder_and_taken_by_every_command(
    enroll: Callable[..., Outcome], recordings: Path, tmp_path: Path, command: Command
) -> None:
    began = time.monotonic()
    done = enroll("name=ann", f"root={recordings}")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 10
    path = tmp_path / "voices" / "ann.voice"
    assert re.match(rf"{path}: 30 recordings; \d+ of them were right before, \d+ are with a voice that has not heard", done.stdout)
    assert done.stdout.endswith(f"to use it: digits mic ckpt_path={path}\n")
    sound = tmp_path / "seven.wav"
    soundfile.write(sound, spoken(7, 0, 99), 8000)
    predicted = command("predict", "--ckpt-path", str(path), str(sound))
    assert predicted.stdout.startswith(f"{sound}: 7 ")
    heard = command("mic", str(sequence(tmp_path / "words.wav", [3, 8])), f"ckpt_path={path}", "threshold=0", "output=jsonl")
    assert re.findall(r'"digit": (\d)', heard.stdout) == ["3", "8"]
    assert Recognizer.load(path)(*audio.read(sound)).digit == 7


def test_it_asks_and_keeps_what_it_heard_as_a_corpus(enroll: Callable[..., Outcome], tmp_path: Path) -> None:
    words = sequence(tmp_path / "words.wav", [3] * 22)
    sound, rate = soundfile.read(words)
    sound[rate // 2] = 1.0  # a click comes first
    soundfile.write(words, sound, rate)
    done = enroll("name=ann", "rounds=2", f"input={words}")
    assert done.returncode == 0, done.stderr
    asked = re.findall(r"^(.*)say (\w+) \((\d+) of 20\)$", done.stderr, re.MULTILINE)
    assert asked[1] == ("that was too short; again, ", asked[0][1], "1")
    corpus = read_folder(tmp_path / "voices" / "ann", "x")
    assert sorted(clip.digit for clip in corpus.clips) == sorted([*range(10)] * 2)
    assert {clip.speaker for clip in corpus.clips} == {"ann"}
    assert (tmp_path / "voices" / "ann.voice").is_file()


def test_too_few_answers_teach_nothing_and_are_forgotten(enroll: Callable[..., Outcome], tmp_path: Path) -> None:
    done = enroll("name=ann", f"input={sequence(tmp_path / 'words.wav', [3, 8])}")
    assert done.returncode == 1
    assert done.stderr.endswith("digits enroll: not every digit was recorded 3 times, so nothing was learnt and nothing is kept\n")
    assert list((tmp_path / "voices").iterdir()) == []


def test_a_voice_is_deleted_with_its_recordings_and_nothing_else(
    enroll: Callable[..., Outcome], recordings: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "voices"
    for name in ("ann", "bob"):
        assert enroll(f"name={name}", f"root={recordings}").returncode == 0
    write_corpus(folder / "ann", takes=1, speakers=("ann",))
    (folder / "ann" / "notes.txt").write_text("mine")
    done = enroll("name=ann", "delete=true")
    assert done.stdout == f"{folder / 'ann.voice'} and its recordings are deleted\n"
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")) == ["ann", "ann/notes.txt", "bob.voice"]
    done = enroll("name=ann", "delete=true")
    assert (done.returncode, done.stderr) == (1, f"digits enroll: there is no voice ann in {folder}; there are: bob\n")
    assert len(list(recordings.iterdir())) == 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), r"name=NAME is needed, the name of the voice; in .*voices there are: none yet"),
        (("name=../ann",), r"the name of a voice must consist of at most 32 letters \(a to z\) and digits, got \.\./ann"),
        (("name=ann", "root=nowhere"), "nowhere: no such folder"),
        (("name=ann", "delete=true"), "there is no voice ann in .*voices"),
        (("name=ann", "rounds=0"), "rounds must be a whole number"),
        (("name=ann", "input=nowhere.wav"), "nowhere.wav: no such file"),
        (("-m", "name=ann,bob"), "-m and --multirun are only for digits train"),
    ],
)
def test_mistakes_are_told_in_one_sentence(enroll: Callable[..., Outcome], arguments: tuple[str, ...], message: str) -> None:
    done = enroll(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(rf"^digits enroll: {message}[^\n]*\n\Z", done.stderr, re.MULTILINE), done.stderr


def test_a_folder_without_every_digit_is_refused(enroll: Callable[..., Outcome], recordings: Path, tmp_path: Path) -> None:
    for path in recordings.glob("[27]_*"):
        path.unlink()
    done = enroll("name=ann", f"root={recordings}")
    assert done.stderr.endswith("at least one recording of each digit is needed; there is none of 2, 7\n")
    assert not (tmp_path / "voices" / "ann.voice").exists()


def test_a_voice_is_no_model_to_change(enroll: Callable[..., Outcome], recordings: Path, tmp_path: Path) -> None:
    assert enroll("name=ann", f"root={recordings}").returncode == 0
    done = enroll("name=bob", f"root={recordings}", f"ckpt_path={tmp_path / 'voices' / 'ann.voice'}")
    assert done.stderr.endswith("ann.voice is a voice already; give the model that it changes\n")


def test_a_recording_under_a_wrong_name_is_pointed_out(exported_model: Path, recordings: Path, tmp_path: Path) -> None:
    wrong = recordings / "2_ann_0.wav"
    soundfile.write(wrong, spoken(5, 0, 60), 8000)
    for take in range(3, 12):  # enough that the wrong one does not count
        for digit in range(10):
            soundfile.write(recordings / f"{digit}_ann_{take}.wav", spoken(digit, 0, take), 8000)
    lesson = voices.Voices(tmp_path / "voices").teach("ann", str(exported_model), recordings)
    assert lesson.doubtful == [(wrong, 5)]


def test_one_speaker_of_several_is_learnt_from_and_a_crowd_is_not(
    enroll: Callable[..., Outcome], recordings: Path, tmp_path: Path
) -> None:
    write_corpus(recordings, takes=2, speakers=("bob",))
    assert enroll("name=ann", f"root={recordings}").stdout.startswith(f"{tmp_path / 'voices' / 'ann.voice'}: 30 recordings")
    done = enroll("name=cid", f"root={recordings}")
    assert done.stderr.endswith("recordings of several speakers (ann, bob); name one of them, or give a folder of one speaker\n")


def test_an_empty_folder_and_a_number_for_one_are_refused(enroll: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = enroll("name=ann", f"root={tmp_path / 'empty'}")
    assert done.stderr.endswith("empty: 0 recordings; a voice is learnt from 10 to 300\n")
    done = enroll("name=ann", "root=2024")
    assert done.stderr == "digits enroll: root must be a folder (write ./7 if its name is a number), or null, got 2024\n"


def test_teaching_anew_takes_the_place_of_the_earlier_recordings(
    enroll: Callable[..., Outcome], tmp_path: Path, exported_model: Path
) -> None:
    words = sequence(tmp_path / "words.wav", [3] * 12)
    for _ in range(2):
        assert enroll("name=Ann", "rounds=1", f"input={words}").returncode == 0
    assert len(list((tmp_path / "voices" / "ann").iterdir())) == 10
    assert enroll("name=ann", "rounds=2", f"input={words}").returncode == 1
    assert len(list((tmp_path / "voices" / "ann").iterdir())) == 10


def test_a_lesson_says_when_it_does_not_help() -> None:
    doubtful = [(Path(f"{digit}_ann_0.wav"), 9) for digit in range(7)]
    lesson = voices.Lesson(Path("ann.voice"), 30, 20, 18, doubtful)
    lines = str(lesson).splitlines()
    assert lines[0] == (
        "ann.voice: 30 recordings; 20 of them were right before, 18 are with a voice that has not heard them. "
        "This voice does not help: teach it again in a quiet place, or delete it"
    )
    assert lines[1] == "0_ann_0.wav sounds like 9: listen to it, and delete it if it is nothing else"
    assert lines[-1] == "and 2 more"
    assert str(voices.Lesson(Path("ann.voice"), 10, 9, None, [])) == "ann.voice: 10 recordings"


def test_it_needs_no_torch(exported_model: Path, recordings: Path, tmp_path: Path) -> None:
    blocker = tmp_path / "blocked"
    blocker.mkdir()
    (blocker / "torch.py").write_text("raise ImportError('no torch here')")
    settings = (f"root={recordings}", f"voices={tmp_path / 'voices'}", f"ckpt_path={exported_model}")
    done = shell("enroll", "name=ann", *settings, extra={"PYTHONPATH": str(blocker)})
    assert done.returncode == 0, done.stderr


def test_silence_between_recordings_does_not_matter(enroll: Callable[..., Outcome], recordings: Path, tmp_path: Path) -> None:
    for path in recordings.iterdir():
        sound, rate = soundfile.read(path)
        soundfile.write(path, numpy.concatenate([numpy.zeros(rate // 3), sound, numpy.zeros(rate // 2)]), rate)
    assert enroll("name=ann", f"root={recordings}").returncode == 0
    assert Recognizer.load(tmp_path / "voices" / "ann.voice")(spoken(7, 0, 99), 8000).digit == 7
