#!/usr/bin/env python3
"""An endpoint that breaks HTTP/2 or HTTP/3 on purpose, frame by frame.

Whatever it sends, adit stays up, its memory and log stay small, it idles afterwards, and the request that was under way
ends: with a failure, or, if it had been answered, with the end of its connection.
"""
import asyncio
import os
import random
import socket
import ssl
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "func"))

import clients                                                          # noqa: E402
import targets                                                          # noqa: E402
from harness import Failure, case, check, main, wait_until              # noqa: E402

PROMPT = dict(recovery_wait="1s", health_timeout="1s", handshake_timeout="1s", connect_timeout="1s")
MIB = 1 << 20
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED = 1, 4, 8
OK = b"\x88"                            # HPACK: ":status: 200"
# What may stand in a field value and should not stand in a log or a page as it is.
FORGED = b'300 - "\xff\x80\\\t<script> flow: end id=1' + b" long" * 800


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name, value):
    """HPACK, a literal without indexing; both below 127 bytes, or the value below 16,511."""
    size = bytes([len(value)]) if len(value) < 127 else b"\x7f" + varint7(len(value) - 127)
    return b"\x00" + bytes([len(name)]) + name + size + value


def varint7(n):
    out = b""
    while n >= 128:
        out += bytes([n % 128 | 128])
        n //= 128
    return out + bytes([n])


class RawH2:
    """One TLS connection; reads adit's frames in a thread and remembers the stream of its last CONNECT."""

    def __init__(self, sock, greet):
        self.sock = sock
        self.closed = threading.Event()
        self.asked = threading.Event()      # a request that is not the first (which is the health check)
        self.streams = []
        if greet:
            self.send(frame(SETTINGS, 0, 0))
        threading.Thread(target=self.read, daemon=True).start()

    def send(self, data):
        try:
            self.sock.sendall(data)
        except (OSError, ValueError):
            self.closed.set()
            raise ConnectionError from None

    def read(self):
        data = b""
        try:
            while True:
                piece = self.sock.recv(65536)
                if not piece:
                    break
                data += piece
                if data[:3] == b"PRI":
                    if len(data) < 24:
                        continue
                    data = data[24:]
                while len(data) >= 9 and len(data) >= 9 + int.from_bytes(data[:3], "big"):
                    size = int.from_bytes(data[:3], "big")
                    self.got(data[3], data[4], int.from_bytes(data[5:9], "big"))
                    data = data[9 + size:]
        except (OSError, ValueError):
            pass
        self.closed.set()

    def got(self, kind, flags, stream):
        if kind == SETTINGS and not flags & 1:
            self.sock.sendall(frame(SETTINGS, 1, 0))
        if kind == HEADERS:
            self.streams.append(stream)
            if len(self.streams) > 1:
                self.asked.set()

    def wait_request(self):
        if not self.asked.wait(10):
            raise ConnectionError
        return self.streams[-1]


# Each gets a connection that has seen a request; True: adit may keep the session.
def settings_flood(c):
    for _ in range(300):
        c.send(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65535) * 10) * 400)


def ack_flood(c):
    for _ in range(300):
        c.send(frame(SETTINGS, 1, 0) * 1000)


def ping_flood(c):
    for _ in range(300):
        c.send(frame(PING, 0, 0, b"12345678") * 1000)


def ping_ack_flood(c):
    for _ in range(300):
        c.send(frame(PING, 1, 0, b"12345678") * 1000)


def priority_flood(c):
    for i in range(300):
        c.send(frame(PRIORITY, 0, 1, b"\0\0\0\0\x10") * 1000)


def window_flood(c):
    for _ in range(300):
        c.send(frame(WINDOW, 0, 0, b"\0\0\0\1") * 1000)


def reset_flood(c):
    for stream in range(1, 200001, 2):
        c.send(frame(RST, 0, stream, b"\0\0\0\x08") * 3)


def empty_data_flood(c):
    c.send(frame(HEADERS, END_HEADERS, c.streams[-1], OK))
    for _ in range(300):
        c.send(frame(DATA, 0, c.streams[-1]) * 1000)


def interim_flood(c):
    for _ in range(300):
        c.send(frame(HEADERS, END_HEADERS, c.streams[-1], literal(b":status", b"103")) * 500)


