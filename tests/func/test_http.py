#!/usr/bin/env python3
"""HTTP CONNECT on the mixed listener: what is served, what is refused, and with which status."""
import re
import socket
import time

import clients
import targets
from clients import Closed, dial, http_answer, http_connect, http_raw, read_exactly
from harness import BOTH, H2_H3, PASSWORD, PY, case, check, main

APP = ("app", "app-pass")


def expect(answer, status, *words):
    check(answer.status == status, f"{' '.join(map(str, words))}: {answer}, not {status}")
    return answer


def proxy_error(answer):
    found = re.search(r"error=([a-z_]+)", answer.headers.get("proxy-status", ""))
    return found and found[1]


@case(endpoints=BOTH, transports=H2_H3)
def connect_carries_bytes_both_ways(t):
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint)
    answer = expect(http_connect(adit.port, f"127.0.0.1:{echo.port}"), 200)
    check("content-length" not in answer.headers and "transfer-encoding" not in answer.headers, answer)
    check(clients.ping(answer.sock), "no echo")
    answer.sock.sendall(targets.pattern(0, 100000))
    check(read_exactly(answer.sock, 100000) == targets.pattern(0, 100000), "wrong bytes")
    answer.sock.shutdown(socket.SHUT_WR)
    check(clients.read_all(answer.sock) == b"", "no end after ours")
    record = adit.wait_record(protocol="http", dest=f"127.0.0.1:{echo.port}")
    check(record["up"] == record["down"] == "100004", record)
    endpoint.check_clean()


@case(endpoints=BOTH, transports=("http2",))
def what_follows_the_head_goes_into_the_tunnel(t):
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint)
    head = f"CONNECT localhost:{echo.port} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = expect(http_raw(adit.port, head + "GET / HTTP/9.9\r\nnot parsed\r\n\r\n"), 200)
    want = b"GET / HTTP/9.9\r\nnot parsed\r\n\r\n"
    check((answer.rest + read_exactly(answer.sock, len(want) - len(answer.rest))) == want, "wrong bytes")


@case(endpoints=BOTH, transports=("http2",))
def a_head_byte_by_byte(t):
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint)
    sock = dial(adit.port)
    for byte in f"CONNECT localhost:{echo.port} HTTP/1.0\r\n\r\n".encode():
        sock.sendall(bytes([byte]))
        time.sleep(0.003)
    expect(http_answer(sock), 200)
    check(clients.ping(sock), "no echo")


@case(endpoints=BOTH, transports=H2_H3)
def a_refused_target_is_502(t):
    adit = t.adit(t.endpoint())
    answer = expect(http_connect(adit.port, f"127.0.0.1:{targets.refused_port(t)}"), 502)
    check(proxy_error(answer) == "connection_refused", answer)
    check("close" in answer.headers.get("connection", ""), answer)
    body = answer.body()
    check(len(body) == int(answer.headers["content-length"]), "the body's length")


@case(endpoints=(PY,), transports=H2_H3)
def warnings_become_statuses(t):
    endpoint = t.endpoint()
    adit = t.adit(endpoint, connect_timeout="2s")
    for code, status, error in ((300, 502, "connection_refused"), (301, 502, "destination_ip_unroutable"),
                                (302, 504, "connection_timeout"), (310, 403, "destination_ip_prohibited"),
                                (311, 403, "destination_ip_prohibited"), (399, 502, None)):
        answer = expect(http_connect(adit.port, f"warn-{code}.test:80"), status, code)
        check(error is None or proxy_error(answer) == error, answer)
    for code, status in ((404, 502), (500, 502), (503, 502), (429, 503)):
        answer = expect(http_connect(adit.port, f"status-{code}.test:80"), status, code)
        check(proxy_error(answer), answer)
    expect(http_connect(adit.port, "hang.test:80"), 504, "hang")
    endpoint.check_clean()


