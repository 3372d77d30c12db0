"""A publisher's server on this machine that cuts connections, changes files and lies as a test tells it to."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SHUT_RDWR
from typing import Any


class Remote:
    """What is served, and how.

    Attributes:
        files: content by name.
        marks: headers that tell states of a file apart.
        headers: more headers.
        ranges: whether parts of files are served.
        honest_ranges: whether they are the parts that were asked for.
        compares: whether `If-Range` is heeded.
        announces: whether sizes are announced.
        cuts: for each of the next requests, after how many bytes the connection is cut.
        statuses: for each of the next requests, an answer instead of a file.
        before: called before a request is answered, with its number from 1.
        sorry: headers of answers that hold no file.
        seen: the headers of all requests for files so far.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.files: dict[str, bytes] = {}
        self.marks: dict[str, str] = {"ETag": '"one"'}
        self.headers: dict[str, str] = {}
        self.ranges = True
        self.honest_ranges = True
        self.compares = True
        self.announces = True
        self.cuts: list[int] = []
        self.statuses: list[int] = []
        self.before: Callable[[int], None] = lambda _: None
        self.sorry: dict[str, str] = {}
        self.seen: list[dict[str, str]] = []

    @property
    def asked(self) -> list[str | None]:
        """The ranges asked for so far, one for each request."""
        return [headers.get("Range") for headers in self.seen]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    remote: Remote

    def do_GET(self) -> None:
        remote = self.remote
        remote.seen.append(dict(self.headers))
        remote.before(len(remote.seen))
        content = remote.files.get(self.path.removeprefix("/"))
        status = remote.statuses.pop(0) if remote.statuses else 200 if content is not None else 404
        if status != 200 or content is None:
            self._answer(status, b"sorry", remote.sorry)
            return
        start = self._start()
        if start is None:
            self._answer(200, content, remote.marks | remote.headers)
        elif start >= len(content):
            self._answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        else:
            start -= 0 if remote.honest_ranges else 1
            where = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
            self._answer(206, content[start:], remote.marks | remote.headers | where)

    def do_HEAD(self) -> None:
        remote = self.remote
        content = remote.files.get(self.path.removeprefix("/"))
        status = remote.statuses.pop(0) if remote.statuses else 200 if content is not None else 404
        self.send_response(status)
        for name, value in (remote.marks | remote.headers if status == 200 else remote.sorry).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()

    def _start(self) -> int | None:
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        mark = self.headers.get("If-Range")
        changed = self.remote.compares and mark is not None and mark not in self.remote.marks.values()
        return int(match[1]) if match and self.remote.ranges and not changed else None

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.remote.announces:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        cut = self.remote.cuts.pop(0) if self.remote.cuts and status in (200, 206) else None
        self.wfile.write(body[:cut])
        if cut is not None:
            self.connection.shutdown(SHUT_RDWR)
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:  # the client went away
        pass


@contextmanager
def serving() -> Iterator[Remote]:
    """Serve until the block is left."""

    class Handler(_Handler):
        pass

    with _Server(("127.0.0.1", 0), Handler) as server:
        Handler.remote = remote = Remote(f"http://127.0.0.1:{server.server_address[1]}/")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield remote
        finally:
            server.shutdown()
            thread.join()
