"""Headless Chromium over the DevTools protocol on a pair of pipes, which needs no WebSocket library.

Source: https://chromedevtools.github.io/devtools-protocol. With --remote-debugging-pipe Chromium reads JSON messages,
each ended by NUL, from file descriptor 3 and writes them to 4.
"""

import base64
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # CI runs as root, whom Chromium's sandbox refuses
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-pipe",
)
ANSWER_WITHIN_S = 60
# Moves two descriptors out of the way of each other, then to 3 and 4, and becomes the browser.
LAUNCHER = """
import fcntl, os, sys
high = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for end, number in zip(high, (3, 4)):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""


class BrowserError(AssertionError):
    """The browser refused a command, a script threw, or there was no answer in time."""


@contextmanager
def chromium(program: Path, profile: Path) -> Iterator["Browser"]:
    """A running browser with an empty profile. profile: a folder of its own."""
    (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()

    started = [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    ends = (theirs_in, theirs_out)
    with (profile / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, *map(str, ends), *map(str, started)], stdout=log, stderr=log, pass_fds=ends
        )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Browser(ours_in, ours_out)
    finally:
        os.close(ours_out)  # Chromium ends when its pipe does
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(ours_in)


class Browser:
    """Commands out, answers and events in."""

    def __init__(self, readable: int, writable: int) -> None:
        self._in, self._out = readable, writable
        self._rest = b""
        self._last = 0
        self._events: list[dict[str, object]] = []

    def call(self, method: str, *, session: str | None = None, **parameters: object) -> dict[str, object]:
        """Raises: BrowserError."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters} | (
            {"sessionId": session} if session else {}
        )
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        deadline = time.monotonic() + ANSWER_WITHIN_S
        while True:
            answer = self._read(deadline, method)
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']}")
                return answer["result"]
            self._events.append(answer)

    def events(self, session: str, method: str) -> list[dict[str, object]]:
        """The parameters of all events of one kind so far."""
        return [e["params"] for e in self._events if (e.get("sessionId"), e.get("method")) == (session, method)]

    def _read(self, deadline: float, what: str) -> dict[str, object]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(0, deadline - time.monotonic()))
            data = os.read(self._in, 1 << 20) if ready else b""
            if not data:
                raise BrowserError(f"{what}: the browser {'ended' if ready else 'gave no answer'}")
            self._rest += data
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def open(self, url: str) -> "Page":
        """A new page, as soon as it is asked for; it is still loading."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        page = Page(self, self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"], target)
        for domain in ("Page", "Network", "Runtime", "Log"):
            page.call(f"{domain}.enable")
        page.call("Page.navigate", url=url)
        return page


class Page:
    """One page of a browser."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser, self._session, self._target = browser, session, target

    def close(self) -> None:
        self._browser.call("Target.closeTarget", targetId=self._target)

    def call(self, method: str, **parameters: object) -> dict[str, object]:
        return self._browser.call(method, session=self._session, **parameters)

    def evaluate(self, expression: str) -> object:
        """The value of a JavaScript expression, awaited, as JSON has it. Raises: BrowserError when it throws."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise BrowserError(details.get("exception", {}).get("description", details["text"]))
        return answer["result"].get("value")

    def wait_until(self, expression: str, *, within_s: float = 30) -> None:
        """Raises: BrowserError when an expression is not true in time."""
        deadline = time.monotonic() + within_s
        while not self.evaluate(expression):
            if time.monotonic() > deadline:
                raise BrowserError(f"not so within {within_s} s: {expression}; the log: {self.log()}")
            time.sleep(0.02)

    def requests(self) -> list[str]:
        """The addresses of everything that the page asked for, whatever came of it."""
        return [e["request"]["url"] for e in self._browser.events(self._session, "Network.requestWillBeSent")]

    def log(self) -> list[str]:
        """What the browser reports about the page, such as a breach of its policy or a file that is not there."""
        return [e["entry"]["text"] for e in self._browser.events(self._session, "Log.entryAdded")]

    def choose_file(self, selector: str, path: Path) -> None:
        """As a person does in the dialogue of an <input type=file>."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def press(self, key: str, code: int) -> None:
        """A key, by its name and its Windows key code."""
        text = {"Enter": "\r", " ": " "}.get(key, "")
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def look(self, *, width: int, scheme: str, height: int = 900) -> None:
        """Set the width in pixels and light or dark."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG file."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))
