"""Write a model as one ONNX file that runs without torch: ``digits export ckpt_path=... out=live.onnx``."""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from digits import audio, cli


def main() -> None:
    cli.run(job, "digits export")


@hydra.main(version_base="1.3", config_path=cli.CONF, config_name="export")
def job(cfg: DictConfig) -> None:
    try:
        write(cfg)
    except (ValueError, OSError) as error:
        sys.exit(f"digits export: {cli.explain(error)}")


def write(cfg: DictConfig) -> None:
    """Export, check on recordings, and only then write.

    Raises:
        ValueError, OSError: there is no such model, recording or folder, or the file's probabilities differ from the model's.
    """
    from digits.corpora import fsdd
    from digits.corpora.corpus import read_folder
    from digits.recognition import onnx_export, torch_models
    from digits.training import runs

    trained = torch_models.load(cfg.ckpt_path)
    clips = (read_folder(cfg.root, "recordings") if cfg.root else fsdd.load()).clips
    recordings = [audio.read(clip.path) for clip in clips[:: max(1, len(clips) // cfg.clips)]]
    content, difference = onnx_export.export(trained, Path(cfg.ckpt_path).name, runs.git_commit(), recordings)
    out = Path(cfg.out).expanduser()
    out.write_bytes(content)
    print(f"{out}: {len(content):,} bytes; {len(recordings)} recordings differ by at most {difference:.1e}")


if __name__ == "__main__":
    main()