def continuation_flood(c):
    c.send(frame(HEADERS, 0, c.streams[-1], OK))
    for _ in range(3000):
        c.send(frame(CONTINUATION, 0, c.streams[-1], literal(b"a", b"b" * 100) * 100))


def large_headers(c):
    c.send(frame(HEADERS, 0, c.streams[-1], OK))
    for _ in range(80):
        c.send(frame(CONTINUATION, 0, c.streams[-1], literal(b"a", b"b" * 16000)))
    c.send(frame(CONTINUATION, END_HEADERS, c.streams[-1], literal(b"a", b"b")))


def hpack_bomb(c):
    """One entry of 4,000 bytes in the table, and 16,000 references to it."""
    entry = b"\x40" + b"\x01a" + b"\x7f" + varint7(3900 - 127) + b"b" * 3900
    c.send(frame(HEADERS, END_HEADERS, c.streams[-1], OK + entry + b"\xbe" * 12000))


def table_size_games(c):
    c.send(frame(HEADERS, END_HEADERS, c.streams[-1], b"\x20\x3f\xe1\x1f" * 100 + OK))


def push_promise(c):
    c.send(frame(PUSH, END_HEADERS, c.streams[-1], b"\0\0\0\2" + OK))


def unknown_streams(c):
    c.send(frame(HEADERS, END_HEADERS, 2, OK) + frame(DATA, 0, 4, b"x") + frame(HEADERS, END_HEADERS, 99999, OK))


def no_window(c):
    c.send(frame(WINDOW, 0, 0, b"\0\0\0\0"))


def window_overflow(c):
    c.send(frame(WINDOW, 0, 0, b"\x7f\xff\xff\xff") * 3)


def illegal_settings(c):
    c.send(frame(SETTINGS, 0, 0, struct.pack(">HI", 5, 1)))


def illegal_window_setting(c):
    c.send(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0xFFFFFFFF)))


def bad_lengths(c):
    c.send(frame(SETTINGS, 0, 0, b"12345") + frame(PING, 0, 0, b"1") + frame(RST, 0, 1, b"1"))


def frame_too_large(c):
    c.send(b"\xff\xff\xff" + bytes([DATA, 0]) + b"\0\0\0\1" + b"x" * 100000)


def padding_beyond_the_frame(c):
    c.send(frame(HEADERS, END_HEADERS, c.streams[-1], OK) + frame(DATA, PADDED, c.streams[-1], b"\xff123"))


def data_before_headers(c):
    c.send(frame(DATA, 0, c.streams[-1], b"early"))


def data_after_the_end(c):
    c.send(frame(HEADERS, END_HEADERS | END_STREAM, c.streams[-1], OK) + frame(DATA, 0, c.streams[-1], b"late") * 100)


def data_beyond_the_window(c):
    c.send(frame(HEADERS, END_HEADERS, c.streams[-1], OK))
    for _ in range(6000):
        c.send(frame(DATA, 0, c.streams[-1], b"x" * 16384))


def no_status(c):
    c.send(frame(HEADERS, END_HEADERS, c.streams[-1], literal(b"a", b"b")))


def odd_statuses(c):
    c.send(frame(HEADERS, END_HEADERS, c.streams[-1], literal(b":status", b"abc")))


def two_statuses(c):
    c.send(frame(HEADERS, END_HEADERS, c.streams[-1], OK + OK))


def a_forged_reason(c):
    c.send(frame(HEADERS, END_HEADERS | END_STREAM, c.streams[-1],
                 literal(b":status", b"502") + literal(b"x-warning", FORGED)))


def a_forged_reason_with_control_bytes(c):
    c.send(frame(HEADERS, END_HEADERS | END_STREAM, c.streams[-1],
                 literal(b":status", b"502") + literal(b"x-warning", FORGED + b"\x1b[31m")))


def goaways_that_rise(c):
    for last in (1, 3, 99999, 0x7FFFFFFF):
        c.send(frame(GOAWAY, 0, 0, struct.pack(">II", last, 0)))


def frames_after_goaway(c):
    c.send(frame(GOAWAY, 0, 0, struct.pack(">II", 0, 1) + b"debug\x1b[31m" * 100))
    c.send(frame(HEADERS, END_HEADERS, c.streams[-1], OK) + frame(PING, 0, 0, b"12345678") * 10)


