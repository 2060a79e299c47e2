#!/usr/bin/env python3
"""Plain HTTP requests in absolute form, passed on by the mixed listener: what arrives, what comes back, what is refused."""
import json
import re
import socket
import threading
import time

import clients
import targets
from clients import Closed, curl, dial, http_answer, http_raw, read_exactly
from harness import BOTH, H2_H3, PY, case, check, main, wait_until

MIB = 1 << 20


# ---- an origin that says exactly what a case wants said ---------------------------------------------------------------
class Origin:
    """Answers every request with answer(head, body reader, socket); keeps the heads as they came, with the connection's
    number. The answer function returns False to close."""

    def __init__(self, t, answer):
        self.heads = []
        self.answer = answer
        self.server = targets.Server(t, self.handle)
        self.port = self.server.port

    def handle(self, sock):
        with self.server.lock:
            number = self.server.connections
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                piece = sock.recv(65536)
                if not piece:
                    return
                data += piece
            head, _, data = data.partition(b"\r\n\r\n")
            self.heads.append((number, head.decode("latin-1")))
            rest = self.answer(head.decode("latin-1"), data, sock)
            if rest is False:
                return
            data = rest if isinstance(rest, bytes) else data

    @property
    def connections(self):
        return self.server.connections

    def lines(self, at=-1):
        return self.heads[at][1].split("\r\n")


def says(t, text):
    """An origin with one answer to everything."""
    raw = text if isinstance(text, bytes) else text.encode("latin-1")

    def answer(head, data, sock):
        sock.sendall(raw)
    return Origin(t, answer)


OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def url(origin, path="/", host="localhost"):
    return f"http://{host}:{origin.port}{path}"


def get(origin, path="/", extra="", method="GET", version="HTTP/1.1", host="localhost"):
    return f"{method} {url(origin, path, host)} {version}\r\nHost: {host}\r\n{extra}\r\n"


class Conn:
    """A client's connection with several requests on it."""

    def __init__(self, port, timeout=20):
        self.sock = dial(port, timeout)
        self.data = b""

    def send(self, text):
        self.sock.sendall(text if isinstance(text, bytes) else text.encode("latin-1"))

    def more(self):
        try:
            piece = self.sock.recv(65536)
        except ConnectionError as error:
            raise Closed("reset") from error
        if not piece:
            raise Closed(f"closed after {self.data[:100]!r}")
        self.data += piece

    def take(self, n):
        while len(self.data) < n:
            self.more()
        taken, self.data = self.data[:n], self.data[n:]
        return taken

    def head(self):
        while b"\r\n\r\n" not in self.data:
            self.more()
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        return clients.HttpAnswer(self.sock, head, b"")

    def response(self, method="GET"):
        """(answer, body), by the response's framing."""
        answer = self.head()
        if method == "HEAD" or answer.status in (204, 304) or answer.status < 200:
            return answer, b""
        if answer.headers.get("transfer-encoding") == "chunked":
            body = b""
            while True:
                while b"\r\n" not in self.data:
                    self.more()
                line, _, self.data = self.data.partition(b"\r\n")
                size = int(line.split(b";")[0], 16)
                if not size:
                    break
                body += self.take(size)
                check(self.take(2) == b"\r\n", "chunk end")
            while self.take(2) != b"\r\n":
                while b"\r\n" not in self.data:
                    self.more()
                self.data = self.data.partition(b"\r\n")[2]
            return answer, body
        if "content-length" in answer.headers:
            return answer, self.take(int(answer.headers["content-length"]))
        body = self.data + clients.read_all(self.sock)
        self.data = b""
        return answer, body

    def is_closed(self):
        return not self.data and clients.is_closed(self.sock)


def status_of(port, text):
    return http_raw(port, text).status


def proxy_error(answer):
    found = re.search(r"error=([a-z_]+)", answer.headers.get("proxy-status", ""))
    return found and found[1]


def through(adit):
    return ("-x", f"http://127.0.0.1:{adit.port}")


