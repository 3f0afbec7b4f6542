from pathlib import Path

import pytest
from support import write_corpus

from digits.corpora import folder


def test_the_corpus_is_named_after_its_folder(tmp_path: Path) -> None:
    write_corpus(tmp_path / "mine", takes=1)
    corpus = folder.load(str(tmp_path / "mine"))
    assert corpus.name == "folder-mine"
    assert len(corpus.clips) == 20


def test_a_folder_must_be_named_and_exist(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.root=FOLDER"):
        folder.load(None)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        folder.load(str(tmp_path / "none"))
