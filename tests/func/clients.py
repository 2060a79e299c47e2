"""Raw SOCKS and HTTP CONNECT clients that say exactly what a test wants said, and programs that are run."""
import base64
import hashlib
import os
import shutil
import socket
import struct
import subprocess

from harness import Failure
from network import Skip
from targets import pattern, pattern_sha256

REP = {0: "succeeded", 1: "general failure", 2: "not allowed", 3: "network unreachable", 4: "host unreachable",
       5: "refused", 6: "TTL expired", 7: "command not supported", 8: "address type not supported"}


class SocksError(Exception):
    def __init__(self, rep):
        super().__init__(f"REP {rep} ({REP.get(rep, '?')})")
        self.rep = rep


class Closed(Exception):
    """The proxy closed the connection where an answer was due."""


def dial(port, timeout=20):
    sock = socket.create_connection(("127.0.0.1", port), timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def read_exactly(sock, n):
    data = b""
    while len(data) < n:
        try:
            piece = sock.recv(n - len(data))
        except ConnectionError:
            piece = b""
        if not piece:
            raise Closed(f"closed after {len(data)} of {n} bytes")
        data += piece
    return data


def read_all(sock):
    """Everything to EOF; Closed when it ends by a reset."""
    data = []
    while True:
        try:
            piece = sock.recv(65536)
        except ConnectionError as error:
            raise Closed(f"reset after {sum(map(len, data))} bytes") from error
        if not piece:
            return b"".join(data)
        data.append(piece)


def is_closed(sock, seconds=10):
    """Does the other side end the connection within that time, without a byte?"""
    sock.settimeout(seconds)
    try:
        return sock.recv(1) == b""
    except ConnectionError:
        return True
    except (TimeoutError, socket.timeout):
        return False


# ---- SOCKS5 -----------------------------------------------------------------------------------------------------
def socks5_address(host, port):
    for family, atyp in ((socket.AF_INET, 1), (socket.AF_INET6, 4)):
        try:
            return bytes([atyp]) + socket.inet_pton(family, host) + struct.pack(">H", port)
        except (OSError, ValueError):
            pass
    name = host if isinstance(host, bytes) else host.encode()
    return bytes([3, len(name)]) + name + struct.pack(">H", port)


def socks5_request(host, port, command=1):
    """host: an IP literal is sent as an address, everything else (bytes too) as a name."""
    if isinstance(host, bytes):
        return bytes([5, command, 0, 3, len(host)]) + host + struct.pack(">H", port)
    return bytes([5, command, 0]) + socks5_address(host, port)


def socks5_greet(sock, auth=None):
    """The greeting and RFC 1929; auth is (name, password). False when the credentials are refused."""
    if auth is None:
        sock.sendall(b"\x05\x01\x00")
        method = read_exactly(sock, 2)
        if method != b"\x05\x00":
            raise SocksError(method[1])
        return True
    sock.sendall(b"\x05\x02\x00\x02")
    method = read_exactly(sock, 2)
    if method == b"\x05\x00":
        return True
    if method != b"\x05\x02":
        raise SocksError(method[1])
    name, password = (v if isinstance(v, bytes) else v.encode() for v in auth)
    sock.sendall(b"\x01" + bytes([len(name)]) + name + bytes([len(password)]) + password)
    return read_exactly(sock, 2) == b"\x01\x00"


def socks5_reply(sock):
    """Reads a reply; its REP."""
    head = read_exactly(sock, 4)
    if head[0] != 5 or head[2] != 0:
        raise Closed(f"not a SOCKS5 reply: {head!r}")
    size = {1: 4, 4: 16}.get(head[3])
    if size is None:
        size = read_exactly(sock, 1)[0]
    read_exactly(sock, size + 2)
    return head[1]


def socks5(port, host, dest_port, auth=None, command=1, timeout=20):
    """A connected socket; SocksError with its REP otherwise."""
    sock = dial(port, timeout)
    try:
        if not socks5_greet(sock, auth):
            raise SocksError("credentials")
        sock.sendall(socks5_request(host, dest_port, command))
        rep = socks5_reply(sock)
        if rep:
            raise SocksError(rep)
        return sock
    except BaseException:
        sock.close()
        raise


def socks5_rep(port, host, dest_port, **options):
    """Only the REP."""
    try:
        socks5(port, host, dest_port, **options).close()
        return 0
    except SocksError as error:
        return error.rep


# ---- HTTP -------------------------------------------------------------------------------------------------------
class HttpAnswer:
    """A response head, what came with it, and the socket."""

    def __init__(self, sock, head, rest):
        self.sock = sock
        self.head = head
        self.rest = rest
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            self.headers[name.lower()] = value.strip()

    def body(self):
        return self.rest + read_all(self.sock)

    def __repr__(self):
        return f"{self.status} {self.headers}"


def http_answer(sock):
    data = b""
    while b"\r\n\r\n" not in data:
        try:
            piece = sock.recv(4096)
        except ConnectionError:
            piece = b""
        if not piece:
            raise Closed(f"no response head: {data[:100]!r}")
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    return HttpAnswer(sock, head, rest)


def basic(name, password):
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def http_raw(port, text, timeout=20):
    """Sends the text and reads a response head."""
    sock = dial(port, timeout)
    sock.sendall(text if isinstance(text, bytes) else text.encode("latin-1"))
    return http_answer(sock)


def http_connect(port, authority, auth=None, extra="", timeout=20):
    lines = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n"
    if auth:
        lines += f"Proxy-Authorization: {basic(*auth)}\r\n"
    return http_raw(port, lines + extra + "\r\n", timeout)


# ---- what goes through ------------------------------------------------------------------------------------------
def send_pattern(sock, n):
    """Sends n pattern bytes; their digest."""
    at = 0
    while at < n:
        piece = pattern(at, min(1 << 18, n - at))
        sock.sendall(piece)
        at += len(piece)
    return pattern_sha256(n)


def read_digest(sock, most=1 << 62):
    """"N SHA256" of everything to EOF, or of so many bytes."""
    digest, n = hashlib.sha256(), 0
    while True:
        data = sock.recv(min(1 << 18, most - n)) if n < most else b""
        if not data:
            return f"{n} {digest.hexdigest()}"
        digest.update(data)
        n += len(data)


def ping(sock, text=b"ping"):
    """Sends and expects an echo."""
    sock.sendall(text)
    return read_exactly(sock, len(text)) == text


# ---- programs ---------------------------------------------------------------------------------------------------
def run(name, *arguments, seconds=60, status=0, env=None):
    path = shutil.which(name)
    if path is None:
        raise Skip(f"no {name}")
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    done = subprocess.run([path, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds,
                          env=dict(environment, **(env or {})))
    if status is not None and done.returncode != status:
        raise Failure(f"{name} ended with {done.returncode}: {done.stderr.decode(errors='replace')[-500:]}")
    return done


def curl(*arguments, **options):
    return run("curl", "-sS", "--max-time", "50", *arguments, **options)