@case(endpoints=(PY,), transports=("http2",))
def credentials_of_applications(t):
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint, listener=dict(username=APP[0], password=APP[1]))
    target = f"127.0.0.1:{echo.port}"
    expect(http_connect(adit.port, target, auth=APP), 200)
    for extra in ("", "Proxy-Authorization: Basic !!!\r\n", "Proxy-Authorization: Basic YXBw\r\n",
                  "Proxy-Authorization: Bearer abc\r\n", f"Proxy-Authorization: {clients.basic('app', 'wrong')}\r\n",
                  f"Proxy-Authorization: {clients.basic('nobody', 'app-pass')}\r\n",
                  "Proxy-Authorization: Basic " + "QUFB" * 1000 + "\r\n"):
        answer = expect(http_connect(adit.port, target, extra=extra), 407, extra[:60])
        check(answer.headers.get("proxy-authenticate", "").startswith("Basic realm="), answer)
    check(echo.connections == 1, "the target was reached without credentials")
    check(APP[1] not in adit.stderr() and PASSWORD not in adit.stderr(), "a password is in the log")


@case(endpoints=(PY,), transports=("http2",))
def credentials_are_not_passed_on(t):
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint, listener=dict(username=APP[0], password=APP[1]))
    extra = "X-Secret: 1\r\nCookie: a=b\r\nProxy-Connection: keep-alive\r\n"
    expect(http_connect(adit.port, f"127.0.0.1:{echo.port}", auth=APP, extra=extra), 200)
    names = [k for k, _ in endpoint.requests()[0]["headers"]]
    check(set(names) <= {":method", ":authority", "user-agent", "proxy-authorization"}, names)
    endpoint.check_clean()


@case(endpoints=(PY,), transports=("http2",))
def bad_authorities(t):
    endpoint = t.endpoint()
    adit = t.adit(endpoint)
    for authority in ("localhost", "localhost:", "localhost:0", "localhost:65536", "localhost:443x", "localhost:+80",
                      "localhost:443/path", "user@localhost:443", "user:pw@localhost:443", "::1:443", "[::1]",
                      "[::1:443", ":443", "a b:443", "a%41:443", "_check:443", "_udp2:443", "_udp2", "_check",
                      "_icmp:1", "http://localhost:443", "a..b:443", "\xff:443", "[fe80::1%lo]:443"):
        try:
            answer = http_raw(adit.port, f"CONNECT {authority} HTTP/1.1\r\nHost: x\r\n\r\n")
        except Closed as error:
            check(False, f"{authority}: {error}")
        expect(answer, 400, authority)
    check(not endpoint.requests(), "reached the endpoint:", endpoint.requests())
    endpoint.check_clean()


@case(endpoints=(PY,), transports=("http2",))
def the_proxy_itself_is_no_destination(t):
    endpoint = t.endpoint()
    adit = t.adit(endpoint)
    for host in ("127.0.0.1", "localhost", "127.1", "[::ffff:127.0.0.1]"):
        expect(http_connect(adit.port, f"{host}:{adit.port}"), 403, host)
    check(not endpoint.requests(), "reached the endpoint:", endpoint.requests())


