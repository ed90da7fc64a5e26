"""The commands of every page run, on small images with a small network, or stand in a table with the reason.

Commands are the lines of blocks of code that begin with one of `PROGRAMS`; the table is in CONTRIBUTING.md. A page is
walked through from its first command to its last, in a folder of its own with the images and checkpoints that it
speaks of.
"""

import functools
import re
import shlex
import shutil
import subprocess

import pytest

from tests.pictures import write_folder
from tests.scripts import ROOT, call
from tests.test_documents import PAGES, content
from training import embedded

PROGRAMS = (
    *(
        "python3.11",
        "python3",
        "python",
        "pip",
        "make",
        ".ci/run",
        "apt-get",
        "mkdir",
        "cp",
        "ln",
        "mv",
        "for",
        "printf",
    ),
    *("ray", "sbatch", "smile-finetune", "../gpu/bin/pip", "../gpu/bin/python"),
)
STARTS = re.compile(
    rf"(?:\$ )?((?:[A-Z_]+=\S+ |\S+=\$\()?(?:{'|'.join(map(re.escape, PROGRAMS))})\b.*|\w+=(?:\$\(.*|\S+))"
)
SHELL = ("mkdir ", "cp ", "ln ", "mv ", "for ")  # what a shell runs in the folder of the page
SMALL = "--batch_size 4 --batch_size_eval 8 --max_iters 2 --eval_frequency 2 --lr_drop 1 --gpu -1 --overwrite"
NETWORK = "--model_arch resnet8 --image_size 16 --pretrained source.pdparams --max_iters 2"
EMBEDDED = ("python finetune.py --regularizer smile --gpu -1", "--max_iters 300 --eval_frequency 25", "greek_l2_Last")
MADE_BEFORE = ("demo_smile_Last", "demo_smile_Best", "pets_smile_Last", "pets_smile_Best", "greek_l2_Last")


def lines(page):
    """Yield the commands of a page: lines of its blocks of code that begin with a program, joined where they go on."""
    for language, fenced, indented in re.findall(
        r"^```(\w*)\n(.*?)^```|((?:^    [^\n]*\n)+)", content(page) + "\n", re.S | re.M
    ):
        if language not in ("python", "yaml", "json"):
            block = re.sub(r"\\\n\s*", " ", fenced or indented)
            block = re.sub(
                r"^(\s*for .*?)^\s*done",
                lambda m: m[1].replace("do\n", "do ").replace("\n", "; ") + "done",
                block,
                flags=re.S | re.M,
            )
            yield from (found[1].strip() for found in map(STARTS.fullmatch, map(str.strip, block.split("\n"))) if found)


@functools.lru_cache
def not_run():
    """Return the table of the commands that are left out: the words that stand in them, and why."""
    section = content(ROOT / "CONTRIBUTING.md").partition("## Commands of the pages that are not run")[2]
    return dict(re.findall(r"^\| `(.*?)` \| (.*?) \|$", section, re.MULTILINE))


def left_out(command):
    """Return the row of the table that a command is of, or None."""
    return next((row for row in not_run() if re.search(rf"(?<![a-z]){re.escape(row)}(?![a-z])", command)), None)


