"""Download a file once, complete and with the right checksum."""

from __future__ import annotations

import contextlib
import http.client
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from utils.bars import progress_bar
from utils.errors import WeightsError
from utils.files import digest
from utils.system import lock, rename

TIMEOUT = 30  # seconds without a byte
_BLOCK = 1 << 16


def fetch(url: str, path: str | os.PathLike, *, md5: str | None = None, sha256: str | None = None) -> Path:
    """Return `path`, downloaded from `url` unless it is there already.

    The download goes to a hidden partial file in the same folder, which is renamed when it is whole and its checksum
    right. An interrupted one is continued by the next call. Of several processes one downloads while the others wait.
    Nothing is unpacked. An existing file is never overwritten, even if its checksum is wrong.

    Args:
        url: where the file is.
        path: where to put it; its folder is made.
        md5: the expected checksum, hexadecimal.
        sha256: likewise, or its first digits; without either any file is right.

    Raises:
        WeightsError: the download fails, and the message says how to do it by hand; or a checksum is wrong.
    """
    path = Path(path)
    sums = {name: value.lower() for name, value in (("sha256", sha256), ("md5", md5)) if value}
    if _is_there(url, path, sums):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        if not _is_there(url, path, sums):
            _bring(url, path, sums)
    return path


def _is_there(url: str, path: Path, sums: dict[str, str]) -> bool:
    if not path.exists():
        return False
    if not path.is_file():
        raise WeightsError(f"{path} is not a file; remove it to have {url} downloaded there")
    wrong = _mismatch(path, sums)
    if wrong:
        raise WeightsError(f"{path}: {wrong}; remove or rename it to have {url} downloaded in its place")
    return True


def _mismatch(path: Path, sums: dict[str, str]) -> str:
    for name, expected in sums.items():
        received = digest(path, name)
        if not received.startswith(expected):
            return f"expected {name} {expected}, received {received}"
    return ""


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}.{suffix}")


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one process at a time bring `path`.

    The lock ends with its process, however that ends. Its file goes when `path` is there: who still waits for it then
    finds `path`, and needs no lock.
    """
    locked = _beside(path, "lock")
    with open(locked, "wb") as file:
        if not lock(file):  # on a file system without locks the checksum detects two downloads at once
            print(f"waiting for another process that downloads {path}", file=sys.stderr, flush=True)
            lock(file, wait=True)
        yield
    with contextlib.suppress(PermissionError):  # Windows keeps it while another process waits, which then removes it
        locked.unlink(missing_ok=True)


def _bring(url: str, path: Path, sums: dict[str, str]) -> None:
    partial = _beside(path, "partial")
    if not sums:  # nothing could tell whether the parts of two downloads fit together
        partial.unlink(missing_ok=True)
    try:
        continued = _download(url, partial, path.name)
        wrong = _mismatch(partial, sums)
        if wrong and continued:  # what an earlier call left may be to blame
            partial.unlink()
            _download(url, partial, path.name)
            wrong = _mismatch(partial, sums)
    except _Unreachable as failure:
        known = "".join(f", {name} {value}" for name, value in sums.items())
        by_hand = f"try again, or download it by hand and save it as {path.absolute()}{known}"
        raise WeightsError(f"cannot download {url}: {_printable(failure)}; {by_hand}") from failure
    if wrong:
        partial.unlink()
        raise WeightsError(f"{url}: {wrong}; the download was removed")
    rename(partial, path)


def _printable(failure: Exception) -> str:
    """Return a reason on one line: part of it may be text of the server."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(failure)[:200]).split())


class _Unreachable(Exception):
    """The network's part of a download failed, for the reason given."""


@contextlib.contextmanager
def _network() -> Iterator[None]:
    """Raise `_Unreachable` for failures of the network; those of the disk pass."""
    try:
        yield
    except urllib.error.HTTPError as failure:
        failure.close()
        raise _Unreachable(f"HTTP {failure.code} {failure.reason}") from failure
    except urllib.error.URLError as failure:
        raise _Unreachable(failure.reason) from failure
    except (OSError, http.client.HTTPException, ValueError) as failure:
        raise _Unreachable(str(failure) or type(failure).__name__) from failure


def _open(url: str, start: int) -> tuple[http.client.HTTPResponse, int]:
    """Ask for `url` from byte `start` on; return the response and the byte that it begins with, `start` or 0."""
    headers = {"User-Agent": "SMILE"}  # some servers turn away the name that urllib gives itself
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as failure:
        if failure.code != 416 or not start:
            raise
        failure.close()  # the partial file is longer than the whole
        return _open(url, 0)
    if response.status != 206:
        return response, 0
    if response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        return response, start
    response.close()
    if not start:
        raise ValueError("the server sends a part that was not asked for")
    return _open(url, 0)


def _download(url: str, partial: Path, title: str) -> bool:
    """Write to `partial` what it lacks of `url`; return whether any of it was there before."""
    there = partial.stat().st_size if partial.exists() else 0
    with _network():
        response, start = _open(url, there)
    with response:
        with _network():
            length = response.headers.get("Content-Length")
            total = None if length is None else start + int(length)
        bar = progress_bar(total=total, initial=start, desc=title, unit="B", unit_scale=True)
        with bar, open(partial, "ab" if start else "wb") as file:
            while block := _read(response):
                file.write(block)
                bar.update(len(block))
            file.flush()
            os.fsync(file.fileno())
    received = partial.stat().st_size
    if total is not None and received != total:
        raise _Unreachable(f"the connection ended after {received} of {total} bytes")
    return start > 0


def _read(response: http.client.HTTPResponse) -> bytes:
    with _network():
        return response.read1(_BLOCK)
