"""The table of all corpora.

A new one is a module beside this, an entry in :data:`CORPORA`, and ``conf/data/NAME.yaml`` for ``data=NAME`` on the command line.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from digits.corpora import audiomnist, espeak, folder, fsdd, kokoro, speech_commands
from digits.corpora.corpus import Corpus


@dataclass(frozen=True)
class Source:
    """Where a corpus comes from.

    Args:
        load: takes ``data.root`` (None: wherever the corpus usually is) and returns the corpus.
        is_synthetic: its voices are a synthesiser's; models trained on it come last where the best one is chosen.
        may_change: it belongs to the user, who may add recordings between runs, so that no earlier result stands for a new one.
    """

    load: Callable[[str | None], Corpus]
    is_synthetic: bool = False
    may_change: bool = False


CORPORA = {
    "fsdd": Source(fsdd.load),
    "speech_commands": Source(speech_commands.load),
    "speech_commands_subset": Source(partial(speech_commands.load, subset=True)),
    "audiomnist": Source(audiomnist.load),
    "folder": Source(folder.load, may_change=True),
    **{name: Source(lambda root, name=name: espeak.load(name), is_synthetic=True) for name in espeak.RECIPES},  # type: ignore[misc]
    **{name: Source(lambda root, name=name: kokoro.load(name), is_synthetic=True) for name in kokoro.RECIPES},  # type: ignore[misc]
}


def get(source: str) -> Source:
    """The entry of that name.

    Raises:
        ValueError: there is none.
    """
    if source not in CORPORA:
        raise ValueError(f"data.source must be one of {', '.join(CORPORA)}, got {source}")
    return CORPORA[source]
