#!/usr/bin/env python3
"""Plain HTTP requests through the proxy: what the origin server gets, what the client gets, and what neither may get."""
import hashlib
import os
import re
import socket
import subprocess
import threading
import time

import clients
import targets
from clients import dial, http_answer
from harness import C, Skip, case, check, main, wait_until


def read_head(file):
    """The lines of a head, or None at the end of the connection."""
    lines = []
    while True:
        line = file.readline(65536)
        if not line:
            return None
        line = line.decode("latin-1").rstrip("\r\n")
        if not line:
            return lines
        lines.append(line)


def field(lines, name):
    values = [line.split(":", 1)[1].strip() for line in lines[1:] if line.split(":", 1)[0].lower() == name.lower()]
    return ", ".join(values) if values else None


def read_chunked(file):
    body = b""
    while True:
        size = int(file.readline().split(b";")[0], 16)
        if size:
            body += file.read(size)
            file.readline()
            continue
        while file.readline() not in (b"\r\n", b""):
            pass
        return body


def chunk(data):
    return b"%x\r\n" % len(data) + data + b"\r\n"


class Origin:
    """A server that keeps connections and answers by path; remembers every head and body that it got."""

    def __init__(self, t):
        self.heads, self.bodies, self.lock = [], [], threading.Lock()
        self.server = targets.Server(t, self.handle)
        self.port = self.server.port

    @property
    def connections(self):
        return self.server.connections

    def handle(self, sock):
        file = sock.makefile("rb")
        while True:
            head = read_head(file)
            if head is None:
                return
            with self.lock:
                self.heads.append(head)
            path = head[0].split(" ")[1]
            if path == "/100":
                sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            if path == "/early":
                sock.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno\n")
                return
            body = b""
            if (field(head, "transfer-encoding") or "").lower() == "chunked":
                body = read_chunked(file)
            elif field(head, "content-length"):
                body = file.read(int(field(head, "content-length")))
            with self.lock:
                self.bodies.append(body)
            if not self.answer(sock, file, head, path, body):
                return

    def answer(self, sock, file, head, path, body):
        head_only = head[0].startswith("HEAD ")
        word, _, rest = path[1:].partition("/")
        if word == "length":
            n = int(rest)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % n)
            if not head_only:
                sock.sendall(targets.pattern(0, n))
        elif word == "chunked":
            n, at = int(rest), 0
            sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
            while at < n:
                size = min(n - at, 1 + at % 40000)
                sock.sendall(chunk(targets.pattern(at, size)))
                at += size
            sock.sendall(b"0;last=1\r\nX-Sum: 1\r\n\r\n")
        elif word == "close":
            n = int(rest)
            sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + targets.pattern(0, n))
            return False
        elif word in ("204", "304"):
            sock.sendall(f"HTTP/1.1 {word} No\r\nETag: \"x\"\r\n\r\n".encode())
        elif word == "hop":
            sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: secret\r\nKeep-Alive: timeout=5\r\n"
                         b"Proxy-Authenticate: Basic realm=\"evil\"\r\nX-End: kept\r\nContent-Length: 2\r\n\r\nok")
        elif word == "upgrade":
            sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\nhello")
            while True:
                data = file.read1(65536)
                if not data:
                    return False
                sock.sendall(data)
        elif word == "raw":
            sock.sendall(bytes.fromhex(rest))
            time.sleep(0.3)
            return False
        elif word == "drop":
            return False
        elif word == "once":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            return False
        else:
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + (b"" if head_only else body))
        return True


def request(origin, path="/", method="GET", fields="", body=b"", version="1.1"):
    return (f"{method} http://127.0.0.1:{origin.port}{path} HTTP/{version}\r\nHost: 127.0.0.1:{origin.port}\r\n{fields}"
            "\r\n").encode() + body