def commands(page):
    """Return the commands of a page that run here."""
    return [command for command in lines(page) if not left_out(command)]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A folder with everything that pages speak of."""
    folder, patch = tmp_path_factory.mktemp("shelf"), pytest.MonkeyPatch()
    for name, count in (
        ("dataset/train", 8),
        ("dataset/test", 3),
        ("pets/train", 8),
        ("pets/eval", 3),
        ("pets/test", 3),
    ):
        write_folder(folder / name, count=count, seed=len(name))
    for name in ("photos", "new_photos", "no_pets"):
        write_folder(folder / name, classes=("",), count=3)
    for split, count in (("train", 4), ("test", 2)):
        kinds = [f"{number:03d}.kind" for number in range(1, 23)]
        write_folder(folder / "dataset/stamps" / split, classes=kinds, count=count, size=(18, 16))
    for path in [*folder.glob("dataset/train/*/*")]:
        path.rename(path.with_name(f"rex{int(path.stem) // 2}_{path.name}"))
    rows = [f"train/{name}/{i:03d}.png,{name},{name}{i // 2}" for name in ("cat", "dog", "emu") for i in range(8)]
    (folder / "pets.csv").write_text("\n".join(["path,label,animal", *(f"pets/{row}" for row in rows)]))
    for name in ("train", "val", "test"):
        (folder / f"pets/{name}.csv").write_text(
            "\n".join(["path,label", *(f"pets/{row.rpartition(',')[0]}" for row in rows)])
        )
    (folder / "recipes").symlink_to(ROOT / "recipes")
    (folder / "pets/images").symlink_to(folder)
    (folder / "dataset/cub").symlink_to(folder / "pets")
    patch.setitem(embedded.SOURCE_OPTIONS, "--max_iters", 4)
    patch.setitem(embedded.SOURCE_OPTIONS, "--eval_frequency", 4)
    patch.chdir(folder)
    network = NETWORK.replace("source.pdparams", "none")
    run(
        "python finetune.py --regularizer l2 --name source --train_dir pets/train --eval_dir pets/test", folder, network
    )
    shutil.copy(folder / "output/source_l2_Last.pdparams", folder / "source.pdparams")
    run("python finetune.py --train_dir pets/train --eval_dir pets/test --name pets", folder)
    run("python finetune.py --name demo", folder / "greek", network="")
    yield folder
    patch.undo()


def run(command, folder, network=NETWORK):
    """Run a command of this project in `folder`, small, with `network`; of recipes only the list of runs is made."""
    folder.mkdir(exist_ok=True)
    words = shlex.split(command.partition(" > ")[0], comments=True)[1:]
    script, *flags = [word for word in words if word != "..."]
    if script == "finetune.py":
        flags = [word.replace("6m", "1s") for word in flags] + f"{network} {SMALL}".split()
        if "--time" in flags:
            flags = [word for before, word in zip(["", *flags], flags) if "--max_iters" not in (before, word)]
    elif script == "reproduce.py":
        flags += ["--dry_run", "--gpus", "-1"]
    elif script in ("test.py", "predict.py") and "--gpu" not in flags:
        flags += ["--gpu", "-1"]
    if "--onnx" in flags:  # another test exports it, where the package is installed
        flags.remove("--onnx")
    script = f"{flags.pop(0).replace('.', '/')}.py" if script == "-m" else script
    done = call(script, *flags, cwd=folder)
    refused = "exit code 2" in command or "no threshold reaches it" in done.stderr  # two updates promise nothing
    assert done.returncode == (2 if refused else 0), (command, done)


@pytest.mark.usefixtures("no_curves")
@pytest.mark.parametrize("page", [*filter(commands, PAGES)], ids=lambda page: page.stem)
def test_commands_run_in_their_order(page, shelf, tmp_path):
    for each in shelf.iterdir():
        if each.name not in ("output", "greek", "cache"):
            (tmp_path / each.name).symlink_to(each)
    of_letters = page.stem == "everyday"
    shutil.copytree(shelf / "greek/cache", tmp_path / "cache", symlinks=True)
    for made in MADE_BEFORE:
        place = tmp_path / "output" / f"{made}.pdparams"
        place.parent.mkdir(exist_ok=True)
        letters = of_letters or made.startswith("greek")
        shutil.copy(shelf / f"{'greek/output/demo' if letters else 'output/pets'}_smile_Last.pdparams", place)
    assignments = ""
    for command in commands(page):
        if command.startswith(SHELL):
            if "mkdir photos" in command:
                (tmp_path / "photos").unlink()
            subprocess.run(["bash", "-ec", assignments + command], cwd=tmp_path, check=True)
        elif re.match(r"\w+=", command):
            assignments += f"{command}\n"
        else:
            if "$" in command:
                expanded = subprocess.run(
                    ["bash", "-ec", f"{assignments}printf '%q ' {command}"],
                    cwd=tmp_path,
                    check=True,
                    capture_output=True,
                )
                command = expanded.stdout.decode()
            on_letters = of_letters or any(part in command for part in EMBEDDED)
            data = tmp_path / "dataset"
            if on_letters and data.is_symlink():
                data.unlink()
            elif not on_letters and not data.exists():
                data.symlink_to(shelf / "dataset")
            run(command, tmp_path, network="" if on_letters else NETWORK)


def test_the_table_names_what_is_there():
    every = [command for page in PAGES for command in lines(page)]
    assert len(every) > 100
    assert {left_out(command) for command in every} - {None} == {*not_run()}
