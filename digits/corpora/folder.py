"""Your own recordings: a folder of ``{digit}_{speaker}_{n}.wav|flac|ogg|mp3``."""

from pathlib import Path

from digits.corpora.corpus import Corpus, read_folder


def load(root: str | None) -> Corpus:
    """The recordings in ``root`` and its subfolders.

    Raises:
        ValueError: no folder was named, or it holds no recordings or one whose name cannot be parsed.
        FileNotFoundError: there is no such folder.
    """
    if root is None:
        raise ValueError("data=folder needs data.root=FOLDER, the folder with your recordings")
    return read_folder(root, f"folder-{Path(root).resolve().name}")
