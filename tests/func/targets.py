"""Servers on loopback that stand for the Internet: what a tunnel leads to.

Each runs in threads of the case's process and counts what it saw. Bytes are position-dependent (pattern()), so that
loss, duplication and reordering all change the digest.
"""
import hashlib
import http.server
import json
import re
import socket
import socketserver
import ssl
import struct
import threading

PERIOD = 1000003
BLOCK = hashlib.shake_256(b"adit").digest(PERIOD)
DOUBLE = BLOCK + BLOCK
LINGER_ZERO = struct.pack("ii", 1, 0)


def pattern(offset, n):
    """n bytes of the endless pattern from offset on."""
    parts = []
    while n > 0:
        at = offset % PERIOD
        piece = DOUBLE[at:at + min(n, PERIOD)]
        parts.append(piece)
        offset += len(piece)
        n -= len(piece)
    return b"".join(parts)


def pattern_sha256(n):
    digest, at = hashlib.sha256(), 0
    while at < n:
        piece = min(PERIOD, n - at)
        digest.update(BLOCK[:piece])
        at += piece
    return digest.hexdigest()


def reset(sock):
    """Closes with a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
    sock.close()


class Server:
    """A TCP server; each connection is one call of handle(sock) in a thread."""

    def __init__(self, t, handle, host="127.0.0.1"):
        self.handle = handle
        self.connections = 0
        self.open = 0
        self.lock = threading.Lock()
        self.listener = socket.create_server((host, 0), backlog=2048,
                                             family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.port = self.listener.getsockname()[1]
        self.host = host
        threading.Thread(target=self.accept, daemon=True).start()
        t.defer(self.close)

    def close(self):
        self.listener.close()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
                self.open += 1
            threading.Thread(target=self.run, args=(sock,), daemon=True).start()

    def run(self, sock):
        try:
            self.handle(sock)
        except OSError:
            pass
        finally:
            sock.close()
            with self.lock:
                self.open -= 1


def read_to_eof(sock):
    """(bytes, digest) until EOF."""
    digest, n = hashlib.sha256(), 0
    while True:
        data = sock.recv(65536)
        if not data:
            return n, digest.hexdigest()
        digest.update(data)
        n += len(data)


def echo(t, **options):
    def handle(sock):
        while True:
            data = sock.recv(65536)
            if not data:
                return
            sock.sendall(data)
    return Server(t, handle, **options)


def late_answer(t):
    """Reads to EOF, then answers "N SHA256": only works when the client's half-close arrives."""
    def handle(sock):
        n, digest = read_to_eof(sock)
        sock.sendall(f"{n} {digest}".encode())
    return Server(t, handle)


def early_end(t, greeting=b"first"):
    """Sends a greeting and its EOF, then reads on; `got` has "N SHA256" of every connection."""
    def handle(sock):
        sock.sendall(greeting)
        sock.shutdown(socket.SHUT_WR)
        server.got.append("%d %s" % read_to_eof(sock))
    server = Server(t, handle)
    server.got = []
    return server


def sink(t):
    """Reads to EOF; `got` as above."""
    def handle(sock):
        server.got.append("%d %s" % read_to_eof(sock))
    server = Server(t, handle)
    server.got = []
    return server


def never_reads(t):
    """Accepts and never reads a byte."""
    held = []
    event = threading.Event()
    t.defer(event.set)

    def handle(sock):
        held.append(sock)
        event.wait()
    return Server(t, handle)


def source(t, n, hold=False):
    """Sends n pattern bytes and closes, with hold only after the client; `sent` is what the kernel took."""
    def handle(sock):
        at = 0
        while at < n:
            piece = pattern(at, min(65536, n - at))
            at += sock.send(piece)
            server.sent = max(server.sent, at)
        if hold:
            read_to_eof(sock)
    server = Server(t, handle)
    server.sent = 0
    return server


def resetter(t, after=1):
    """Resets the connection when it has read so many bytes (0: at once)."""
    def handle(sock):
        left = after
        while left > 0:
            data = sock.recv(left)
            if not data:
                return
            left -= len(data)
        reset(sock)
    return Server(t, handle)


