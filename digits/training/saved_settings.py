"""The settings that a run was started with: kept in its folder, and used again when only its checkpoint is given to resume it."""

import re
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from digits import cli, settings

FOLDER = ".hydra"  # Hydra itself would write it before anything is checked
GROUPS = (
    "experiment",
    "data",
    "conditions",
    "augment",
    "model",
    "trainer",
    "logger",
    "callbacks",
    "hparams_search",
    "debug",
    "sweep",
)
NAMES = {pattern.partition(".")[0] for pattern in settings.TRAIN}


def write(cfg: DictConfig, run_dir: Path) -> None:
    """Save the settings of the current Hydra job, if there is one, in Hydra's own files and formats."""
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return
    hydra = HydraConfig.get()
    (run_dir / FOLDER).mkdir(parents=True, exist_ok=True)
    for name, content in {"config": cfg, "overrides": hydra.overrides.task, "hydra": OmegaConf.create({"hydra": hydra})}.items():
        OmegaConf.save(content, run_dir / FOLDER / f"{name}.yaml")


def complete(arguments: list[str]) -> list[str]:
    """Complete the command line of a run that is resumed or evaluated.

    A resumed run continues in its own folder with its own settings, except for those given again. An evaluation gets a folder named
    after the run that is evaluated.

    Raises:
        ValueError: the run's settings cannot be read, or hold more than settings of ``digits train``.
    """
    given = _values(arguments)
    ckpt_path = given.get("ckpt_path")
    if not isinstance(ckpt_path, str) or not ckpt_path or "hydra.run.dir" in given:
        return arguments
    run_dir = Path(ckpt_path).expanduser().parent
    if given.get("fit", True) is False:
        name = re.sub(r"^[\d-]+_[\d-]+_", "", run_dir.name) + (f"_on_{given['data']}" if "data" in given else "")
        folder = f"outputs/evaluations/{datetime.now():%Y-%m-%d_%H-%M-%S}_{name}"
        return [*arguments, f"hydra.run.dir={cli.quoted(folder)}"]
    path = run_dir / FOLDER / "overrides.yaml"
    if given.get("fit", True) is not True or not path.is_file():
        return arguments
    earlier = [setting for setting in _read(path) if _key(setting) not in {*given, "ckpt_path", "resume"}]
    mode = ["hydra.mode=RUN"] if any(_key(setting) in ("sweep", "hparams_search") for setting in earlier) else []
    return [*earlier, *arguments, f"hydra.run.dir={cli.quoted(str(run_dir))}", *mode]


def _values(arguments: list[str]) -> dict[str, Any]:
    """Name -> value, as Hydra reads them; empty if it cannot, as Hydra will then say itself."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    try:
        overrides = OverridesParser.create().parse_overrides(arguments)
    except OverrideParseException:
        return {}
    return {override.key_or_group: override.value() for override in overrides}


def _key(setting: str) -> str:
    return setting.partition("=")[0].lstrip("+~")


def _read(path: Path) -> list[str]:
    """The settings in a run's folder, if they are plain.

    The folder may be somebody else's, and a ``_target_`` would make Hydra call any function it names.
    """
    try:
        saved: Any = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:  # yaml has a class of its own for each fault
        raise ValueError(
            f"{path}: not readable as the settings of a run; without this file, give them on the command line"
        ) from error
    for setting in saved if isinstance(saved, list) else [saved]:
        if not isinstance(setting, str) or not _is_plain(setting):
            raise ValueError(
                f"{path}: holds {setting}, which is not taken from a file: delete it there, or give it on the command line"
            )
    return list(saved)


def _is_plain(setting: str) -> bool:
    key, value = _key(setting), setting.partition("=")[2]
    if "_target_" in setting or re.search(r"\$\{[^}]*:", setting) or not re.fullmatch(r"[\w./-]+", key) or key.startswith("-"):
        return False
    return bool(re.fullmatch(r"[\w-]*|\[[\w,-]*\]", value)) if key in GROUPS else key.partition(".")[0] in NAMES
