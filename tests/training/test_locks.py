import subprocess
import sys
from pathlib import Path

import pytest
from support import shell, tiny_run

from digits.train import train
from digits.training.locks import BusyError, lock

HOLDER = """
import sys
from pathlib import Path
from digits.training.locks import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(folder: Path) -> "subprocess.Popen[str]":
    """Another process that holds a folder until it is killed or its input ends."""
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_second_process_is_refused_until_the_first_has_ended_even_by_kill(tiny_corpus: Path, tmp_path: Path) -> None:
    holder = hold(tmp_path / "run")
    with pytest.raises(BusyError, match="run: another process is at work in this folder; wait for it"):
        train(tiny_run(tiny_corpus, tmp_path / "run", "trainer=smoke"))
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
    holder.kill()
    holder.communicate()
    with lock(tmp_path / "run"):
        pass
    assert list((tmp_path / "run").iterdir()) == []


def test_a_second_sweep_in_a_folder_is_refused_in_one_sentence(tiny_corpus: Path, tmp_path: Path) -> None:
    holder = hold(tmp_path / "sweep")
    done = shell("train", "-m", "seed=0,1", "data=folder", f"data.root={tiny_corpus}", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    holder.communicate("")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"digits train: {tmp_path / 'sweep'}: another process is at work")
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "sweep").rglob("last.ckpt"))