@case(endpoints=(PY,), transports=("http2",))
def what_is_not_connect(t):
    endpoint = t.endpoint()
    adit = t.adit(endpoint)
    answer = expect(http_raw(adit.port, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"), 400, "origin form")
    page = answer.body().decode()
    check("default-src 'none'" in answer.headers.get("content-security-policy", ""), answer)
    check("nosniff" in answer.headers.get("x-content-type-options", ""), answer)
    check("<script" not in page, page)
    check("access-control-allow-origin" not in answer.headers, answer)
    expect(http_raw(adit.port, "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"), 400, "asterisk form")
    answer = http_raw(adit.port, "GET http://me:hidden@b:c/<script> HTTP/1.1\r\nHost: x\r\n\r\n")
    check(answer.status in (400, 501), "userinfo:", answer)
    check("<script" not in answer.body().decode(), "markup came back")
    check("hidden" not in adit.stderr(), "credentials of a request are in the log")
    check(not endpoint.requests(), "reached the endpoint:", endpoint.requests())


@case(endpoints=(PY,), transports=("http2",))
def malformed_heads(t):
    endpoint = t.endpoint()
    adit = t.adit(endpoint)
    good = "CONNECT localhost:443 HTTP/1.1\r\n"
    for text, statuses in (
            (good + "Host : x\r\n\r\n", (400,)), (good + "Host: x\r\n folded\r\n\r\n", (400,)),
            (good + "Host: a\0b\r\n\r\n", (400,)), ("CONNECT localhost:443 HTTP/1.1\nHost: x\n\n", (400,)),
            ("CONNECT  localhost:443 HTTP/1.1\r\n\r\n", (400,)), ("CON\tNECT localhost:443 HTTP/1.1\r\n\r\n", (400,)),
            ("CONNECT localhost:443 HTTP/2.0\r\n\r\n", (505, 400)), ("CONNECT localhost:443\r\n\r\n", (400, 505)),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (505, 400)),
            (good + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", (400,)),
            (good + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n", (400,)),
            (good + "Content-Length: +5\r\n\r\n", (400,)),
            (good + "A: " + "x" * (1 << 20) + "\r\n\r\n", (431,)),
            (good + "A: b\r\n" * 10000 + "\r\n", (431,)),
            ("CONNECT " + "a" * (1 << 16) + ":443 HTTP/1.1\r\n\r\n", (414, 431, 400)),
            ("CONNECT " + "a" * (1 << 20), (414, 431, 400))):
        sock = dial(adit.port)
        try:
            sock.sendall(text.encode("latin-1"))
        except OSError:
            pass        # refused before all of it was taken
        try:
            answer = http_answer(sock)
        except Closed as error:
            check(False, f"{text[:80]!r}: {error}")
        check(answer.status in statuses, f"{text[:80]!r} gave {answer}")
    check(not endpoint.requests(), "reached the endpoint:", endpoint.requests())


@case(endpoints=(PY,), transports=("http2",))
def a_slow_head_is_408(t):
    adit = t.adit(t.endpoint(), listener=dict(handshake_timeout="2s"))
    sock = dial(adit.port)
    start = time.monotonic()
    sock.sendall(b"CONNECT localhost:443 HTTP/1.1\r\n")
    for _ in range(20):
        time.sleep(0.2)
        try:
            sock.sendall(b"A: b\r\n")
        except OSError:
            break
    expect(http_answer(sock), 408)
    check(time.monotonic() - start < 6, "late")


@case(endpoints=(PY,), transports=("http2",))
def foreign_text_is_harmless_in_errors(t):
    """A host made of markup and an endpoint's own reason never become markup or header lines."""
    endpoint = t.endpoint()
    adit = t.adit(endpoint)
    answer = http_raw(adit.port, "CONNECT <script>alert(1)</script>:443 HTTP/1.1\r\n\r\n")
    expect(answer, 400)
    check(b"<script" not in answer.body(), "markup came back")
    check("\n" not in answer.head.decode("latin-1").replace("\r\n", ""), "a bare line feed in the head")


@case(endpoints=(PY,), transports=("http2",))
def all_connections_taken_is_503_not_a_hang(t):
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint, listener=dict(max_connections=4))
    held = [http_connect(adit.port, f"127.0.0.1:{echo.port}") for _ in range(4)]
    for answer in held:
        expect(answer, 200)
    sock = dial(adit.port, 5)
    try:
        sock.sendall(f"CONNECT 127.0.0.1:{echo.port} HTTP/1.1\r\n\r\n".encode())
        status = http_answer(sock).status
        check(status == 503, f"status {status}")
    except (Closed, OSError):
        pass        # closed at once is an answer too
    check(all(clients.ping(a.sock) for a in held), "the others suffered")
    held[0].sock.close()
    time.sleep(0.5)
    expect(http_connect(adit.port, f"127.0.0.1:{echo.port}"), 200, "after one has left")


if __name__ == "__main__":
    main()
