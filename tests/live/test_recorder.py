import sys
from pathlib import Path

import pytest
from support import sequence

from digits import audio
from digits.corpora.corpus import NO_DIGIT
from digits.corpora.folder import read_folder
from digits.live import microphone
from digits.live.listener import Heard, Listener, listen
from digits.live.recorder import Recorder
from digits.live.segmenter import Segmenter, Word
from digits.recognition.recognizer import Recognizer


def test_what_was_heard_can_be_recorded_as_a_corpus(tiny_checkpoint: Path, tmp_path: Path) -> None:
    path = sequence(tmp_path / "words.wav", [3, 8, 1])
    folder = tmp_path / "mine"
    for _ in range(2):  # a second time goes on counting
        blocks, sample_rate = microphone.read_file(path, 10)
        listener = Listener(Segmenter(sample_rate), Recognizer.load(tiny_checkpoint), record=Recorder(folder, "ann", print))
        events = list(listen(blocks, listener))
    corpus = read_folder(folder, "mine")
    assert [(clip.digit, clip.speaker) for clip in corpus.clips] == sorted((event.digit, "ann") for event in 2 * events)
    assert len({clip.take for clip in corpus.clips}) == 6
    recognizer = Recognizer.load(tiny_checkpoint)
    assert all(recognizer(*audio.read(clip.path)).digit == clip.digit for clip in corpus.clips)
    with pytest.raises(ValueError, match="speaker must consist of letters and digits, got a_b"):
        Recorder(folder, "a_b", print)


def word_of(path: Path) -> Word:
    waveform, sample_rate = audio.read(path)
    return next(iter(Segmenter(sample_rate).feed(waveform)))


ACCEPTED, REJECTED = Heard(1.0, 1.4, 3, 0.9, True, None, 210.0, 4.0), Heard(1.0, 1.4, 3, 0.4, False, "not sure", 210.0, 4.0)


def test_rejected_sounds_make_a_corpus_of_other_sounds(tmp_path: Path) -> None:
    word = word_of(sequence(tmp_path / "words.wav", [3]))
    for _ in range(2):
        recorder = Recorder(tmp_path / "mine", "ann", print)
        recorder(word, REJECTED)
        recorder(word, ACCEPTED)
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["3_ann_1.wav", "3_ann_3.wav"]
    others = read_folder(tmp_path / "mine_rejected", "others", others=True)
    assert [(clip.name, clip.digit) for clip in others.clips] == [("none_ann_0.wav", NO_DIGIT), ("none_ann_2.wav", NO_DIGIT)]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_full_disk_ends_the_recording_and_leaves_nothing_behind(tmp_path: Path) -> None:
    import resource

    word, messages = word_of(sequence(tmp_path / "words.wav", [3])), list[str]()
    recorder = Recorder(tmp_path / "mine", "ann", messages.append)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        recorder(word, ACCEPTED)
        recorder(word, ACCEPTED)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    recorder(word, ACCEPTED)
    path = tmp_path / "mine" / "3_ann_0.wav"
    assert messages == [f"{path} cannot be saved (File too large): recording has stopped, listening goes on"]
    assert list((tmp_path / "mine").iterdir()) == []


def test_a_folder_that_vanishes_or_cannot_be_made_is_named(tmp_path: Path) -> None:
    word, messages = word_of(sequence(tmp_path / "words.wav", [3])), list[str]()
    recorder = Recorder(tmp_path / "mine", "ann", messages.append)
    (tmp_path / "mine_rejected").touch()
    recorder(word, REJECTED)
    (message,) = messages
    assert message.startswith(f"{tmp_path}/mine_rejected/none_ann_0.wav cannot be saved (")
    with pytest.raises(NotADirectoryError, match=r"words\.wav is not a folder"):
        Recorder(tmp_path / "words.wav", "ann", print)
    with pytest.raises(OSError, match=r"words\.wav/mine cannot be made: Not a directory"):
        Recorder(tmp_path / "words.wav/mine", "ann", print)