def refuses_for_ever(c):
    """REFUSED_STREAM for all that comes: tried again a bounded number of times."""
    seen = 0
    for _ in range(100):
        while seen < len(c.streams):
            c.send(frame(RST, 0, c.streams[seen], b"\0\0\0\x07"))
            seen += 1
        time.sleep(0.02)
    if len(c.streams) > 20:
        raise Failure(f"{len(c.streams)} requests")


def garbage(c):
    rng = random.Random(7)
    for _ in range(20):
        c.send(rng.randbytes(16384))


def valid_frames_at_random(c):
    rng = random.Random(8)
    for _ in range(3000):
        c.send(frame(rng.randrange(10), rng.randrange(256), rng.choice((0, 1, 3, 5, 2, 77)),
                     rng.randbytes(rng.choice((0, 1, 4, 5, 6, 8, 40)))))


H2_SCRIPTS = (settings_flood, ack_flood, ping_flood, ping_ack_flood, priority_flood, window_flood, reset_flood,
              empty_data_flood, interim_flood, continuation_flood, large_headers, hpack_bomb, table_size_games,
              push_promise, unknown_streams, no_window, window_overflow, illegal_settings, illegal_window_setting,
              bad_lengths, frame_too_large, padding_beyond_the_frame, data_before_headers, data_after_the_end,
              data_beyond_the_window, no_status, odd_statuses, two_statuses, a_forged_reason, a_forged_reason_with_control_bytes, goaways_that_rise,
              frames_after_goaway, refuses_for_ever, garbage, valid_frames_at_random)


# These hold a good answer, whatever comes after it.
ANSWERED = {"empty data flood", "table size games", "padding beyond the frame", "data after the end",
            "data beyond the window", "a frame longer than the stream", "unknown frames", "headers twice, then data",
            "empty data frames"}