class Answer:
    """One answer read from a connection that stays open."""

    def __init__(self, file, method="GET"):
        self.head = read_head(file)
        check(self.head is not None, "no answer")
        self.status = int(self.head[0].split(" ")[1])
        self.body = b""
        if method == "HEAD" or self.status < 200 or self.status in (204, 304):
            return
        if self.get("transfer-encoding"):
            self.body = read_chunked(file)
        elif self.get("content-length") is not None:
            self.body = file.read(int(self.get("content-length")))
        else:
            self.body = file.read()

    def get(self, name):
        return field(self.head, name)


def start(t, **options):
    origin = Origin(t)
    adit = t.adit(t.endpoint(), **options)
    return origin, adit


def once(adit, text, method="GET"):
    with dial(adit.port) as sock:
        sock.sendall(text)
        return Answer(sock.makefile("rb"), method)


BOTH_WAYS = ("http2", "http3")


@case(endpoints=(C,), transports=BOTH_WAYS)
def bodies_of_every_framing(t):
    origin, adit = start(t)
    with dial(adit.port) as sock:
        file = sock.makefile("rb")
        for path, n in (("/length/0", 0), ("/length/3000000", 3000000), ("/chunked/2000000", 2000000), ("/chunked/0", 0),
                        ("/204", 0), ("/304", 0), ("/length/17", 17)):
            sock.sendall(request(origin, path))
            answer = Answer(file)
            check(hashlib.sha256(answer.body).hexdigest() == targets.pattern_sha256(n), path, len(answer.body))
            check(answer.get("connection") is None, answer.head)
        sock.sendall(request(origin, "/length/5", "HEAD"))
        answer = Answer(file, "HEAD")
        check(answer.get("content-length") == "5", answer.head)
        sock.sendall(request(origin, "/close/1000000"))
        answer = Answer(file)
        check(hashlib.sha256(answer.body).hexdigest() == targets.pattern_sha256(1000000), "close")
        check(answer.get("connection") == "close", answer.head)
        check(clients.is_closed(sock), "still open")
    check(origin.connections == 1, f"{origin.connections} connections to the origin")
    wait_until(lambda: len(adit.records()) == 9, 5, "a record for each request")
    check({r["reason"] for r in adit.records()} == {"ok"}, adit.records())
    check(3000000 < int(adit.records()[1]["down"]) < 3000200, adit.records()[1])     # with the head


@case(endpoints=(C,), transports=BOTH_WAYS)
def requests_with_bodies(t):
    origin, adit = start(t)
    data = targets.pattern(7, 1500000)
    with dial(adit.port) as sock:
        file = sock.makefile("rb")
        sock.sendall(request(origin, "/x", "POST", f"Content-Length: {len(data)}\r\n"))
        sock.sendall(data)
        check(Answer(file).body == data, "length")
        sock.sendall(request(origin, "/x", "PUT", "Transfer-Encoding: chunked\r\n"))
        for at in range(0, len(data), 50000):
            sock.sendall(chunk(data[at:at + 50000]))
        sock.sendall(b"0\r\nX-Trailer: 1\r\n\r\n")
        check(Answer(file).body == data, "chunked")
        sock.sendall(request(origin, "/100", "POST", "Expect: 100-continue\r\nContent-Length: 4\r\n"))
        check(Answer(file).status == 100, "no 100")
        sock.sendall(b"body")
        check(Answer(file).body == b"body", "after 100")
    check(field(origin.heads[2], "expect") == "100-continue", origin.heads[2])
    check(origin.connections == 1, origin.connections)


