import hashlib
import http.server
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from checkpoints import download
from checkpoints.download import fetch
from utils import system
from utils.errors import WeightsError

CONTENT = bytes(range(256)) * 1024
HALF = len(CONTENT) // 2
MD5 = hashlib.md5(CONTENT).hexdigest()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Site(http.server.ThreadingHTTPServer):
    """Serves `content` under any name, and keeps the range asked for and the bytes sent of each request."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.ranges = True  # whether it knows Range; a number: the byte it always begins with
        self.cut = None  # bytes after which the connection ends, in one request
        self.length = True  # whether it says how long the answer is
        self.status = None  # an error to answer with
        self.hold = False  # whether the connection stays open there and goes on at `resume`
        self.resume = threading.Event()
        self.log = []

    def handle_error(self, request, client_address):
        """A client that went away is what some tests are about."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/weights.pdparams"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        site, asked = self.server, self.headers.get("Range")
        start = int(asked[len("bytes=") : -1]) if asked and site.ranges else 0
        entry = {"range": asked, "sent": 0}
        site.log.append(entry)
        if site.status or (start and start >= len(site.content)):
            self.send_error(site.status or 416)
            return
        start = start if isinstance(site.ranges, bool) else site.ranges
        body = site.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(site.content) - 1}/{len(site.content)}")
        if site.length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut, site.cut = site.cut, None
        entry["sent"] = len(body[:cut])
        self.wfile.write(body[:cut])
        if cut is not None and site.hold:
            site.resume.wait(30)
            self.wfile.write(body[cut:])

    def log_message(self, *_):
        pass


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with Site() as site:
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield site
        site.resume.set()
        site.shutdown()
        thread.join()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "weights.pdparams"


def left(path):
    return sorted(entry.name for entry in path.parent.iterdir())


@pytest.mark.parametrize("sums", [{"md5": MD5}, {"sha256": SHA256.upper()}, {"md5": MD5, "sha256": SHA256}, {}])
def test_brings_the_file_and_nothing_else(site, path, sums, capfd):
    assert fetch(site.url, str(path), **sums) == path
    assert path.read_bytes() == CONTENT
    assert left(path) == ["weights.pdparams"]
    assert site.log == [{"range": None, "sent": len(CONTENT)}]
    assert capfd.readouterr() == ("", "")


def test_brings_a_file_of_unknown_length_and_an_empty_one(site, path):
    site.length = False
    fetch(site.url, path, md5=MD5)
    assert path.read_bytes() == CONTENT
    site.content = b""
    assert fetch(site.url, path.with_name("empty")).read_bytes() == b""


def test_asks_nobody_when_the_file_is_there(site, path):
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    assert fetch(site.url, path, md5=MD5, sha256=SHA256) == path
    assert fetch(site.url, path) == path
    assert site.log == []


def test_leaves_a_file_with_another_sum_alone(site, path):
    path.parent.mkdir()
    path.write_bytes(b"mine")
    with pytest.raises(WeightsError) as caught:
        fetch(site.url, path, sha256=SHA256)
    assert site.log == []
    assert path.read_bytes() == b"mine"
    for part in (str(path), SHA256, hashlib.sha256(b"mine").hexdigest(), site.url):
        assert part in str(caught.value)


def test_refuses_a_folder_in_its_place(site, path):
    path.mkdir(parents=True)
    with pytest.raises(WeightsError, match="is not a file"):
        fetch(site.url, path, md5=MD5)


def test_continues_after_an_interruption(site, path):
    site.cut = HALF
    with pytest.raises(WeightsError, match=f"ended after {HALF} of {len(CONTENT)} bytes"):
        fetch(site.url, path, md5=MD5)
    assert not path.exists()
    fetch(site.url, path, md5=MD5)
    assert path.read_bytes() == CONTENT
    assert site.log == [{"range": None, "sent": HALF}, {"range": f"bytes={HALF}-", "sent": len(CONTENT) - HALF}]
    assert left(path) == ["weights.pdparams"]


def test_does_not_continue_what_no_sum_can_check(site, path):
    site.cut = HALF
    with pytest.raises(WeightsError):
        fetch(site.url, path)
    fetch(site.url, path)
    assert path.read_bytes() == CONTENT
    assert [entry["range"] for entry in site.log] == [None, None]


@pytest.mark.parametrize("ranges, requests", [(False, 2), (7, 3)])
def test_starts_again_when_the_server_sends_another_range(site, path, ranges, requests):
    site.cut = HALF
    with pytest.raises(WeightsError):
        fetch(site.url, path, md5=MD5)
    site.ranges = ranges
    if ranges is False:
        fetch(site.url, path, md5=MD5)
        assert path.read_bytes() == CONTENT
    else:
        with pytest.raises(WeightsError, match="part that was not asked for"):
            fetch(site.url, path, md5=MD5)
    assert len(site.log) == requests


@pytest.mark.parametrize("partial", [b"x" * HALF, CONTENT, CONTENT + b"more"])
def test_starts_again_when_the_partial_file_is_bogus(site, path, partial):
    path.parent.mkdir()
    (path.parent / ".weights.pdparams.partial").write_bytes(partial)
    fetch(site.url, path, md5=MD5)
    assert path.read_bytes() == CONTENT
    assert [entry["range"] for entry in site.log] == [f"bytes={len(partial)}-", None]
    assert left(path) == ["weights.pdparams"]


