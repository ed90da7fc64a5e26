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
_LET_THROUGH = (*_DAMAGE, OSError, DataError, MemoryError)
_BLOCK = 1 << 20
_PACKAGE = b"!<arch>\n"
_LONGEST_HEADER = 1 << 14  # bytes of a long name or of pax records, which tarfile reads into memory
_LEAST_CONTENT, _MOST_RATIO = 1 << 28, 20  # an archive of photographs is as large as its content
_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


class _Member(tarfile.TarInfo):
    """A member of a tar archive; what could cost tarfile memory or time without bounds is refused."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type == tarfile.GNUTYPE_SPARSE:
            self._refuse_sparse()
        if self.size < 0 or (self.type in _HEADERS and self.size > _LONGEST_HEADER):
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")
        return super()._proc_member(tar)

    def _refuse_sparse(self, *_: object) -> None:
        raise tarfile.ReadError("sparse files are not accepted")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse


class _Limited:
    """A stream that ends in a `DataError` after `most` bytes."""

    def __init__(self, path: Path, stream: IO[bytes], most: int) -> None:
        self._path, self._stream, self._left, self.most = path, stream, most, most

    def read(self, count: int) -> bytes:
        """Read up to `count` bytes."""
        data = self._stream.read(count)
        self._left -= len(data)
        if self._left < 0:
            raise DataError(f"{self._path}: refused, unpacked it has more than {self.most:,} bytes")
        return data


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
        zipped, packaged = start[:2] == b"\x1f\x8b", start == _PACKAGE
        file.seek(0)
        size = os.path.getsize(path)
        with tqdm.wrapattr(file, "read", size, desc=path.name, disable=None, leave=False) as counted:
            most = max(_LEAST_CONTENT, _MOST_RATIO * size) if zipped or packaged else size
            try:
                stream = _data_of_package(path, counted) if packaged else counted
                content = _Limited(path, gzip.GzipFile(fileobj=counted, mode="rb") if zipped else stream, most)
                with _open(path, content) as tar:
                    yield _files(path, tar, most)
                while (zipped or packaged) and content.read(_BLOCK):  # the checksum is at the very end
                    pass
            except _DAMAGE as error:
                raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception | str) -> DataError:
    return DataError(f"{path} is damaged or truncated: {error}")


def _data_of_package(path: Path, file: IO[bytes]) -> IO[bytes]:
    """Return data.tar of a Debian package, an ar archive: 60 bytes with name and size stand before each member."""
    file.read(len(_PACKAGE))
    while (header := file.read(60)) and header[48:58].strip().isdigit():
        if header.startswith(b"data.tar.xz"):
            return lzma.open(file)
        size = int(header[48:58])
        file.seek(size + size % 2, os.SEEK_CUR)
    raise DataError(f"{path}: no data.tar.xz in it; accepted is the folder that `dpkg -x` unpacks it in, too")


def _open(path: Path, content: _Limited) -> tarfile.TarFile:
    try:
        return tarfile.open(
            fileobj=content, mode="r|", bufsize=_BLOCK, encoding="utf-8", errors="surrogateescape", tarinfo=_Member
        )
    except tarfile.ReadError:
        accepted = ".tar, .tar.gz, .deb and the unpacked folder"
        raise DataError(f"{path} is not a tar archive; accepted are {accepted}") from None
    except _LET_THROUGH:
        raise
    except Exception as error:  # tarfile raises exceptions of every kind on damaged headers
        raise _damaged(path, error) from None


def _files(path: Path, tar: tarfile.TarFile, most: int) -> Iterator[tuple[str, IO[bytes]]]:
    while (member := _next(path, tar)) is not None:
        tar.members.clear()  # tarfile would keep them all
        if member.size < 0 or member.offset_data + member.size > most:
            raise _damaged(path, f"{member.name} has {member.size:,} bytes")
        danger = _danger(member)
        if danger:
            raise DataError(f"{path}: refused, its member {member.name} {danger}")
        if member.isreg():
            yield posixpath.normpath(member.name), tar.extractfile(member)


def _next(path: Path, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
    try:
        return tar.next()
    except _LET_THROUGH:
        raise
    except Exception as error:  # as in _open
        raise _damaged(path, error) from None


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