@case(endpoints=(C,), transports=("http2",))
def what_the_origin_gets(t):
    origin, adit = start(t, listener={"username": "u", "password": "p"})
    auth = clients.basic("u", "p").split(": ", 1)[-1].strip()
    if not auth.startswith("Basic"):
        auth = "Basic dTpw"
    answer = once(adit, request(origin, "/p?q=1", fields=f"Proxy-Authorization: {auth}\r\nProxy-Connection: keep-alive\r\n"
                                "Connection: X-Mine, keep-alive, Content-Length\r\nX-Mine: 1\r\nTE: trailers\r\n"
                                "Keep-Alive: 5\r\nAccept: */*\r\nCookie: a=b\r\nAuthorization: Basic Zm9v\r\n"))
    check(answer.status == 200, answer.head)
    check(origin.heads[0] == ["GET /p?q=1 HTTP/1.1", f"Host: 127.0.0.1:{origin.port}", "Accept: */*", "Cookie: a=b",
                              "Authorization: Basic Zm9v"], origin.heads[0])
    text = request(origin, "", fields=f"Proxy-Authorization: {auth}\r\n").replace(b"Host: 127", b"Host: evil.127")
    check(once(adit, text).status == 200, "Host")
    check(origin.heads[1] == ["GET / HTTP/1.1", f"Host: 127.0.0.1:{origin.port}"], origin.heads[1])
    check(once(adit, request(origin)).status == 407, "no credentials")
    check(len(origin.heads) == 2, origin.heads)


