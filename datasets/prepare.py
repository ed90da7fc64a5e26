"""Turn the official archives of a data set into the folders train/ and test/ of class folders.

python -m datasets.prepare cub --archive CUB_200_2011.tgz --out dataset/cub
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import IO

from datasets.archives import folder_files, tar_files
from datasets.official import DATA_SETS
from datasets.official.base import Counts, DataSet
from datasets.official.building import building, finished, write_record
from datasets.official.tree import Tree, save
from utils.bars import progress_bar
from utils.commandline import Parser
from utils.errors import DataError, UsageError, names, run
from utils.files import digest

LINKS = ("hard", "copy", "symlink")
OWNERS = {data_set.transform.flag: name for name, data_set in DATA_SETS.items() if data_set.transform}


def main(argv: list[str] | None = None) -> int:
    """Read the command line, check the archives and build the folders, unless they are complete already.

    Raises:
        UsageError: the options contradict one another, or --out was not made by this command.
        DataError: an archive, list or count is wrong; the unfinished folder is removed.
    """
    options = _options(argv)
    data_set = DATA_SETS[options.data_set]
    if not options.archive:
        print(data_set.to_fetch())
        raise UsageError("--archive is missing: the files above, or the folder that they were unpacked in")
    out = Path(os.path.abspath(options.out))
    record = _finished(out, options)
    if record is None:
        sums = _check(data_set, options)
        with building(out) as partial:
            record = _build(data_set, partial, options, sums)
        print(f"{options.out}: made")
    else:
        print(f"{options.out}: complete already, nothing was done")
    print(Counts(**record["counts"]))
    return 0


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m datasets.prepare", description=__doc__.split("\n")[0])
    parser.add_argument("data_set", choices=tuple(DATA_SETS))
    parser.add_argument("--archive", nargs="+", type=Path, action="extend", metavar="FILE", help="the official "
                        "archives and lists, or where they were unpacked; without it: where to fetch them")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="what to make (dataset/DATA_SET)")
    parser.add_argument("--link", choices=LINKS, help="how images come out of a folder (hard)")
    for flag, owner in OWNERS.items():
        parser.add_argument(f"--{flag}", action="store_true", help=f"{owner}: {DATA_SETS[owner].transform.help}")
    parser.add_argument("--unverified", action="store_true", help="accept other sums and counts than the official ones")
    options = parser.parse_args(argv)
    options.transform = None
    for flag in filter(vars(options).get, OWNERS):
        if options.data_set != OWNERS[flag]:
            raise UsageError(f"--{flag}: not for {options.data_set}; accepted with {OWNERS[flag]}")
        if options.link:
            raise UsageError(f"--{flag} and --link: give one of them, a changed image is a new file")
        options.transform = DATA_SETS[options.data_set].transform
    if options.link and DATA_SETS[options.data_set].write:
        raise UsageError(f"--link: not for {options.data_set}, whose images are written anew")
    options.out = options.out or Path("dataset", options.data_set)
    return options


def _finished(out: Path, options: argparse.Namespace) -> dict | None:
    record = finished(out)
    if record is None:
        return None
    for option in ("data_set", *OWNERS):
        if record.get(option, False) != getattr(options, option):
            wanted = f"{record.get(option, False)}, asked for is {getattr(options, option)}"
            raise UsageError(f"--out {out} was made with {option} {wanted}; give another --out or remove it")
    if record.get("unverified") and not options.unverified:
        raise UsageError(f"--out {out} was made with --unverified; give another --out or remove it")
    return record


def _check(data_set: DataSet, options: argparse.Namespace) -> dict[str, str]:
    """Return the checksum of each archive, empty for a folder and where none is on record.

    Raises:
        UsageError: files of a release are missing, or --link is given without a folder.
        DataError: a file does not exist or is not the official one.
    """
    for path in options.archive:
        if not (path.is_file() or path.is_dir()):
            raise DataError(f"--archive {path}: no such file or folder")
    folder = any(path.is_dir() for path in options.archive)
    if options.link and not folder:
        raise UsageError("--link: accepted with a folder only, the images of an archive are written")
    if options.unverified:
        print("WARNING: --unverified: sizes and sums of the archives are not checked", file=sys.stderr, flush=True)
        return {path.name: "" for path in options.archive}
    sums = {path.name: "" if path.is_dir() else verify(data_set, path) for path in options.archive}
    if not folder:
        missing = [[file.name for file in release if file.name not in sums] for release in data_set.releases]
        if all(missing):
            wanted = names(min(missing, key=len))
            raise UsageError(f"--archive: {data_set.title} needs {wanted} too; without --archive: where to fetch it")
    return sums


def verify(data_set: DataSet, path: Path) -> str:
    """Check the size and the checksum of an archive, as far as they are on record; return the checksum.

    Raises:
        DataError: it is not a file of the data set, or another version of one.
    """
    official = data_set.files().get(path.name)
    if official is None:
        owners = [other.title for other in DATA_SETS.values() if path.name in other.files()]
        what = f"is of {owners[0]}, not" if owners else "is not an official file"
        accepted = f"accepted are {names(data_set.files(), 9)}; --unverified accepts other files"
        raise DataError(f"{path} {what} of {data_set.title}; {accepted}")
    size = path.stat().st_size
    if official.size not in (None, size):
        raise _not_official(path, f"it has {size:,} bytes instead of {official.size:,}")
    kind, wanted = ("sha256", official.sha256) if official.sha256 else ("md5", official.md5)
    if not wanted:
        print(f"{path.name}: no checksum is on record, only the counts are checked", flush=True)
        return ""
    print(f"{path.name}: checking its {kind} ({size:,} bytes)", flush=True)
    value = digest(path, kind)
    if value != wanted:
        raise _not_official(path, f"its {kind} is {value} instead of {wanted}")
    return f"{kind} {value}"


def _not_official(path: Path, reason: str) -> DataError:
    advice = "fetch it again, or accept it with --unverified"
    return DataError(f"{path} is not the official {path.name}: {reason}; {advice}")


def _build(data_set: DataSet, partial: Path, options: argparse.Namespace, sums: dict[str, str]) -> dict:
    tree = Tree(data_set, partial, options.unverified, _write(data_set, options))
    _fill(data_set, tree, options)
    notes = list(tree.notes)
    if tree.left_out:
        notes.append(f"{tree.left_out:,} images are in no list and were left out")
    if data_set.transform and not options.transform:
        notes.append(data_set.transform.note)
    for note in notes:
        print(f"note: {note}")
    record = {
        "data_set": options.data_set,
        **{flag: getattr(options, flag) for flag in OWNERS},
        "unverified": options.unverified,
        "archives": sums,
        "counts": asdict(tree.counts),
    }
    write_record(partial, record)
    return record


def _write(data_set: DataSet, options: argparse.Namespace) -> Callable[[IO[bytes], Path], None]:
    return options.transform.write if options.transform else data_set.write or save


def _fill(data_set: DataSet, tree: Tree, options: argparse.Namespace) -> None:
    """Add the lists first, so that no image waits for them; then archives, the small ones first; then folders."""
    where = names(options.archive)
    folders = [path for path in options.archive if path.is_dir()]
    lists = {path: data_set.list_name(path.as_posix()) for path in options.archive if path not in folders}
    loose = {path: name for folder in folders for name, path in folder_files(folder)}
    lists.update({path: data_set.list_name(name) for path, name in loose.items()})
    for path, name in lists.items():
        if name is not None:
            with open(path, "rb") as content:
                tree.add_list(name, content, path)
    archives = [path for path in options.archive if path not in folders and lists[path] is None]
    for path in sorted(archives, key=lambda path: path.stat().st_size):
        with tar_files(path) as files:
            for name, content in files:
                tree.add_file(name, content, path)
    missing = tree.missing_lists()
    if missing:
        ready = [path for path in folders if (path / "train").is_dir() and (path / "test").is_dir()]
        mistake = "a folder with train/ and test/ needs no preparation" if ready else data_set.mistake
        raise DataError(f"{where}: no {missing} of {data_set.title}; {mistake}")
    link = "copy" if _write(data_set, options) is not save else options.link or "hard"
    for path, name in progress_bar(loose.items(), desc="images", unit="file", disable=None if loose else True):
        if lists[path] is None:
            tree.add_path(name, path, link)
    tree.finish(where)


if __name__ == "__main__":
    run(main)
