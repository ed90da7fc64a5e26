"""What travels where machines share no folder: the files that a run reads and those that it leaves, as bytes."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from utils.system import lock, rename


@dataclass(frozen=True)
class Parcel:
    """The names, relative to the folder of the results, of what a run needs and of what it leaves there.

    Attributes:
        inputs: name on the other machine, and the file or folder here.
        outputs: names on both machines.
        links: whether links in `inputs` are kept; otherwise they are replaced by what they lead to.
    """

    inputs: tuple[tuple[str, Path], ...]
    outputs: tuple[str, ...]
    links: bool = True


def pack(entries: list[tuple[str, Path]], links: bool = True, without: tuple[str, ...] = ()) -> bytes:
    """Return an uncompressed tar archive of files and folders by name; those that are absent are left out.

    Args:
        entries: the name in the archive and the path of each.
        links: whether links stay links.
        without: endings of the files that are left out.
    """
    content = io.BytesIO()

    def wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if member.name.endswith(without) else member

    with tarfile.open(fileobj=content, mode="w", dereference=not links) as archive:
        for name, path in entries:
            if path.exists():
                archive.add(path, name, filter=wanted)
    return content.getvalue()


def unpack(content: bytes, folder: Path, keep: bool = False) -> None:
    """Put what `pack` made of files and folders below `folder`, each of them whole or not at all.

    Args:
        content: of this project's own processes: nothing in it is checked.
        folder: where they go; made if it is absent.
        keep: leave those that are there as they are, instead of replacing them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder), tempfile.TemporaryDirectory(dir=folder, prefix=".incoming-") as incoming:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            names = _tops(archive)
            trust = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}
            archive.extractall(incoming, **trust)
        for name in names:
            target = folder / name
            if keep and target.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir():
                shutil.rmtree(target)
            rename(Path(incoming, name), target)


def _tops(archive: tarfile.TarFile) -> list[str]:
    """Return the names that were packed, without those of what is inside of them."""
    tops: list[str] = []
    for name in archive.getnames():
        if not any(name.startswith(f"{top}/") for top in tops):
            tops.append(name)
    return tops


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep out other processes of this machine that unpack into `folder`."""
    with open(os.path.join(folder, ".incoming.lock"), "wb") as file:
        lock(file, wait=True)
        yield
