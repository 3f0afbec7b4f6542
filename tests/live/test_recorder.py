from pathlib import Path

import pytest
from support import sequence

from digits import audio
from digits.corpora.corpus import read_folder
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
        listener = Listener(Segmenter(sample_rate), Recognizer.load(tiny_checkpoint), record=Recorder(folder, "ann"))
        events = list(listen(blocks, listener))
    corpus = read_folder(folder, "mine")
    assert [(clip.digit, clip.speaker) for clip in corpus.clips] == sorted((event.digit, "ann") for event in 2 * events)
    assert len({clip.take for clip in corpus.clips}) == 6
    recognizer = Recognizer.load(tiny_checkpoint)
    assert all(recognizer(*audio.read(clip.path)).digit == clip.digit for clip in corpus.clips)
    Recorder(folder, "ann")(word_of(path), Heard(1.0, 1.4, 3, 0.4, False, "not sure", 210.0, 4.0))
    assert [path.name for path in (tmp_path / "mine_rejected").iterdir()] == ["not-sure_6.wav"]
    with pytest.raises(ValueError, match="speaker must consist of letters and digits, got a_b"):
        Recorder(folder, "a_b")


def word_of(path: Path) -> Word:
    waveform, sample_rate = audio.read(path)
    return next(iter(Segmenter(sample_rate).feed(waveform)))