# ---- what is passed on ------------------------------------------------------------------------------------------------
@case(endpoints=BOTH, transports=H2_H3)
def curl_fetches_and_posts(t):
    endpoint, origin = t.endpoint(), targets.http_server(t)
    adit = t.adit(endpoint)
    base = f"http://localhost:{origin.port}"
    check(curl(*through(adit), f"{base}/bytes/{2 * MIB}").stdout == targets.pattern(0, 2 * MIB), "wrong bytes")
    data = targets.pattern(0, MIB)
    with open(t.path("data"), "wb") as file:
        file.write(data)
    want = {"n": MIB, "sha256": targets.pattern_sha256(MIB)}
    for extra in ((), ("-H", "Transfer-Encoding: chunked"), ("-H", "Expect:"), ("-0",)):
        done = curl(*through(adit), *extra, "-T", t.path("data"), f"{base}/upload")
        check(json.loads(done.stdout) == want, extra, done.stdout)
    done = curl(*through(adit), "-I", f"{base}/bytes/77")
    check(b"content-length: 77" in done.stdout.lower(), done.stdout)
    record = adit.wait_record(protocol="http", dest=f"localhost:{origin.port}", reason="ok")
    check(int(record["down"]) > 2 * MIB and record["by"] == "target", record)
    endpoint.check_clean()


@case(endpoints=BOTH, transports=("http2",))
def the_head_as_the_origin_sees_it(t):
    adit, origin = t.adit(t.endpoint()), says(t, OK)
    request = (f"GET http://LOCALHOST:{origin.port}/a/%7e?b=c;d HTTP/1.1\r\nHost: evil.test\r\nUser-Agent: x\r\n"
               "Proxy-Authorization: Basic YTpi\r\nProxy-Connection: keep-alive\r\nConnection: X-Hop, keep-alive\r\n"
               "X-Hop: 1\r\nKeep-Alive: 3\r\nTE: trailers\r\nUpgrade: foo\r\nCookie: a=b\r\nX-Bytes: \xe9\r\n\r\n")
    answer = http_raw(adit.port, request)
    check(answer.status == 200, answer)
    check(origin.lines() == ["GET /a/%7e?b=c;d HTTP/1.1", f"Host: localhost:{origin.port}", "User-Agent: x", "Cookie: a=b",
                             "X-Bytes: \xe9"], origin.lines())
    check("via" not in answer.headers, answer)


@case(endpoints=BOTH, transports=H2_H3)
def one_connection_many_requests(t):
    """The client's connection and the stream to the origin serve them all; a record each."""
    endpoint, origin = t.endpoint(), says(t, OK)
    adit = t.adit(endpoint)
    conn = Conn(adit.port)
    for i in range(5):
        conn.send(get(origin, f"/{i}"))
        answer, body = conn.response()
        check(answer.status == 200 and body == b"ok", answer)
        check("close" not in answer.headers.get("connection", ""), answer)
    check([h.split()[1] for _, h in origin.heads] == [f"/{i}" for i in range(5)], origin.heads)
    check(origin.connections == 1, f"{origin.connections} connections to the origin")
    wait_until(lambda: len(adit.records()) == 5, what="five records")
    check(all(r["reason"] == "ok" and r["by"] == "target" for r in adit.records()), adit.records())
    endpoint.check_clean()


@case(endpoints=BOTH, transports=("http2",))
def two_origins_do_not_mix(t):
    adit = t.adit(t.endpoint())
    one, two = says(t, OK.replace("ok", "11")), says(t, OK.replace("ok", "22"))
    conn = Conn(adit.port)
    conn.send("".join(get(o, f"/{i}") for i, o in enumerate((one, two, one, one, two))))
    got = [conn.response()[1] for _ in range(5)]
    check(got == [b"11", b"22", b"11", b"11", b"22"], got)
    check([h.split()[1] for _, h in one.heads] == ["/0", "/2", "/3"], one.heads)
    check([h.split()[1] for _, h in two.heads] == ["/1", "/4"], two.heads)


@case(endpoints=BOTH, transports=("http2",))
def pipelined_requests_wait_their_turn(t):
    gate = threading.Event()
    t.defer(gate.set)

    def answer(head, data, sock):
        if "/slow" in head:
            gate.wait(10)
        body = head.split()[1].encode()
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    adit, origin = t.adit(t.endpoint()), Origin(t, answer)
    conn = Conn(adit.port)
    conn.send(get(origin, "/slow") + get(origin, "/second") + get(origin, "/third", "Connection: close\r\n"))
    time.sleep(0.5)
    check(len(origin.heads) == 1, "the second request did not wait")
    gate.set()
    bodies = [conn.response() for _ in range(3)]
    check([b for _, b in bodies] == [b"/slow", b"/second", b"/third"], bodies)
    check(bodies[2][0].headers.get("connection") == "close" and conn.is_closed(), "not closed after close")


