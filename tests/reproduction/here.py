"""reproduce.py whose runs are made in this process, one after the other: a second each, and a crash can be planned."""

from __future__ import annotations

from pathlib import Path

import paddle

import reproduce
from models import build
from reproduction import budget, scheduler
from tests.pictures import write_folder
from tests.scripts import call

OPTIONS = """
threads: 1
options:
  model_arch: resnet8
  image_size: 32
  pretrained: "{data_root}/source.pdparams"
  max_iters: 4
  batch_size: 8
  batch_size_eval: 16
  eval_frequency: 4
  save_frequency: 1
"""


def write(folder: Path, recipe: str, count: int = 6) -> None:
    """Write images, weights, and `recipe`, whose last lines are `OPTIONS`, as pets.yaml."""
    write_folder(folder / "dataset" / "pets" / "train", count=count)
    write_folder(folder / "dataset" / "pets" / "test", count=4, seed=1)
    paddle.seed(0)
    paddle.save(build("resnet8", 5).state_dict(), str(folder / "dataset" / "source.pdparams"))
    (folder / "pets.yaml").write_text(recipe + OPTIONS)


class Here:
    """What the pool asks of a `Popen`, done when it is made; `commands` has what was run, in order."""

    def __init__(self, command, stderr, **_):
        place = next(i for i, word in enumerate(command) if word.endswith(".py"))
        words = command[place + 1 :]
        self.commands.append([Path(command[place]).name, *words])
        done = call(Path(command[place]).name, *words, cwd=".")
        stderr.write(done.stderr.encode())
        self.code = done.returncode

    def poll(self):
        """Return the exit code."""
        return self.code

    def kill(self):
        """Do nothing: it has ended."""

    wait = kill


def install(monkeypatch) -> list[list[str]]:
    """Make the pool of this process use `Here`, and time no network; return where its commands go."""
    commands: list[list[str]] = []
    popen = type("Popen", (Here,), {"commands": commands})
    monkeypatch.setattr(scheduler, "subprocess", type("subprocess", (), {"DEVNULL": None, "Popen": popen}))
    monkeypatch.setattr(scheduler, "PAUSE", 0)
    monkeypatch.setattr(budget, "measure", lambda *network: None)
    return commands


def reproduced(*words: str) -> int:
    """Call reproduce.py's main for pets.yaml on the CPU; return its exit code."""
    return reproduce.main(["pets.yaml", "--gpus", "-1", *words])
