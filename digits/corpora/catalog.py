"""The table of all corpora.

A new one is a module beside this, an entry in :data:`CORPORA`, and ``conf/data/NAME.yaml`` for ``data=NAME`` on the command line.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from digits.corpora import audiomnist, espeak, folder, fsdd, kokoro, speech_commands
from digits.corpora.corpus import Corpus


@dataclass(frozen=True)
class Source:
    """Where a corpus comes from.

    Args:
        load: takes ``data.root`` (None: wherever the corpus usually is) and returns the corpus.
        credit: who made the recordings, and their licence; the card of a model that was trained on them shows it.
        is_synthetic: its voices are a synthesiser's; models trained on it come last where the best one is chosen.
        may_change: it belongs to the user, who may add recordings between runs: an earlier result stands only for the same ones.
    """

    load: Callable[[str | None], Corpus]
    credit: str
    is_synthetic: bool = False
    may_change: bool = False


def _synthetic(maker: Any, name: str, root: str | None) -> Corpus:
    return maker.load(name)


SPEECH_COMMANDS = "Speech Commands v0.02 by Pete Warden and Google (arXiv 1804.03209), CC BY 4.0"
ESPEAK = "made with espeak-ng, which is GPL-3.0"
KOKORO = "made with Kokoro-82M by hexgrad, which is Apache-2.0, spelled by espeak-ng"

CORPORA = {
    "fsdd": Source(fsdd.load, "Free Spoken Digit Dataset v1.0.10 by Zohar Jackson and others, CC BY-SA 4.0"),
    "speech_commands": Source(speech_commands.load, SPEECH_COMMANDS),
    "speech_commands_subset": Source(partial(speech_commands.load, subset=True), SPEECH_COMMANDS),
    "audiomnist": Source(audiomnist.load, "AudioMNIST by Sören Becker and others (arXiv 1807.03418), MIT"),
    "folder": Source(folder.load, "the user's own", may_change=True),
    **{name: Source(partial(_synthetic, espeak, name), ESPEAK, is_synthetic=True) for name in espeak.RECIPES},
    **{name: Source(partial(_synthetic, kokoro, name), KOKORO, is_synthetic=True) for name in kokoro.RECIPES},
}


def get(source: str) -> Source:
    """The entry of that name.

    Raises:
        ValueError: there is none.
    """
    if source not in CORPORA:
        raise ValueError(f"data.source must be one of {', '.join(CORPORA)}, got {source}")
    return CORPORA[source]
