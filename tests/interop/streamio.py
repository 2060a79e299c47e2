"""Byte streams of HTTP/2 and HTTP/3 sessions for scripted peers: what both transports and both roles share.

A session owns streams; a stream is read, written, finished and reset by one task. Reading gives flow-control
credit back, so a peer that is not read stops at its window.
"""
import asyncio
import base64
import collections
import json
import sys
import time

NO_ERROR = "no-error"
CANCEL = "cancel"
REFUSED = "refused"
PROTOCOL = "protocol"

# The same four reasons in the numbers of RFC 9113 section 7 and RFC 9114 section 8.1.
H2_CODES = {NO_ERROR: 0, CANCEL: 8, REFUSED: 7, PROTOCOL: 1}
H3_CODES = {NO_ERROR: 0x100, CANCEL: 0x10C, REFUSED: 0x10B, PROTOCOL: 0x101}


class StreamReset(Exception):
    """The peer reset the stream, stopped reading it, or the session is gone (code None)."""

    def __init__(self, code, what="reset"):
        super().__init__(f"{what} code={code}")
        self.code = code
        self.what = what


class EventLog:
    """JSON lines on stdout (or in memory, when a path is "-" or None)."""

    def __init__(self, out=None):
        self.out = out
        self.start = time.monotonic()
        self.lines = []

    def __call__(self, event, **fields):
        line = {"t": round(time.monotonic() - self.start, 4), "event": event}
        line.update(fields)
        if self.out is None:
            self.lines.append(line)
            return
        self.out.write(json.dumps(line) + "\n")
        self.out.flush()


class Stream:
    """One stream; the transport-specific session fills in what happens on the wire."""

    def __init__(self, session, sid):
        self.session = session
        self.sid = sid
        self.headers = None          # first header section of the peer
        self.trailers = None
        self.chunks = collections.deque()
        self.buffered = 0
        self.eof = False             # the peer ended its side
        self.dead = None             # StreamReset
        self.stopped = None          # code of the peer's STOP_SENDING
        self.finished = False        # we ended our side
        self.was_reset = False       # we reset it
        self.answered = False
        self.ready = asyncio.Event()     # something to read, or headers, or dead
        self.writable = asyncio.Event()  # the window may have opened
        self.gone = asyncio.Event()      # dead is set
        self.received = 0
        self.sent = 0

    # ---- called by the session ----
    def feed_headers(self, headers):
        if self.headers is None:
            self.headers = headers
        else:
            self.trailers = headers
        self.ready.set()

    def feed(self, data, credit):
        self.received += len(data)
        self.buffered += len(data)
        self.chunks.append((data, credit))
        self.ready.set()

    def feed_eof(self):
        self.eof = True
        self.ready.set()

    def feed_dead(self, reason):
        if self.dead is None:
            self.dead = reason
        self.gone.set()
        self.ready.set()
        self.writable.set()

    # ---- called by the task that owns it ----
    async def wait_headers(self):
        while self.headers is None:
            if self.dead is not None:
                raise self.dead
            if self.eof:
                raise StreamReset(None, "ended without headers")
            self.ready.clear()
            await self.ready.wait()
        return self.headers

    async def read(self):
        """The next chunk; b"" at the end of the peer's side. What arrived before a reset is still read."""
        while True:
            if self.chunks:
                data, credit = self.chunks.popleft()
                self.buffered -= len(data)
                self.session.give_credit(self, credit)
                if data:
                    return data
                continue
            if self.eof:
                return b""
            if self.dead is not None:
                raise self.dead
            self.ready.clear()
            await self.ready.wait()

    async def read_exactly(self, n):
        parts, have = [], 0
        while have < n:
            data = await self.read()
            if not data:
                break
            if have + len(data) > n:
                cut = n - have
                self.chunks.appendleft((data[cut:], 0))
                self.buffered += len(data) - cut
                data = data[:cut]
            parts.append(data)
            have += len(data)
        return b"".join(parts)

    async def read_all(self):
        parts = []
        while True:
            data = await self.read()
            if not data:
                return b"".join(parts)
            parts.append(data)

    def send_headers(self, headers, end=False):
        self.session.send_headers(self, headers, end)
        if end:
            self.finished = True
        self.answered = True

    async def write(self, data):
        await self.session.write(self, data)
        self.sent += len(data)

    def finish(self):
        if not self.finished and not self.was_reset and self.dead is None:
            self.finished = True
            self.session.finish(self)

    def reset(self, reason=CANCEL):
        if not self.was_reset:
            self.was_reset = True
            self.session.reset(self, reason)

    def stop_reading(self, reason=NO_ERROR):
        self.session.stop_reading(self, reason)


def basic(user, password):
    """The value of an Authorization field (RFC 7617), padded."""
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())


def header(headers, name, default=None):
    for key, value in headers or ():
        if key == name:
            return value
    return default


def split_authority(text):
    """host, port of "host:port" or "[v6]:port"; port None when absent; ValueError when it is neither."""
    if not text or any(ord(c) <= 0x20 or ord(c) >= 0x7F or c in "%/@" for c in text):
        raise ValueError("bad byte or empty")
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or ":" not in host:
            raise ValueError("bad IPv6 brackets")
        if rest and not rest.startswith(":"):
            raise ValueError("junk after the brackets")
        port = rest[1:] if rest else None
    else:
        host, colon, port = text.partition(":")
        if not colon:
            port = None
        elif ":" in port:
            raise ValueError("IPv6 without brackets")
    if not host:
        raise ValueError("no host")
    if port is None:
        return host, None
    if not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ValueError("bad port")
    return host, int(port)


def warn(*words):
    print(*words, file=sys.stderr, flush=True)
