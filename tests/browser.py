"""Chromium without a window, steered by its DevTools protocol over two pipes: no library, no port."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path


def _starts(path: str) -> bool:
    """Return whether the program runs at all: some systems have a script in its place that says how to install it."""
    return subprocess.run([path, "--version"], capture_output=True, timeout=60).returncode == 0


_NAMED = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
CHROMIUM = next(filter(_starts, _NAMED), None)
_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-default-browser-check"),
    *("--disable-extensions", "--hide-scrollbars", "--remote-debugging-pipe"),
)
_DEADLINE = 60.0  # seconds for an answer


class Browser:
    """A browser with one tab; a context manager that ends it."""

    def __enter__(self) -> Browser:
        self._profile = tempfile.mkdtemp()
        its_input, self._out = os.pipe()
        self._in, its_output = os.pipe()
        # it reads from 3 and writes to 4
        shell = f'exec {{i}}<&{its_input} {{o}}>&{its_output}; exec 3<&$i 4>&$o; exec "$0" "$@"'
        command = ["bash", "-c", shell, CHROMIUM, *_FLAGS, f"--user-data-dir={self._profile}", "about:blank"]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, pass_fds=(its_input, its_output), **quiet)
        os.close(its_input)
        os.close(its_output)
        self._number, self._rest, self._session, self.events = 0, b"", None, []
        pages = [each for each in self.call("Target.getTargets")["targetInfos"] if each["type"] == "page"]
        attached = self.call("Target.attachToTarget", targetId=pages[0]["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._session = None
            self.call("Browser.close")
            self._process.wait(10)
        except (OSError, TimeoutError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)
        shutil.rmtree(self._profile, ignore_errors=True)

    def call(self, method: str, **parameters: object) -> dict:
        """Call a method of the protocol and return its result; what else the browser says is added to `events`."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self.events.append(answer)

    def _read(self) -> dict:
        until = time.monotonic() + _DEADLINE
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(0, until - time.monotonic()))
            block = os.read(self._in, 1 << 20) if ready else b""
            if not block:
                raise TimeoutError("the browser does not answer")
            self._rest += block
        first, _, self._rest = self._rest.partition(b"\0")
        return json.loads(first)

    def open(self, path: Path, width: int = 1200, dark: bool = False) -> None:
        """Open a file in a window of `width` pixels and wait until it is loaded."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())

    def value(self, expression: str) -> object:
        """Return the value of a JavaScript expression in the page, which its content policy does not concern."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key, "Tab", "Enter" or " "."""
        code = {"Tab": 9, "Enter": 13, " ": 32}[key]
        text = {"Enter": "\r", " ": " "}.get(key, "")
        about = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **about, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def complaints(self) -> list[str]:
        """Return what the page wrote to the console, every exception, and every address beside its own and data."""
        found = []
        for event in self.events:
            method, about = event.get("method"), event.get("params", {})
            if method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
                found.append(f"{method}: {json.dumps(about)[:300]}")
            elif method == "Network.requestWillBeSent" and not about["request"]["url"].startswith(("file:", "data:")):
                found.append(f"{method}: {about['request']['url'][:300]}")
        return found

    def screenshot(self, path: Path, height: int | None = None) -> None:
        """Write the page as it stands as a PNG: all of it, or its upper `height` pixels."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": height or size["height"], "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))