@case(endpoints=(C,), transports=("http2",))
def long_heads(t):
    """B1, B2: up to their limits they go through as they are."""
    origin, adit = start(t)
    for path, fields in (("/" + "a" * 8000, ""), ("/", "X-Long: " + "b" * 60000 + "\r\n"),
                         ("/", "".join(f"X-{n}: {n}\r\n" for n in range(98)))):
        check(once(adit, request(origin, path, fields=fields)).status == 200, path[:10], fields[:10])
        want = [line for line in fields.split("\r\n") if line]
        check(origin.heads[-1] == [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{origin.port}", *want], origin.heads[-1][:3])
    check(once(adit, request(origin, "/" + "a" * 9000)).status == 414, "line")
    check(once(adit, request(origin, fields="X: " + "b" * 70000 + "\r\n")).status == 431, "head")
    check(once(adit, request(origin, fields="X: b\r\n" * 101)).status == 431, "fields")


@case(endpoints=(C,), transports=("http2",))
def what_the_client_gets(t):
    origin, adit = start(t)
    answer = once(adit, request(origin, "/hop"))
    check(answer.head == ["HTTP/1.1 200 OK", "X-End: kept", "Content-Length: 2"], answer.head)
    answer = once(adit, request(origin, "/chunked/70000", version="1.0"))
    check(answer.get("transfer-encoding") is None and answer.get("connection") == "close", answer.head)
    check(hashlib.sha256(answer.body).hexdigest() == targets.pattern_sha256(70000), "not unchunked")


@case(endpoints=(C,), transports=BOTH_WAYS)
def pipelined_requests_to_two_origins(t):
    """B16: each in order, each on its own way, no byte crosses."""
    first, adit = start(t)
    second = Origin(t)
    with dial(adit.port) as sock:
        sock.sendall(b"".join(request(first if n % 2 else second, f"/x{n}", "POST", "Content-Length: 2\r\n", b"%02d" % n)
                              for n in range(10)))
        file = sock.makefile("rb")
        for n in range(10):
            check(Answer(file).body == b"%02d" % n, n)
    check([h[0] for h in first.heads] == [f"POST /x{n} HTTP/1.1" for n in range(1, 10, 2)], first.heads)
    check([h[0] for h in second.heads] == [f"POST /x{n} HTTP/1.1" for n in range(0, 10, 2)], second.heads)


@case(endpoints=(C,), transports=BOTH_WAYS)
def an_upgrade(t):
    """B21"""
    origin, adit = start(t)
    with dial(adit.port) as sock:
        sock.sendall(request(origin, "/upgrade", fields="Connection: upgrade\r\nUpgrade: echo\r\n") + b"early")
        file = sock.makefile("rb")
        head = read_head(file)
        check(head[0].startswith("HTTP/1.1 101") and field(head, "upgrade") == "echo", head)
        check(file.read(10) == b"helloearly", "bytes after the head")
        for n in range(20):
            sock.sendall(b"%05d" % n)
            check(file.read(5) == b"%05d" % n, n)
        sock.shutdown(socket.SHUT_WR)
        check(file.read() == b"", "end")
    check(field(origin.heads[0], "connection") == "upgrade", origin.heads[0])
    check(adit.wait_record(id="1")["reason"] == "ok", adit.records())
    answer = once(adit, request(origin, "/upgrade"))  # unasked
    check(answer.status == 502, answer.head)


@case(endpoints=(C,), transports=("http2",))
def a_kept_way_that_ended(t):
    """The server closes after its answer without saying so: the next GET is asked again, a POST is not."""
    origin, adit = start(t)
    with dial(adit.port) as sock:
        file = sock.makefile("rb")
        for n in range(3):
            sock.sendall(request(origin, "/once"))
            check(Answer(file).body == b"ok", n)
            time.sleep(0.05 * n)
    check(origin.connections == 3, origin.connections)
    check(once(adit, request(origin, "/drop")).status == 502, "no answer at all")
    check(len([h for h in origin.heads if "/drop" in h[0]]) == 1, "a fresh way was asked twice")


@case(endpoints=(C,), transports=("http2",))
def answers_that_are_none(t):
    origin, adit = start(t)
    for raw in (b"\x15\x03\x01\x00\x02\x02", b"HTTP/2.0 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\nX: 1\n\n", b"HTTP/1.1 20 OK\r\n\r\n",
                b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", b"",
                b"HTTP/1.1 100 C\r\n\r\n" * 17, b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70000, b"HTTP/1.0 200 OK\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"):
        with dial(adit.port) as sock:
            sock.sendall(request(origin, "/raw/" + raw.hex() if len(raw) < 2000 else "/raw/" + raw[:2000].hex()))
            data = clients.read_all(sock)
        if raw.startswith(b"HTTP/1.1 100"):
            data = data[data.index(b"HTTP/1.1 502"):]
        if len(raw) > 2000:
            check(data.startswith(b"HTTP/1.1 502"), raw[:30], data[:60])
            continue
        check(data.startswith(b"HTTP/1.1 502 ") and b"proxy-status: adit; error=" in data.lower(), raw[:60], data[:200])
    check("sanitizer" not in adit.stderr().lower(), "sanitizer")


@case(endpoints=(C,), transports=("http2",))
def answers_that_break_off(t):
    """The client must not take half an answer for a whole one."""
    origin, adit = start(t)
    for raw in (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabX", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: "
                b"chunked\r\n\r\nfffffffffffffffff\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nbad\x01\r\n\r\n"):
        with dial(adit.port) as sock:
            sock.sendall(request(origin, "/raw/" + raw.hex()))
            try:
                data = clients.read_all(sock)
                check(False, "ended in order:", data[-60:])
            except clients.Closed:
                pass


@case(endpoints=(C,), transports=("http2",))
def requests_that_are_none(t):
    """B6, B7, B10, B11 and more: refused, and nothing reaches the origin."""
    origin, adit = start(t)
    host = f"127.0.0.1:{origin.port}"
    for text, status in ((request(origin, "/", "POST", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"), 400),
                         (request(origin, "/", "POST", "Content-Length: 3\r\nContent-Length: 4\r\n"), 400),
                         (request(origin, "/", "POST", "Content-Length: +5\r\n"), 400),
                         (request(origin, "/", "POST", "Transfer-Encoding: gzip, chunked\r\n"), 501),
                         (request(origin, "/", "POST", "Transfer-Encoding: chunked\r\n", version="1.0"), 400),
                         (f"GET http://a:b@{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(), 400),
                         (f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(), 400),
                         (f"GET https://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(), 400),
                         (f"GET http://127.0.0.1:{adit.port}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode(), 403),
                         (f"GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n X: 1\r\n\r\n".encode(), 400)):
        answer = once(adit, text)
        check(answer.status == status, text, answer.head)
    check(not origin.heads, origin.heads)
    with dial(adit.port) as sock:
        sock.sendall(request(origin, "/", "POST", "Transfer-Encoding: chunked\r\n") + b"5\r\nabcdeX")
        data = clients.read_all(sock)
        check(data.startswith(b"HTTP/1.1 400"), data[:100])


@case(endpoints=(C,), transports=("http2",))
def the_reason_of_a_failure(t):
    origin, adit = start(t)
    answer = once(adit, f"GET http://127.0.0.1:{targets.refused_port(t)}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    check(answer.status == 502 and "connection_refused" in answer.get("proxy-status"), answer.head)
    check("default-src 'none'" in answer.get("content-security-policy"), answer.head)
    answer = once(adit, b"HEAD http://nothing.invalid/<script> HTTP/1.1\r\nHost: x\r\n\r\n", "HEAD")
    check(answer.status in (502, 504), answer.head)


@case(endpoints=(C,), transports=("http2",))
def an_early_answer(t):
    """The server answers before the body and closes: the client gets the answer."""
    origin, adit = start(t)
    with dial(adit.port) as sock:
        sock.sendall(request(origin, "/early", "POST", "Content-Length: 1000000\r\n") + b"x" * 1000)
        answer = Answer(sock.makefile("rb"))
        check(answer.status == 413 and answer.get("connection") == "close", answer.head)


@case(endpoints=(C,), transports=("http2",))
def connect_after_a_request(t):
    """One connection: a plain request, then a tunnel."""
    origin, adit = start(t)
    echo = targets.echo(t)
    with dial(adit.port) as sock:
        file = sock.makefile("rb")
        sock.sendall(request(origin, "/length/3"))
        check(len(Answer(file).body) == 3, "plain")
        sock.sendall(f"CONNECT 127.0.0.1:{echo.port} HTTP/1.1\r\nHost: x\r\n\r\nping".encode())
        check(read_head(file)[0].startswith("HTTP/1.1 200"), "CONNECT")
        check(file.read(4) == b"ping", "echo")


@case(endpoints=(C,), transports=BOTH_WAYS)
def curl(t):
    origin, adit = start(t)
    proxy = ["-x", f"http://127.0.0.1:{adit.port}", "--noproxy", "", "-sS", "--max-time", "20"]
    url = f"http://127.0.0.1:{origin.port}"
    done = subprocess.run(["curl", *proxy, f"{url}/length/1000", f"{url}/chunked/1000", "-o", os.devnull, "-o", os.devnull, "-w",
                           "%{http_code} %{size_download} %{num_connects}\n"], capture_output=True, text=True, timeout=40)
    check(done.stdout.split() == ["200", "1000", "1", "200", "1000", "0"], done.stdout, done.stderr)
    path = t.path("upload")
    with open(path, "wb") as file:
        file.write(targets.pattern(0, 3000000))
    done = subprocess.run(["curl", *proxy, "-T", path, f"{url}/up"], capture_output=True, timeout=40)
    check(done.stdout == targets.pattern(0, 3000000), done.stderr)
    done = subprocess.run(["curl", *proxy, "-I", f"{url}/length/7"], capture_output=True, text=True, timeout=40)
    check("Content-Length: 7" in done.stdout, done.stdout)


@case(endpoints=(C,), transports=("http2",), seconds=90)
def many_clients_and_a_drain(t):
    """Fifty clients with ten requests each, over kept connections; nothing is left, and idle ones do not hold up the end."""
    origin, adit = start(t)
    results = []

    def one(n):
        with dial(adit.port) as sock:
            file = sock.makefile("rb")
            for k in range(10):
                sock.sendall(request(origin, f"/length/{n * 100 + k}"))
                results.append(Answer(file).body == targets.pattern(0, n * 100 + k))
    threads = [threading.Thread(target=one, args=(n,)) for n in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    check(results == [True] * 500, f"{len(results)} answers, {results.count(False)} wrong")
    wait_until(lambda: origin.server.open == 0, 10, "the origin's connections end")
    idle = dial(adit.port)
    idle.sendall(request(origin, "/length/1"))
    Answer(idle.makefile("rb"))
    begin = time.monotonic()
    adit.stop()
    check(time.monotonic() - begin < 1.5, "an idle connection held up the end")
    idle.close()


if __name__ == "__main__":
    main()
