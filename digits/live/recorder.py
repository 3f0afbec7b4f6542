"""Keeps what was heard as a corpus of recordings."""

from pathlib import Path

from digits.live.listener import Heard
from digits.live.segmenter import Word


class Recorder:
    """Saves accepted digits as ``FOLDER/{digit}_{speaker}_{n}.wav``, a corpus for ``data=folder``, and rejected sounds in
    ``FOLDER_rejected``.

    The digits in the names are the recogniser's answers: listen to the recordings before you train on them.

    Raises:
        ValueError: the speaker's name holds anything but letters and digits.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: str | Path, speaker: str) -> None:
        if not speaker.isalnum():
            raise ValueError(f"speaker must consist of letters and digits, got {speaker}")
        self.folder, self.speaker = Path(folder).expanduser(), speaker
        self.rejected = self.folder.with_name(f"{self.folder.name}_rejected")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._taken = 1 + max((int(path.stem.split("_")[-1]) for path in self._saved()), default=-1)

    def _saved(self) -> list[Path]:
        return [
            path
            for folder, pattern in ((self.folder, f"?_{self.speaker}_*.wav"), (self.rejected, "*.wav"))
            for path in folder.glob(pattern)
            if path.stem.split("_")[-1].isdigit()
        ]

    def __call__(self, word: Word, heard: Heard) -> None:
        import soundfile

        if heard.accepted:
            path = self.folder / f"{heard.digit}_{self.speaker}_{self._taken}.wav"
        else:
            assert heard.reason is not None
            self.rejected.mkdir(exist_ok=True)
            path = self.rejected / f"{heard.reason.replace(' ', '-')}_{self._taken}.wav"
        soundfile.write(path, word.waveform, word.sample_rate, subtype="PCM_16")
        self._taken += 1
