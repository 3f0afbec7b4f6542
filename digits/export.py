"""Write a model as one ONNX file that runs without torch: ``digits export ckpt_path=... out=mine.onnx``."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from digits import audio, cli, settings
from digits.files import write_whole


def main() -> None:
    cli.run(job, "digits export")


@hydra.main(version_base="1.3", config_path=cli.CONF, config_name="export")
def job(cfg: DictConfig) -> None:
    write(cfg)


def write(cfg: DictConfig) -> None:
    """Export, check on recordings, and only then write.

    Raises:
        ValueError, OSError: an impossible setting; there is no such model, recording or folder; the file's probabilities differ
            from the model's; or the file cannot be written.
    """
    settings.check(cfg, settings.EXPORT)
    from digits.corpora import fsdd
    from digits.corpora.folder import read_folder
    from digits.recognition import onnx_export, torch_models
    from digits.recognition.model_files import PRETRAINED
    from digits.training import runs

    if cfg.ckpt_path != PRETRAINED and Path(cfg.ckpt_path).suffix not in (".ckpt", ".npz"):
        raise ValueError(f"ckpt_path must be {PRETRAINED}, or a .ckpt or .npz file, got {cfg.ckpt_path}")
    trained = torch_models.load(cfg.ckpt_path)
    clips = (read_folder(str(cfg.root), "recordings") if cfg.root is not None else fsdd.load()).clips
    recordings = [audio.read(clip.path) for clip in clips[:: max(1, len(clips) // cfg.clips)]]
    content, difference = onnx_export.export(trained, Path(cfg.ckpt_path).name, runs.git_commit(), recordings)
    out = Path(cfg.out).expanduser()
    try:
        write_whole(out, content)
    except OSError as error:
        raise OSError(f"{out}: not written ({error.strerror})") from error
    print(f"{out}: {len(content):,} bytes; {len(recordings)} recordings differ by at most {difference:.1e}")


if __name__ == "__main__":
    main()