@case(endpoints=BOTH, transports=H2_H3)
def bodies_of_both_kinds_both_ways(t):
    """Chunked and with a length, byte by byte and at once; trailers and extensions arrive."""
    seen = []

    def answer(head, data, sock):
        conn = Conn.__new__(Conn)
        conn.sock, conn.data = sock, data
        if "chunked" in head:
            while not conn.data.endswith(b"\r\n\r\n"):
                conn.more()
            seen.append(conn.data)
            sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
                         b"3;ext=1\r\nabc\r\n5\r\ndefgh\r\n0\r\nX-Sum: 8\r\n\r\n")
        else:
            seen.append(conn.take(8))
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nabcdefgh")
        return b""
    endpoint, origin = t.endpoint(), Origin(t, answer)
    adit = t.adit(endpoint)
    chunked = b"4;a=b\r\nwxyz\r\n004\r\nWXYZ\r\n0\r\nX-T: 1\r\n\r\n"
    conn = Conn(adit.port)
    for slow in (False, True):
        for framing, body in (("Transfer-Encoding: chunked\r\n", chunked), ("Content-Length: 8\r\n", b"12345678")):
            conn.send(get(origin, extra=framing, method="POST"))
            for piece in ([body[i:i + 1] for i in range(len(body))] if slow else [body]):
                conn.send(piece)
                time.sleep(0.002 if slow else 0)
            answer_, got = conn.response()
            check(got == b"abcdefgh" and seen[-1] == body, got, seen[-1:])
    check(answer_.headers.get("content-length") == "8", answer_)
    check(origin.connections == 1, f"{origin.connections} connections")
    endpoint.check_clean()