def silent(t):
    """Accepts, reads and says nothing; `ended` counts the connections that the client has ended, `was_reset` how."""
    def handle(sock):
        try:
            while sock.recv(65536):
                pass
        except ConnectionError:
            server.was_reset += 1
        server.ended += 1
    server = Server(t, handle)
    server.ended = server.was_reset = 0
    return server


def refused_port(t):
    """A port that refuses: bound, so that nobody else gets it, and not listening."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    t.defer(sock.close)
    return sock.getsockname()[1]


# ---- HTTP -------------------------------------------------------------------------------------------------------
PAGE = """<!DOCTYPE html><html><head><title>start</title><link rel="stylesheet" href="/style.css">
<script src="/script.js"></script></head><body><p id="out">waiting</p>%s
<script>run(%d)</script></body></html>"""

SCRIPT = """async function run(n) {
  const out = document.getElementById("out");
  try {
    const sizes = await Promise.all([...Array(n).keys()].map(i =>
      fetch("/bytes/" + (1000 + i)).then(r => r.arrayBuffer()).then(b => b.byteLength)));
    const post = await fetch("/upload", {method: "POST", body: "x".repeat(100000)}).then(r => r.json());
    out.textContent = "loaded " + sizes.reduce((a, b) => a + b, 0) + " posted " + post.n;
  } catch (e) { out.textContent = "failed " + e; }
}
"""

GIF = (b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01"
       b"\x00\x01\x00\x00\x02\x02D\x01\x00;")


class Handler(http.server.BaseHTTPRequestHandler):
    """/bytes/N, /page?N, /upload (PUT, POST), /slow/N (one byte at a time), and /headers."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, body, kind="application/octet-stream", status=200):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        self.server.paths.append(self.path)
        found = re.fullmatch(r"/(bytes|page)[/?](\d+)", self.path)
        if found and found[1] == "bytes":
            self.send_bytes(int(found[2]))
        elif found:
            images = "".join(f'<img src="/image/{i}.gif">' for i in range(6))
            self.answer((PAGE % (images, int(found[2]))).encode(), "text/html")
        elif self.path == "/style.css":
            self.answer(b"p { color: green }", "text/css")
        elif self.path == "/script.js":
            self.answer(SCRIPT.encode(), "text/javascript")
        elif self.path.startswith("/image/"):
            self.answer(GIF, "image/gif")
        elif self.path == "/headers":
            self.answer(json.dumps(dict(self.headers)).encode(), "application/json")
        else:
            self.answer(b"not here\n", "text/plain", 404)

    do_HEAD = do_GET

    def send_bytes(self, n):
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(n))
        self.end_headers()
        at = 0
        while at < n and self.command != "HEAD":
            piece = pattern(at, min(1 << 18, n - at))
            self.wfile.write(piece)
            at += len(piece)

    def do_POST(self):
        self.server.paths.append(self.path)
        digest, n = hashlib.sha256(), 0
        for data in self.body():
            digest.update(data)
            n += len(data)
        self.answer(json.dumps({"n": n, "sha256": digest.hexdigest()}).encode(), "application/json")

    do_PUT = do_POST

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while True:
                size = int(self.rfile.readline().split(b";")[0], 16)
                data = self.rfile.read(size)
                self.rfile.readline()
                if not size:
                    return
                yield data
        left = int(self.headers.get("Content-Length", 0))
        while left:
            data = self.rfile.read(min(left, 1 << 16))
            if not data:
                return
            left -= len(data)
            yield data


class HttpServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 2048

    def handle_error(self, request, client_address):
        pass


def http_server(t, cert=None, key=None):
    """An origin; with a certificate it speaks TLS. `paths` lists what was asked for."""
    server = HttpServer(("127.0.0.1", 0), Handler)
    server.paths = []
    server.port = server.server_address[1]
    server.tls = cert is not None
    if cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    t.defer(server.server_close)
    t.defer(server.shutdown)
    return server
