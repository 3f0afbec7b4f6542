"""The one import of torchaudio, guarded.

torchaudio 2.11 loads a compiled extension that wants CUDA libraries, so beside a CPU-only torch (or one built for another
CUDA) its import fails. Everything used here is pure Python and works without the extension, so on that failure it is
imported again with the extension marked as absent, the state torchaudio itself provides for source builds.
"""

import sys
import types


def _import_without_extension() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
        del sys.modules[name]

    def fail_if_no_align(function):  # type: ignore[no-untyped-def]
        def refuse(*args: object, **kwargs: object) -> None:
            raise RuntimeError(f"torchaudio's {function.__name__} needs its compiled extension")

        return refuse

    extension = types.ModuleType("torchaudio._extension")
    extension._IS_TORCHAUDIO_EXT_AVAILABLE = False  # type: ignore[attr-defined]
    extension._IS_ALIGN_AVAILABLE = False  # type: ignore[attr-defined]
    extension.fail_if_no_align = fail_if_no_align  # type: ignore[attr-defined]
    sys.modules["torchaudio._extension"] = extension
    import torchaudio  # noqa: F401


try:
    import torchaudio
except (OSError, RuntimeError):
    _import_without_extension()
    import torchaudio

__all__ = ["torchaudio"]