@case(endpoints=BOTH, transports=("http2",))
def responses_without_a_body(t):
    replies = {"/head": "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
               "/chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
               "/204": "HTTP/1.1 204 No Content\r\n\r\n", "/204length": "HTTP/1.1 204 x\r\nContent-Length: 5\r\n\r\n",
               "/304": "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\nETag: x\r\n\r\n",
               "/0": "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}

    def answer(head, data, sock):
        sock.sendall(replies[head.split()[1]].encode())
    adit, origin = t.adit(t.endpoint()), Origin(t, answer)
    conn = Conn(adit.port)
    for path, method, status, length in (("/head", "HEAD", 200, "1000"), ("/chunked", "HEAD", 200, None),
                                         ("/204", "GET", 204, None), ("/204length", "GET", 204, None),
                                         ("/304", "GET", 304, "9"), ("/0", "GET", 200, "0"), ("/head", "HEAD", 200, "1000")):
        conn.send(get(origin, path, method=method))
        got, body = conn.response(method)
        check(got.status == status and body == b"" and not conn.data, path, got)
        check(got.headers.get("content-length") == length and "transfer-encoding" not in got.headers, path, got)
    check(origin.connections == 1, "the connection was not kept")


@case(endpoints=BOTH, transports=H2_H3)
def a_body_up_to_the_end_of_the_connection(t):
    def answer(head, data, sock):
        sock.sendall(b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n" + targets.pattern(0, 300000))
        return False
    endpoint, origin = t.endpoint(), Origin(t, answer)
    adit = t.adit(endpoint)
    conn = Conn(adit.port)
    conn.send(get(origin))
    got, body = conn.response()
    check(body == targets.pattern(0, 300000), f"{len(body)} bytes")
    check(got.headers.get("connection") == "close", got)
    check(adit.wait_record(protocol="http")["reason"] == "ok", adit.records())


@case(endpoints=BOTH, transports=("http2",))
def old_clients_and_old_origins(t):
    """HTTP/1.0 clients get no chunks, no 1xx and no second request; HTTP/1.0 origins are kept when they say so."""
    adit = t.adit(t.endpoint())
    origin = says(t, "HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                  "2;x\r\nab\r\n3\r\ncde\r\n0\r\nT: 1\r\n\r\n")
    conn = Conn(adit.port)
    conn.send(get(origin, version="HTTP/1.0", extra="Connection: keep-alive\r\nExpect: 100-continue\r\n"))
    got, body = conn.response()
    check(got.status == 200 and body == b"abcde" and got.headers.get("connection") == "close", got, body)
    check("transfer-encoding" not in got.headers, got)
    check(origin.lines()[0].endswith("HTTP/1.1") and not any("xpect" in x for x in origin.lines()), origin.lines())
    for extra, connections in (("Connection: keep-alive\r\n", 1), ("", 2)):
        old = says(t, f"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n{extra}\r\nok")
        conn = Conn(adit.port)
        for _ in range(2):
            conn.send(get(old))
            got, body = conn.response()
            check(body == b"ok" and got.head.startswith(b"HTTP/1.1 200") and "connection" not in got.headers, got)
        check(old.connections == connections, f"{extra!r}: {old.connections}")


@case(endpoints=BOTH, transports=H2_H3)
def expect_100_continue(t):
    def answer(head, data, sock):
        if "Expect: 100-continue" not in head:
            return False
        if "/no" in head:
            sock.sendall(b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
            return False
        sock.sendall(b"HTTP/1.1 100 Continue\r\nX-I: 1\r\n\r\n")
        got = data + read_exactly(sock, 5 - len(data))
        sock.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + got)
        return b""
    endpoint, origin = t.endpoint(), Origin(t, answer)
    adit = t.adit(endpoint)
    conn = Conn(adit.port)
    request = dict(method="PUT", extra="Expect: 100-continue\r\nContent-Length: 5\r\n")
    conn.send(get(origin, **request))
    check(conn.head().status == 100, "no 100")
    conn.send("hello")
    check(conn.head().status == 103, "no 103")
    got, body = conn.response()
    check(got.status == 200 and body == b"hello", got)
    conn.send(get(origin, "/no", **request))
    got, _ = conn.response()
    check(got.status == 417 and got.headers.get("connection") == "close", got)
    check(conn.is_closed(), "half a request, and the connection goes on")


@case(endpoints=BOTH, transports=H2_H3)
def an_upgrade_becomes_a_tunnel(t):
    def answer(head, data, sock):
        check("Upgrade: websocket" in head and "Connection: upgrade" in head, head)
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x02hi")
        while True:
            data = data or sock.recv(65536)
            if not data:
                sock.sendall(b"bye")
                return False
            sock.sendall(data)
            data = b""
    endpoint, origin = t.endpoint(), Origin(t, answer)
    adit = t.adit(endpoint)
    conn = Conn(adit.port)
    conn.send(get(origin, extra="Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n") + "GET early\r\n\r\n")
    got = conn.head()
    check(got.status == 101 and got.headers.get("upgrade") == "websocket", got)
    check(got.headers.get("connection") == "upgrade", got)
    check(conn.take(4) == b"\x81\x02hi" and conn.take(13) == b"GET early\r\n\r\n", "wrong bytes")
    check(clients.ping(conn.sock, b"\0\xff" * 100), "no echo")
    conn.sock.shutdown(socket.SHUT_WR)
    check(clients.read_all(conn.sock) == b"bye", "half-close")
    record = adit.wait_record(protocol="http")
    check(record["reason"] == "ok" and int(record["up"]) > 213, record)


@case(endpoints=(PY,), transports=("http2",))
def an_upgrade_that_is_refused_or_not_asked_for(t):
    adit, origin = t.adit(t.endpoint()), says(t, OK)
    conn = Conn(adit.port)
    for _ in range(2):
        conn.send(get(origin, extra="Connection: Upgrade\r\nUpgrade: websocket\r\n"))
        check(conn.response()[1] == b"ok", "no 200")
    conn.send(get(origin, extra="Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"))
    check(conn.response()[1] == b"ok" and not any("pgrade" in x or "HTTP2" in x for x in origin.lines()), origin.lines())
    unasked = says(t, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
    answer = http_raw(adit.port, get(unasked))
    check(answer.status == 502 and proxy_error(answer) == "http_protocol_error", answer)


@case(endpoints=(PY,), transports=("http2",))
def a_connect_after_a_request(t):
    endpoint, origin, echo = t.endpoint(), says(t, OK), targets.echo(t)
    adit = t.adit(endpoint)
    conn = Conn(adit.port)
    conn.send(get(origin))
    check(conn.response()[1] == b"ok", "no answer")
    conn.send(f"CONNECT localhost:{echo.port} HTTP/1.1\r\nHost: x\r\n\r\n")
    check(conn.head().status == 200 and clients.ping(conn.sock), "no tunnel")


# ---- what goes wrong --------------------------------------------------------------------------------------------------
@case(endpoints=BOTH, transports=H2_H3)
def a_kept_connection_that_is_gone_is_replaced_once(t):
    """The origin closes after each response without saying so: a GET is sent again, and only if nothing came back."""
    def answer(head, data, sock):
        if "/first" in head:
            sock.sendall(OK.encode())
            return None
        with server.lock:
            server.seconds += 1
            if server.seconds == 1:
                return False        # on the kept connection: nothing comes back
        sock.sendall(OK.encode())
        return False
    endpoint = t.endpoint()
    adit = t.adit(endpoint)
    origin = Origin(t, answer)
    server = origin.server
    server.seconds = 0
    conn = Conn(adit.port)
    conn.send(get(origin, "/first"))
    check(conn.response()[1] == b"ok", "no answer")
    conn.send(get(origin, "/second"))
    check(conn.response()[1] == b"ok" and server.seconds == 2, f"seen {server.seconds} times")
    wait_until(lambda: len(adit.records()) == 2, what="two records")
    endpoint.check_clean()


@case(endpoints=(PY,), transports=("http2",))
def nothing_is_sent_twice_without_need(t):
    """A first attempt, a POST, and a response that has begun are never repeated."""
    def answer(head, data, sock):
        if "/begun" in head and len(origin.heads) > 1:
            sock.sendall(b"HTTP/1.1 2")
            return False
        if "/ok" in head or "/begun" in head:
            sock.sendall(OK.encode())
            return None
        return False
    adit, origin = t.adit(t.endpoint()), None
    for method, paths in (("GET", ["/x"]), ("POST", ["/ok", "/x"]), ("GET", ["/begun", "/begun"])):
        origin = Origin(t, answer)
        conn = Conn(adit.port)
        for path in paths[:-1]:
            conn.send(get(origin, path))
            check(conn.response()[0].status == 200, path)
        conn.send(get(origin, paths[-1], method=method, extra="Content-Length: 0\r\n" if method == "POST" else ""))
        got, body = conn.response()
        check(got.status == 502 and proxy_error(got) == "http_response_incomplete", got)
        check(len(origin.heads) == len(paths), method, origin.heads)
        check(conn.is_closed(), "not closed")


@case(endpoints=BOTH, transports=("http2",))
def broken_response_heads_are_502(t):
    adit = t.adit(t.endpoint())
    for text, error in (
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "http_protocol_error"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "http_protocol_error"),
            ("HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n", "http_protocol_error"),
            ("HTTP/1.1 200 OK\nContent-Length: 0\n\n", "http_protocol_error"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "http_protocol_error"),
            ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "http_protocol_error"),
            ("SSH-2.0-OpenSSH_9.2\r\n", "http_protocol_error"), ("\r\n", "http_protocol_error"),
            ("HTTP/1.1 100 Continue\r\n\r\n" * 200, None),
            ("HTTP/1.1 200 OK\r\nA: " + "x" * 70000 + "\r\n\r\n", "http_response_header_section_size")):
        origin = says(t, text)
        conn = Conn(adit.port)
        conn.send(get(origin))
        got = conn.head()
        while got.status == 100:
            got = conn.head()
        check(got.status == 502 and error in (None, proxy_error(got)), f"{text[:70]!r} gave", got)
        check("<script" not in got.head.decode("latin-1"), got)
        check(adit.wait_record(dest=f"localhost:{origin.port}")["by"] == "target", adit.records()[-1:])


@case(endpoints=BOTH, transports=H2_H3)
def a_broken_body_resets_the_client(t):
    adit = t.adit(t.endpoint())

    def closes(text):
        def answer(head, data, sock):
            sock.sendall(text.encode())
            return False
        return Origin(t, answer)
    for text, reason in (("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", "target-closed"),
                         ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "target-closed"),
                         ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!!\r\n0\r\n\r\n", "target-protocol"),
                         ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", "target-protocol")):
        origin = closes(text)
        sock = dial(adit.port)
        sock.sendall(get(origin).encode())
        try:
            data = clients.read_all(sock)
        except Closed:
            data = None
        check(data is None, f"{text[:60]!r}: a clean end after {data!r}")
        check(adit.wait_record(dest=f"localhost:{origin.port}")["reason"] == reason, adit.records()[-1:])


@case(endpoints=(PY,), transports=("http2",))
def bytes_behind_a_response_serve_nobody(t):
    """A response smuggled behind another one must not become the answer to the next request."""
    adit = t.adit(t.endpoint())
    origin = says(t, OK + "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    conn = Conn(adit.port)
    for _ in range(3):
        conn.send(get(origin))
        got, body = conn.response()
        check(got.status == 200 and body == b"ok", got, body)
        time.sleep(0.1)
    check(origin.connections == 3, origin.connections)


@case(endpoints=(PY,), transports=("http2",))
def smuggled_requests_are_refused(t):
    """hostile.md B 4 to 7, 10, 11 and 13 in absolute form: 400 or another refusal, and nothing reaches the origin."""
    adit, origin = t.adit(t.endpoint()), says(t, OK)
    first = f"POST {url(origin)} HTTP/1.1\r\nHost: x\r\n"
    for text, statuses in (
            (first + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (400,)),
            (first + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", (400,)),
            (first + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", (400,)),
            (first + "Content-Length: 5, 5\r\n\r\nhello", (400,)), (first + "Content-Length: +5\r\n\r\nhello", (400,)),
            (first + "Content-Length: 0x5\r\n\r\nhello", (400,)),
            (first + "Content-Length: 9223372036854775808\r\n\r\n", (400,)),
            (first + "Transfer-Encoding: xchunked\r\n\r\n", (400,)),
            (first + "Transfer-Encoding: chunked, identity\r\n\r\n", (400,)),
            (first + "Transfer-Encoding: gzip, chunked\r\n\r\n", (400, 501)),
            (first + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", (400,)),
            (first + "Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", (400,)),
            (first + "X: y\r\n Content-Length: 5\r\n\r\nhello", (400,)),
            (first + "X: y\nContent-Length: 5\r\n\r\nhello", (400,)), (first + "X: y\rZ: z\r\n\r\n", (400,)),
            (first + "Host: y\r\n\r\n", (400,)), (first + "X: a\0b\r\n\r\n", (400,)),
            (f"POST {url(origin)} HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (400,)),
            (f"GET {url(origin)}\r\n\r\n", (505,)), (f"GET {url(origin)} HTTP/2.0\r\n\r\n", (505,)),
            (f"GET  {url(origin)} HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
            (f"GET {url(origin)} HTTP/1.1\r\n\r\n", (400,)),
            (f"GET http://me:secret@localhost:{origin.port}/ HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
            (f"GET https://localhost:{origin.port}/ HTTP/1.1\r\nHost: x\r\n\r\n", (400, 501)),
            (f"GET ftp://localhost:{origin.port}/ HTTP/1.1\r\nHost: x\r\n\r\n", (400, 501)),
            (f"GET {url(origin, '/#f')} HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
            (f"GET / HTTP/1.1\r\nHost: localhost:{origin.port}\r\n\r\n", (400,)),
            ("GET http://_check/ HTTP/1.1\r\nHost: x\r\n\r\n", (400,)), ("GET http:///x HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
            ("GET http://h:0/ HTTP/1.1\r\nHost: x\r\n\r\n", (400,)), ("GET http://h:99999/ HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
            (f"GET http://127.1:{adit.port}/ HTTP/1.1\r\nHost: x\r\n\r\n", (403,)),
            (f"OPTIONS {url(origin)} HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n\r\n", (501,))):
        answer = http_raw(adit.port, text)
        check(answer.status in statuses, f"{text!r} gave {answer}")
        check(answer.headers.get("connection") == "close", answer)
        check(b"<script" not in answer.body() and "secret" not in adit.stderr(), "not harmless")
    check(not origin.heads, "reached the origin:", origin.heads)


@case(endpoints=(PY,), transports=("http2",))
def broken_request_bodies(t):
    """A bad chunk is a 400 for the client, and a reset for the origin, which never sees a complete request."""
    adit, silent = t.adit(t.endpoint()), targets.silent(t)
    for body in ("0x5\r\nhello\r\n", "+5\r\nhello", "5 \r\nhello", "5\nhello\r\n0\r\n\r\n", "5\r\nhello!\r\n", "g\r\n", "-1\r\n",
                 "8000000000000000\r\n", "5;a\nb\r\nhello", "0\r\nA : b\r\n\r\n", "0\r\nA: b\r\n c\r\n\r\n", "1;" + "x" * 5000):
        answer = http_raw(adit.port, get(silent, method="POST", extra="Transfer-Encoding: chunked\r\n") + body)
        check(answer.status == 400, f"{body[:40]!r} gave {answer}")
    wait_until(lambda: silent.ended == silent.connections, what="the origin's connections end")
    for body, extra in (("hel", "Content-Length: 5\r\n"), ("5\r\nhello\r\n", "Transfer-Encoding: chunked\r\n")):
        before = silent.ended
        sock = dial(adit.port)
        sock.sendall((get(silent, method="POST", extra=extra) + body).encode())
        time.sleep(0.3)
        sock.close()
        wait_until(lambda: silent.ended > before, what="half a request ends at the origin")


@case(endpoints=(PY,), transports=("http2",))
def error_pages(t):
    """Short, escaped, with the reason; without a body for HEAD."""
    adit = t.adit(t.endpoint())
    port = targets.refused_port(t)
    answer = http_raw(adit.port, f"GET http://localhost:{port}/<script> HTTP/1.1\r\nHost: x\r\n\r\n")
    check(answer.status == 502 and proxy_error(answer) == "connection_refused", answer)
    check(answer.headers["content-type"] == "text/html; charset=utf-8" and "nosniff" in str(answer.headers), answer)
    page = answer.body()
    check(len(page) == int(answer.headers["content-length"]) < 2000 and b"refused" in page and b"<script" not in page, page)
    answer = http_raw(adit.port, f"HEAD http://localhost:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n")
    check(answer.status == 502 and answer.body() == b"" and int(answer.headers["content-length"]) > 0, answer)
    for code, status in ((301, 502), (302, 504), (310, 403)):
        check(status_of(adit.port, f"GET http://warn-{code}.test/ HTTP/1.1\r\nHost: x\r\n\r\n") == status, code)


@case(endpoints=(PY,), transports=("http2",))
def credentials_stay_here(t):
    adit = t.adit(t.endpoint(), listener=dict(username="app", password="app-pass"))
    origin = says(t, "HTTP/1.1 407 Mine\r\nProxy-Authenticate: Basic realm=\"trap\"\r\nContent-Length: 0\r\n\r\n")
    for extra in ("", "Proxy-Authorization: Basic !!\r\n", f"Proxy-Authorization: {clients.basic('app', 'no')}\r\n",
                  f"Authorization: {clients.basic('app', 'app-pass')}\r\n"):
        answer = http_raw(adit.port, get(origin, extra=extra))
        check(answer.status == 407 and "adit" in answer.headers["proxy-authenticate"], extra, answer)
    check(not origin.heads, "reached the origin without credentials")
    conn = Conn(adit.port)
    auth = f"Proxy-Authorization: {clients.basic('app', 'app-pass')}\r\n"
    conn.send(get(origin, extra=auth))
    answer, _ = conn.response()
    check(answer.status == 407 and "proxy-authenticate" not in answer.headers, "an origin asks for the proxy's password")
    check(not any("roxy-" in line for line in origin.lines()), origin.lines())
    conn.send(get(origin))      # each request brings its own
    check(conn.head().headers.get("proxy-authenticate"), "served without credentials")
    check(len(origin.heads) == 1, origin.heads)


@case(endpoints=(PY,), transports=("http2",))
def the_pac_file_is_served_only_where_it_is_enabled(t):
    endpoint = t.endpoint()
    ask = "GET /proxy.pac HTTP/1.1\r\nHost: whatever.test\r\n\r\n"
    check(status_of(t.adit(endpoint).port, ask) == 400, "served though nobody asked")
    for listener, more in ((dict(pac=True), True), (dict(pac=True, username="app", password="app-pass"), False),
                           (dict(pac=True, protocols=["http"]), False)):
        adit = t.adit(endpoint, listener=listener)
        answer = http_raw(adit.port, ask)
        check(answer.status == 200 and answer.headers["content-type"] == "application/x-ns-proxy-autoconfig", answer)
        check("access-control-allow-origin" not in answer.headers, answer)
        body = answer.body().decode()
        check(len(body) == int(answer.headers["content-length"]), body)
        want = f'"PROXY 127.0.0.1:{adit.port}' + (f'; SOCKS5 127.0.0.1:{adit.port}";' if more else '";')
        check(want in body and "DIRECT" not in body and "app" not in body, body)
        answer = http_raw(adit.port, ask.replace("GET", "HEAD"))
        check(answer.status == 200 and answer.body() == b"", answer)
        for other in (ask.replace("GET", "POST"), ask.replace("/proxy.pac", "/proxy.pac?x"), ask.replace("/proxy", "/../proxy"),
                      ask.replace("/proxy.pac", "/"), ask.replace("/proxy.pac", "//proxy.pac")):
            check(status_of(adit.port, other) in (400, 407), other)
        adit.wait_record(reason="ok", dest="-")
        adit.stop()
    adit = t.adit(endpoint, listener=dict(pac=True, address="0.0.0.0:0", allow_open=True), wait=False)
    port = int(adit.wait_log(r"address=0\.0\.0\.0:(\d+)")[1])
    check(f'"PROXY 127.0.0.1:{port}' in http_raw(port, ask).body().decode(), "the address at which it was reached")
    check(not endpoint.requests(), "reached the endpoint")


@case(endpoints=BOTH, transports=H2_H3, seconds=90)
def slow_readers_do_not_grow_memory(t):
    endpoint, origin = t.endpoint(), targets.http_server(t)
    adit = t.adit(endpoint, stream_window="1MiB")
    conn = Conn(adit.port)
    conn.send(get(origin, f"/bytes/{64 * MIB}"))
    conn.head()
    before = adit.rss()
    time.sleep(2)
    check(adit.rss() - before < 24 * MIB, f"grew by {(adit.rss() - before) >> 20} MiB")
    used = adit.cpu_seconds()
    time.sleep(1)
    check(adit.cpu_seconds() - used < 0.3, "busy while the reader is stuck")
    n = len(conn.data)
    digest = targets.hashlib.sha256(conn.data)
    while n < 64 * MIB:
        piece = conn.sock.recv(MIB)
        digest.update(piece)
        n += len(piece)
    check(digest.hexdigest() == targets.pattern_sha256(64 * MIB), "wrong bytes")


@case(endpoints=(PY,), transports=("http2",))
def a_second_head_has_a_deadline_too(t):
    adit, origin = t.adit(t.endpoint(), listener=dict(handshake_timeout="1s")), says(t, OK)
    conn = Conn(adit.port)
    for _ in range(2):
        conn.send(get(origin))
        check(conn.response()[1] == b"ok", "no answer")
        time.sleep(1.5)         # waiting costs nothing
    conn.send("GET http://x/ HT")
    start = time.monotonic()
    check(conn.head().status == 408 and time.monotonic() - start < 4, "late")


@case(endpoints=(PY,), transports=("http2",))
def stopping_ends_idle_connections_and_not_exchanges(t):
    gate = threading.Event()
    t.defer(gate.set)

    def answer(head, data, sock):
        if "/slow" in head:
            gate.wait(10)
        sock.sendall(OK.encode())
    adit, origin = t.adit(t.endpoint()), Origin(t, answer)
    idle, busy = Conn(adit.port), Conn(adit.port)
    idle.send(get(origin))
    check(idle.response()[1] == b"ok", "no answer")
    busy.send(get(origin, "/slow"))
    wait_until(lambda: len(origin.heads) == 2, what="the slow request arrives")
    adit.process.terminate()
    check(idle.is_closed(), "an idle connection outlives the listener")
    gate.set()
    got, body = busy.response()
    check(body == b"ok" and got.headers.get("connection") == "close" and busy.is_closed(), got)
    check(adit.wait(10) == 0, "did not end")


@case(endpoints=BOTH, transports=H2_H3, seconds=90)
def many_at_once_leave_nothing_behind(t):
    endpoint, origin = t.endpoint(), says(t, OK)
    adit = t.adit(endpoint)
    check(status_of(adit.port, get(origin)) == 200, "no answer")
    time.sleep(0.5)
    descriptors = adit.descriptors()
    conns = [Conn(adit.port) for _ in range(30)]     # one session has room for them
    for i in range(3):
        for conn in conns:
            conn.send(get(origin, f"/{i}"))
        for conn in conns:
            check(conn.response()[1] == b"ok", "no answer")
    for i, conn in enumerate(conns):
        if i % 3 == 0:
            conn.send(get(origin, method="POST", extra="Content-Length: 9\r\n") + "half")
    wait_until(lambda: len(origin.heads) == 101, what="the halves arrive")
    for i, conn in enumerate(conns):
        if i % 2:
            targets.reset(conn.sock)
        else:
            conn.sock.close()
    wait_until(lambda: adit.descriptors() <= descriptors, 12, "descriptors as before")
    used = adit.cpu_seconds()
    time.sleep(1)
    check(adit.cpu_seconds() - used < 0.2, "busy while idle")
    check(status_of(adit.port, get(origin)) == 200, "serves no more")
    endpoint.check_clean()


if __name__ == "__main__":
    main()