@pytest.mark.parametrize("sums", [{"md5": MD5}, {"sha256": SHA256}, {"md5": MD5, "sha256": SHA256}])
def test_removes_what_has_the_wrong_sum(site, path, sums):
    site.content = CONTENT[:-1]
    with pytest.raises(WeightsError) as caught:
        fetch(site.url, path, **sums)
    name = "sha256" if "sha256" in sums else "md5"
    for part in (site.url, sums[name], hashlib.new(name, site.content).hexdigest()):
        assert part in str(caught.value)
    assert len(site.log) == 1
    assert not [name for name in left(path) if not name.endswith(".lock")]
    site.content = CONTENT
    assert fetch(site.url, path, **sums).read_bytes() == CONTENT
    assert left(path) == ["weights.pdparams"]


def assert_says_what_to_do(message, url, path):
    assert message.startswith(f"cannot download {url}: ")
    assert message.endswith(f"download it by hand and save it as {path}, md5 {MD5}")
    assert message.isprintable()


@pytest.mark.parametrize("status", [404, 503, 416])
def test_says_what_to_do_when_the_server_refuses(site, path, status):
    site.status = status
    with pytest.raises(WeightsError, match=f"HTTP {status} ") as caught:
        fetch(site.url, path, md5=MD5)
    assert_says_what_to_do(str(caught.value), site.url, path)
    assert not path.exists()


def test_says_what_to_do_without_a_server(monkeypatch, path):
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/weights"
        with pytest.raises(WeightsError, match="Connection refused") as caught:
            fetch(url, path, md5=MD5)
    assert_says_what_to_do(str(caught.value), url, path)


@pytest.mark.parametrize("url", ["weights.pdparams", "nonsense://host/file", "http://[/", "http://host:port/", ""])
def test_says_what_to_do_with_what_is_no_address(path, url):
    with pytest.raises(WeightsError) as caught:
        fetch(url, path, md5=MD5)
    assert_says_what_to_do(str(caught.value), url, path)


def test_gives_up_on_a_server_that_never_answers(monkeypatch, path):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as dead:
        url = f"http://127.0.0.1:{dead.getsockname()[1]}/weights"
        with pytest.raises(WeightsError, match="timed out") as caught:
            fetch(url, path, md5=MD5)
    assert_says_what_to_do(str(caught.value), url, path)


@pytest.mark.parametrize("length", [True, False])
def test_gives_up_on_a_server_that_falls_silent_and_keeps_what_came(site, monkeypatch, path, length):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    site.cut, site.hold, site.length = HALF, True, length
    with pytest.raises(WeightsError, match="timed out") as caught:
        fetch(site.url, path, md5=MD5)
    assert_says_what_to_do(str(caught.value), site.url, path)
    assert (path.parent / ".weights.pdparams.partial").read_bytes() == CONTENT[:HALF]


NONSENSE = [
    b"",
    b"nonsense\r\n\r\n",
    b"HTTP/1.0 404 \x1b[31mGone\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nContent-Length: many\r\n\r\nx",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
]


@pytest.mark.parametrize("answer", NONSENSE)
def test_gives_up_on_a_server_that_answers_nonsense(monkeypatch, path, answer):
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/weights"
        with pytest.raises(WeightsError) as caught:
            fetch(url, path, md5=MD5)
        thread.join()
    assert_says_what_to_do(str(caught.value), url, path)


def test_a_full_disk_is_not_the_network(site, monkeypatch, path):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        fetch(site.url, path, md5=MD5)


PROGRAM = "import sys; from checkpoints.download import fetch; fetch(sys.argv[1], sys.argv[2], md5=sys.argv[3])"


def start_process(site, path):
    command = [sys.executable, "-c", PROGRAM, site.url, str(path), MD5]
    return subprocess.Popen(command, cwd=Path(download.__file__).parents[1], stderr=subprocess.PIPE, text=True)


def wait_for_a_part(path):
    partial = path.parent / ".weights.pdparams.partial"
    for _ in range(3000):
        if partial.exists() and partial.stat().st_size:
            return partial
        time.sleep(0.01)
    raise AssertionError("no part arrived in 30 seconds")


@pytest.mark.skipif(os.name != "posix", reason="needs the locks of POSIX")
def test_one_process_downloads_while_others_wait(site, path):
    site.cut, site.hold = HALF, True
    processes = [start_process(site, path)]
    wait_for_a_part(path)
    processes += [start_process(site, path), start_process(site, path)]
    for process in processes[1:]:
        assert process.stderr.readline() == f"waiting for another process that downloads {path}\n"
    site.resume.set()
    for process in processes:
        assert process.communicate() == (None, "")
        assert process.returncode == 0
    assert len(site.log) == 1
    assert path.read_bytes() == CONTENT
    assert left(path) == ["weights.pdparams"]


def test_continues_what_a_killed_process_left(site, path):
    site.cut, site.hold = HALF, True
    process = start_process(site, path)
    partial = wait_for_a_part(path)
    process.kill()
    process.communicate()
    start = partial.stat().st_size
    fetch(site.url, path, md5=MD5)
    assert path.read_bytes() == CONTENT
    assert site.log[1:] == [{"range": f"bytes={start}-", "sent": len(CONTENT) - start}]
    assert left(path) == ["weights.pdparams"]


def test_threads_of_one_process_bring_one_file(site, path):
    threads = [threading.Thread(target=fetch, args=(site.url, path), kwargs={"md5": MD5}) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() == CONTENT
    assert len(site.log) == 1


def no_locks(*_):
    raise OSError(95, "Operation not supported")


def test_works_where_there_are_no_locks(site, monkeypatch, path):
    monkeypatch.setattr(system, "take_lock", no_locks)
    fetch(site.url, path, md5=MD5)
    assert path.read_bytes() == CONTENT
    assert left(path) == ["weights.pdparams"]
