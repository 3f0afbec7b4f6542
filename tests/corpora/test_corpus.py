from itertools import combinations
from pathlib import Path

import pytest
import soundfile
from support import spoken, write_corpus

from digits.corpora import corpus
from digits.corpora.corpus import Clip
from digits.corpora.folder import read_folder


def fsdd_like_clips() -> list[Clip]:
    speakers = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
    names = [(d, s, t) for d in range(10) for s in speakers for t in range(50)]
    return [Clip(Path("x"), f"{d}_{s}_{t}.wav", d, s, t, "", t // 5) for d, s, t in names]


SPLITS = [
    ("official", 0, ()),
    *(("take_fold", fold, ()) for fold in range(10)),
    ("speaker", 0, ("george",)),
    ("speaker", 0, ("lucas", "yweweler")),
]


@pytest.mark.parametrize(("split", "fold", "speakers"), SPLITS)
def test_no_clip_is_in_two_parts_and_none_is_lost(split: str, fold: int, speakers: tuple[str, ...]) -> None:
    clips = fsdd_like_clips()
    parts = corpus.divide(clips, split, fold, speakers)
    for one, other in combinations((parts.train, parts.val, parts.test), 2):
        assert not set(one) & set(other)
    assert sorted(parts.train + parts.val + parts.test) == list(range(3000))
    assert parts.train
    assert parts.val


def test_official_parts_are_the_published_takes() -> None:
    clips = fsdd_like_clips()
    parts = corpus.divide(clips, "official")
    assert {clips[i].take for i in parts.test} == set(range(5))
    assert {clips[i].take for i in parts.val} == set(range(5, 10))
    assert {clips[i].take for i in parts.train} == set(range(10, 50))
    assert [len(part) for part in (parts.train, parts.val, parts.test)] == [2400, 300, 300]


def test_folds_test_every_clip_once() -> None:
    clips = fsdd_like_clips()
    tested = [i for fold in range(10) for i in corpus.divide(clips, "take_fold", fold).test]
    assert sorted(tested) == list(range(3000))


def test_speaker_split_holds_the_speaker_out_whole() -> None:
    clips = fsdd_like_clips()
    parts = corpus.divide(clips, "speaker", test_speakers=["theo"])
    assert {clips[i].speaker for i in parts.test} == {"theo"}
    assert len(parts.test) == 500
    assert "theo" not in {clips[i].speaker for i in parts.train + parts.val}


def test_test_only_tests_everything() -> None:
    parts = corpus.divide(fsdd_like_clips(), "test_only")
    assert (parts.train, parts.val, len(parts.test)) == ([], [], 3000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "random"}, "data.split must be one of official"),
        ({"split": "take_fold", "fold": 10}, "data.fold must be 0 to 9, got 10"),
        ({"split": "speaker"}, "data.test_speakers must name some of george"),
        ({"split": "speaker", "test_speakers": ["nobody"]}, "nobody"),
        ({"split": "speaker", "test_speakers": ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"]}, "none to train on"),
    ],
)
def test_mistakes_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        corpus.divide(fsdd_like_clips(), **arguments)


def test_a_part_that_would_be_empty_is_an_error() -> None:
    few = [clip for clip in fsdd_like_clips() if clip.take < 5]
    with pytest.raises(ValueError, match=r"leaves no clips for train.*test_only"):
        corpus.divide(few, "official")


def test_reads_nested_folders_and_all_formats(tmp_path: Path) -> None:
    for name in ("a/7_ann_0.wav", "b/c/3_bob_smith_12.flac", "0_carl_1.ogg", "9_dora_2.mp3"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / name, spoken(1, 0, 0), 8000)
    (tmp_path / "notes.txt").write_text("not a recording")
    (tmp_path / "._7_ann_0.wav").write_text("what macOS leaves on foreign disks")
    found = [(clip.name, clip.digit, clip.speaker, clip.take) for clip in read_folder(tmp_path, "mine").clips]
    assert found == [
        ("0_carl_1.ogg", 0, "carl", 1),
        ("9_dora_2.mp3", 9, "dora", 2),
        ("a/7_ann_0.wav", 7, "ann", 0),
        ("b/c/3_bob_smith_12.flac", 3, "bob_smith", 12),
    ]


@pytest.mark.parametrize("name", ["seven.wav", "12_ann_0.wav", "7_ann.wav", "x_ann_0.wav", "7__0.wav", "\u0667_ann_0.wav"])
def test_a_name_that_does_not_parse_is_named(tmp_path: Path, name: str) -> None:
    write_corpus(tmp_path, takes=1)
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=rf"{name}: a recording must be named"):
        read_folder(tmp_path, "mine")


def test_empty_and_missing_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no recordings named like 7_george_0"):
        read_folder(tmp_path, "mine")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        read_folder(tmp_path / "none", "mine")


def test_other_words_are_labelled_as_no_digit_and_rejected_where_digits_are_expected(tmp_path: Path) -> None:
    clip = tmp_path / "none_ann_3.wav"
    clip.touch()
    (found,) = read_folder(tmp_path, "words", others=True).clips
    assert (found.digit, found.speaker, found.take) == (corpus.NO_DIGIT, "ann", 3)
    with pytest.raises(ValueError, match=r"none_ann_3\.wav: a recording must be named"):
        read_folder(tmp_path, "words")


def test_formats_that_cannot_be_read_are_named_with_what_helps(tmp_path: Path) -> None:
    for name in ("7_ann_0.m4a", "b/7_ann_1.WMA"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    hint = r"left out 7_ann_0\.m4a and 1 more, whose format cannot be read; .*: ffmpeg -i \S+/7_ann_0\.m4a \S+/7_ann_0\.wav"
    with pytest.raises(ValueError, match=f"no recordings named like .* in this folder; {hint}"):
        read_folder(tmp_path, "mine")
    soundfile.write(tmp_path / "9_ann_0.wav", spoken(9, 0, 0), 8000)
    with pytest.warns(UserWarning, match=hint):
        assert len(read_folder(tmp_path, "mine").clips) == 1


def test_a_converted_recording_may_lie_beside_its_original(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    soundfile.write(tmp_path / "7_ann_0.wav", spoken(7, 0, 0), 8000)
    (tmp_path / "7_ann_0.m4a").touch()
    assert len(read_folder(tmp_path, "mine").clips) == 1
    assert not recwarn.list


def test_any_folder_name_will_do(tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "Hörbar [2] a=b & c", takes=1, speakers=("jürgen",))
    assert {clip.speaker for clip in read_folder(root, "mine").clips} == {"jürgen"}


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    write_corpus(tmp_path / "elsewhere", takes=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "link").symlink_to(tmp_path / "elsewhere")
    clips = read_folder(tmp_path / "mine", "mine").clips
    assert len(clips) == 20
    assert clips[0].name == "link/0_ann_0.wav"