def hostile_h2(t, script, greet=True):
    """A server whose first connection gets the script, and all further ones nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*t.leaf())
    context.set_alpn_protocols(["h2"])

    def handle(sock):
        first = server.connections == 1
        if not first:
            return
        tls = context.wrap_socket(sock, server_side=True)
        connection = RawH2(tls, greet)
        try:
            if greet:
                connection.wait_request()
            script(connection)
        except ConnectionError:
            pass
        except Failure as failure:
            server.failure = failure
        server.done.set()
        connection.closed.wait(5)
        tls.close()
    server = targets.Server(t, handle)
    server.failure = None
    server.done = threading.Event()
    return server


def survive(t, adit, done, name, seconds=30):
    """Sends a request into it and looks at what adit is like afterwards."""
    before = adit.rss()
    start = time.monotonic()
    sock = clients.dial(adit.port, 20)
    clients.socks5_greet(sock)
    sock.sendall(clients.socks5_request("localhost", 80) + b"payload")
    check(done.wait(seconds), f"{name}: the script is not done")
    try:
        rep = clients.socks5_reply(sock)
    except (clients.Closed, OSError):
        rep = "closed"
    took = time.monotonic() - start
    check(adit.running(), f"{name}: adit ended with {adit.process.returncode}")
    sock.close()
    grown = adit.rss() - before
    check(grown < 48 * MIB, f"{name}: adit grew by {grown // MIB} MiB")
    wait_until(lambda: idle(adit), 10, f"{name}: adit idles", step=0.1)
    lines = adit.stderr().splitlines()
    check(len(lines) < 200, f"{name}: {len(lines)} lines in the log")
    check(all(all(" " <= c for c in line) and len(line) <= 2100 for line in lines), f"{name}: a wild line in the log")
    t.note(f"{name}: {rep} after {took:.1f} s")
    wanted = (0,) if name in ANSWERED else (5,) if name == "a forged reason" else (1, 3, 4, 6, "closed")
    check(rep in wanted, f"{name}: REP {rep}")


def idle(adit, seconds=0.4):
    used = adit.cpu_seconds()
    time.sleep(seconds)
    return adit.cpu_seconds() - used <= 0.05


@case(seconds=300)
def over_http2(t):
    for script in H2_SCRIPTS:
        name = script.__name__.replace("_", " ")
        server = hostile_h2(t, script)
        adit = t.adit(server.port, upstream_protocol="http2", **PROMPT)
        survive(t, adit, server.done, name)
        check(server.failure is None, f"{name}: {server.failure}")
        check(server.connections < 10, f"{name}: {server.connections} connections")
        adit.stop()
        server.close()


@case()
def no_settings_over_http2(t):
    server = hostile_h2(t, lambda c: None, greet=False)
    adit = t.adit(server.port, upstream_protocol="http2", **PROMPT)
    survive(t, adit, server.done, "no settings")


# ---- HTTP/3 -----------------------------------------------------------------------------------------------------
def varint(n):
    if n < 64:
        return bytes([n])
    if n < 16384:
        return struct.pack(">H", n | 0x4000)
    return struct.pack(">I", n | 0x80000000) if n < 1 << 30 else struct.pack(">Q", n | 0xC000000000000000)


def h3_frame(kind, payload, size=None):
    return varint(kind) + varint(len(payload) if size is None else size) + payload


def qpack(name, value):
    """A literal with a literal name (of 7 to 134 bytes), RFC 9204 section 4.5.6."""
    size = bytes([len(value)]) if len(value) < 127 else b"\x7f" + varint7(len(value) - 127)
    return b"\x27" + bytes([len(name) - 7]) + name + size + value


H3_OK = h3_frame(1, b"\0\0\xd9")        # QPACK: ":status: 200"


def uni(session, *data):
    quic = session._quic
    stream = quic.get_next_available_stream_id(is_unidirectional=True)
    for piece in data:
        quic.send_stream_data(stream, piece)
    return stream


def on_control(data):
    return lambda s, sid: s._quic.send_stream_data(s.http._local_control_stream_id, data)


def on_request_stream(data, end=False):
    return lambda s, sid: s._quic.send_stream_data(sid, data, end_stream=end)


H3_SCRIPTS = {
    "control stream closed": lambda s, sid: s._quic.send_stream_data(s.http._local_control_stream_id, b"", True),
    "control stream reset": lambda s, sid: s._quic.reset_stream(s.http._local_control_stream_id, 0x100),
    "second control stream": lambda s, sid: uni(s, b"\0" + h3_frame(4, b"")),
    "second settings": on_control(h3_frame(4, b"")),
    "data on the control stream": on_control(h3_frame(0, b"x")),
    "headers on the control stream": on_control(H3_OK),
    "max push id from a server": on_control(h3_frame(13, b"\1")),
    "goaways that rise": on_control(b"".join(h3_frame(7, varint(n)) for n in (4, 8, 400000))),
    "goaway of another kind of stream": on_control(h3_frame(7, varint(3))),
    "a control frame of 1 GiB": on_control(h3_frame(0x21, b"x" * 1000, 1 << 30)),
    "a frame longer than the stream": on_request_stream(H3_OK + h3_frame(0, b"x", 1 << 61), True),
    "unknown frames": on_request_stream(h3_frame(0x21, b"x" * 1000) * 300 + H3_OK),
    "data before headers": on_request_stream(h3_frame(0, b"x")),
    "settings on a request stream": on_request_stream(h3_frame(4, b"")),
    "reserved frame": on_request_stream(h3_frame(6, b"12345678")),
    "push promise": on_request_stream(h3_frame(5, b"\0\0\0\xd9")),
    "a push stream": lambda s, sid: uni(s, b"\1\0" + H3_OK),
    "headers twice, then data": on_request_stream(H3_OK + H3_OK + h3_frame(0, b"x")),
    "empty data frames": on_request_stream(H3_OK + h3_frame(0, b"") * 100000),
    "interim answers": on_request_stream(h3_frame(1, b"\0\0\x27\x00:status\x03103") * 10000),
    "a large header section": on_request_stream(h3_frame(1, b"\0\0\xd9" + (b"\x21a\x7f\x81\x7c" + b"b" * 16000) * 100)),
    "a header section of 1 GiB": on_request_stream(h3_frame(1, b"\0\0\xd9", 1 << 30)),
    "QPACK: a bad index": on_request_stream(h3_frame(1, b"\0\0\xff\xff\x7f")),
    "QPACK: a dynamic reference": on_request_stream(h3_frame(1, b"\x05\0\x80")),
    "QPACK: encoder stream garbage": lambda s, sid: s._quic.send_stream_data(
        s.http._local_encoder_stream_id, b"\x3f\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),
    "QPACK: inserts beyond the table": lambda s, sid: s._quic.send_stream_data(
        s.http._local_encoder_stream_id, (b"\x41a\x7f\xa1\x1e" + b"b" * 4000) * 200),
    "QPACK: decoder stream garbage": lambda s, sid: s._quic.send_stream_data(
        s.http._local_decoder_stream_id, b"\x3f\xff\xff" * 1000),
    "QPACK: decoder stream closed": lambda s, sid: s._quic.send_stream_data(
        s.http._local_decoder_stream_id, b"", True),
    "no status": on_request_stream(h3_frame(1, b"\0\0\x21a\x01b")),
    "two statuses": on_request_stream(h3_frame(1, b"\0\0\xd9\xd9")),
    "upper-case header": on_request_stream(h3_frame(1, b"\0\0\xd9\x21A\x01b")),
    "a forged reason": on_request_stream(h3_frame(1, b"\0\0" + qpack(b":status", b"502")
                                                  + qpack(b"x-warning", FORGED)), True),
    "reset at once": lambda s, sid: s._quic.reset_stream(sid, 0x107),
    "stop at once": lambda s, sid: s._quic.stop_stream(sid, 0x107),
    "closed with an error": lambda s, sid: s.close(0x107, "x\x1b[31m" * 20),
    "closed for the credentials": lambda s, sid: s.close(0x1F, ""),
    "key update": lambda s, sid: [s.request_key_update() for _ in range(1)],
    "many connection ids retired": lambda s, sid: [s.change_connection_id() for _ in range(3)],
}


class HostileH3:
    """A QUIC server in a thread whose first connection runs the script at its second request."""

    def __init__(self, t, script):
        from aioquic.asyncio.server import QuicServer
        from aioquic.quic.configuration import QuicConfiguration

        from h3io import H3Session
        self.done = threading.Event()
        self.sessions = 0
        self.port = None
        self.error = None
        hostile = self

        class Session(H3Session):
            def on_up(self):
                hostile.sessions += 1
                self.first = hostile.sessions == 1
                self.count = 0

            def on_request(self, stream, ended):
                self.count += 1
                if self.first and self.count == 2:
                    try:
                        script(self, stream.sid)
                    except Exception as error:
                        hostile.error = error
                    self.transmit()
                    hostile.done.set()

        async def serve():
            quic = QuicConfiguration(is_client=False, alpn_protocols=["h3"], max_datagram_size=1350)
            quic.load_cert_chain(*t.leaf())
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(("127.0.0.1", 0))
            self.port = sock.getsockname()[1]
            await asyncio.get_running_loop().create_datagram_endpoint(lambda: QuicServer(
                configuration=quic, create_protocol=lambda q, stream_handler=None: Session(q, stream_handler)), sock=sock)
            await asyncio.Event().wait()
        threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
        wait_until(lambda: self.port, 10, "the hostile server")


@case(seconds=400)
def over_http3(t):
    t.shared.need_python_stacks()
    for name, script in H3_SCRIPTS.items():
        server = HostileH3(t, script)
        adit = t.adit(server.port, upstream_protocol="http3", **PROMPT)
        survive(t, adit, server.done, name)
        check(server.error is None, f"{name}: the script itself failed: {server.error!r}")
        check(server.sessions < 10, f"{name}: {server.sessions} sessions")
        adit.stop()


@case(seconds=60)
def noise_over_udp(t):
    """Datagrams of noise, and answers to an Initial that nobody could have meant."""
    rng = random.Random(9)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    t.defer(sock.close)
    done = threading.Event()

    def answer():
        for i in range(400):
            try:
                data, peer = sock.recvfrom(2048)
            except OSError:
                return
            size = data[5]
            theirs, ours = data[6:6 + size], data[7 + size:7 + size + data[6 + size]]
            swapped = bytes([len(ours)]) + ours + bytes([len(theirs)]) + theirs
            for reply in (rng.randbytes(rng.randrange(1, 1500)), b"", data, data[:30],
                          b"\x80\0\0\0\0" + swapped + b"\x1a\x2a\x3a\x4a",                 # other versions only
                          b"\x80\0\0\0\0" + swapped,                                       # no version at all
                          b"\xf0\0\0\0\1" + swapped + b"token" + rng.randbytes(16),        # Retry, forged
                          b"\xc0\0\0\0\1" + swapped + b"\0\x44\xd0" + rng.randbytes(1200)):
                sock.sendto(reply, peer)
            done.set()
    threading.Thread(target=answer, daemon=True).start()
    adit = t.adit(sock.getsockname()[1], upstream_protocol="http3", **PROMPT)
    survive(t, adit, done, "noise")


if __name__ == "__main__":
    main()
