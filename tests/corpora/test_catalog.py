from pathlib import Path

import pytest
from support import write_corpus

from digits import cli
from digits.corpora import catalog, espeak, fsdd, kokoro
from digits.corpora.corpus import Corpus


def test_every_source_of_a_config_is_in_the_table() -> None:
    named = {path.stem for path in Path(cli.CONF, "data").glob("*.yaml")} - {"default", "shards"}
    assert named <= set(catalog.CORPORA)
    assert {*espeak.RECIPES, *kokoro.RECIPES} <= set(catalog.CORPORA)


def test_synthetic_voices_and_the_user_s_own_recordings_are_marked() -> None:
    assert {name for name, source in catalog.CORPORA.items() if source.is_synthetic} == {*espeak.RECIPES, *kokoro.RECIPES}
    assert {name for name, source in catalog.CORPORA.items() if source.may_change} == {"folder"}


def test_an_entry_loads_its_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak, "load", lambda name: Corpus(name, []))
    monkeypatch.setattr(kokoro, "load", lambda name: Corpus(name, []))
    for name in (*espeak.RECIPES, *kokoro.RECIPES):
        assert catalog.get(name).load(None).name == name
    root = write_corpus(tmp_path / "clips", takes=1)
    assert len(catalog.get("folder").load(str(root)).clips) == 20
    with pytest.raises(ValueError, match=r"not the recordings of FSDD v1\.0\.10"):
        catalog.get("fsdd").load(str(root))
    assert catalog.get("fsdd").load is fsdd.load


def test_an_unknown_source_is_named() -> None:
    with pytest.raises(ValueError, match=r"data\.source must be one of fsdd, .*, folder, espeak, .*, got tape"):
        catalog.get("tape")
