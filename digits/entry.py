"""What the Hydra programs share: where the configs are, and a user's mistake that ends in one line instead of a traceback."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

_CLONED, _INSTALLED = Path(__file__).parent.parent / "conf", Path(__file__).parent / "conf"
CONF = str(_INSTALLED if _INSTALLED.is_dir() else _CLONED)


def run(main: Callable[[], object], program: str) -> None:
    """Run a Hydra program; ``HYDRA_FULL_ERROR=1`` shows tracebacks of mistakes too. Faults of ours always show theirs."""
    show_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints its own shortened traceback and exits
    try:
        main()
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        sys.exit(130)
    except (HydraException, OmegaConfBaseException, ValueError, OSError) as error:
        if show_traceback:
            raise
        sys.exit(f"{program}: {explain(error)}")


def explain(error: BaseException) -> str:
    """The message of the error at the root, on one line: Hydra wraps what a constructor raises."""
    while isinstance(error, HydraException) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, ConfigKeyError | ConfigAttributeError) and error.full_key:
        return f"there is no setting {error.full_key}"
    return " ".join(str(error).split())
