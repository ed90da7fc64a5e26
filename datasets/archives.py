"""Tar archives, Debian packages and folders, read without trusting the names in them."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import os
import posixpath
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tqdm import tqdm

from datasets.folder import files_below
from utils.errors import DataError

_DAMAGE = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError)
_BLOCK = 1 << 20
_PACKAGE = b"!<arch>\n"


@contextlib.contextmanager
def tar_files(path: Path) -> Iterator[Iterator[tuple[str, IO[bytes]]]]:
    """Open a .tar, .tar.gz or .deb file and yield an iterator over its regular files, (name, content), in their order.

    Nothing is unpacked under its name in the archive: the caller decides where its content goes.

    Raises:
        DataError: the file is not a tar archive, damaged or truncated, which may show only in the `with` block; or a
            member is absolute, leads out of the archive's folder, links out of it, or is a device or a pipe.
    """
    with open(path, "rb") as file:
        start = file.read(len(_PACKAGE))
        zipped = start[:2] == b"\x1f\x8b"
        file.seek(0)
        size = os.path.getsize(path)
        with tqdm.wrapattr(file, "read", size, desc=path.name, disable=None, leave=False) as counted:
            content = gzip.GzipFile(fileobj=counted, mode="rb") if zipped else counted
            try:
                if start == _PACKAGE:
                    content = _data_of_package(path, counted)
                with _open(path, content) as tar:
                    yield _files(path, tar)
                while zipped and content.read(_BLOCK):  # the checksum is at the very end
                    pass
            except _DAMAGE as error:
                raise DataError(f"{path} is damaged or truncated: {error}") from None


def _data_of_package(path: Path, file: IO[bytes]) -> IO[bytes]:
    """Return data.tar of a Debian package, an ar archive: 60 bytes with name and size stand before each member."""
    file.read(len(_PACKAGE))
    while (header := file.read(60)) and header[48:58].strip().isdigit():
        if header.startswith(b"data.tar.xz"):
            return lzma.open(file)
        size = int(header[48:58])
        file.seek(size + size % 2, os.SEEK_CUR)
    raise DataError(f"{path}: no data.tar.xz in it; accepted is the folder that `dpkg -x` unpacks it in, too")


def _open(path: Path, content: IO[bytes]) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=content, mode="r|", bufsize=_BLOCK, encoding="utf-8", errors="surrogateescape")
    except tarfile.ReadError:
        raise DataError(
            f"{path} is not a tar archive; accepted are .tar, .tar.gz, .deb and the unpacked folder"
        ) from None


def _files(path: Path, tar: tarfile.TarFile) -> Iterator[tuple[str, IO[bytes]]]:
    while (member := tar.next()) is not None:
        tar.members.clear()  # tarfile would keep them all
        danger = _danger(member)
        if danger:
            raise DataError(f"{path}: refused, its member {member.name} {danger}")
        if member.isreg():
            yield posixpath.normpath(member.name), tar.extractfile(member)


def _danger(member: tarfile.TarInfo) -> str:
    if _leaves(member.name):
        return "leads out of the folder that it would be unpacked in"
    if member.issym() and _leaves(posixpath.join(posixpath.dirname(member.name), member.linkname)):
        return f"is a symbolic link out of the archive, to {member.linkname}"
    if member.islnk() and _leaves(member.linkname):
        return f"is a hard link out of the archive, to {member.linkname}"
    return "is a device or a pipe" if member.isdev() else ""


def _leaves(name: str) -> bool:
    normal = posixpath.normpath(name)
    return normal.startswith("/") or normal.split("/")[0] == ".."


def folder_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield (name relative to `folder`, path) of the regular files below it, as `files_below`, links followed."""
    for path in files_below(folder):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path
