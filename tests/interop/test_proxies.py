#!/usr/bin/env python3
"""adit through other people's servers: Apache httpd over HTTP/2, Envoy over HTTP/2 and HTTP/3.

They are not TrustTunnel endpoints: apache.py and envoy.py say what they do about `_check`, credentials, refused targets
and half-close, and the cases here hold adit to what can be expected of it then. Both look names up, `_check` too, so
every case has a network of its own, where no name server can be reached.
"""
import os
import socket
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "func"))

import apache                                                           # noqa: E402
import clients                                                          # noqa: E402
import envoy                                                            # noqa: E402
import targets                                                          # noqa: E402
from clients import http_connect, socks5, socks5_rep                    # noqa: E402
from harness import PASSWORD, USER, Process, case, check, listening, main, wait_until   # noqa: E402
from network import Skip                                                # noqa: E402

MIB = 1 << 20


class Proxy(Process):
    kind = "foreign"

    def __init__(self, t, name, argv, port, ok=(0, -15)):
        self.port = port
        if argv[0] is None:
            raise Skip(f"no {name}")
        super().__init__(t, name, argv, ok=ok)
        wait_until(lambda: not self.running() or listening(port), 30, f"{name} listens")
        check(self.running(), f"{name} ended with {self.process.returncode}")


def start_apache(t):
    t.own_network()
    t.transport = "http2"
    if apache.find_apache() is None:
        raise Skip("no apache2")
    port = t.free_port()
    return Proxy(t, "apache2", apache.command(t.dir, "127.0.0.1", port, *t.leaf(), (USER, PASSWORD)), port)


def start_envoy(t):
    t.own_network()
    if envoy.find_envoy() is None:
        raise Skip("no envoy")
    port = t.free_port()
    return Proxy(t, "envoy", envoy.command(t.dir, "127.0.0.1", port, *t.leaf(), (USER, PASSWORD)), port)


def carries(t, adit, parallel):
    """Echo, names, a large download and upload, half-close by the client, and flows side by side.

    The source of the download does not end first: neither proxy can be relied on then."""
    echo, late, source = targets.echo(t), targets.late_answer(t), targets.source(t, 16 * MIB, hold=True)
    with socks5(adit.port, "127.0.0.1", echo.port) as sock:
        check(clients.ping(sock), "no echo")
    answer = http_connect(adit.port, f"localhost:{echo.port}")
    check(answer.status == 200 and clients.ping(answer.sock), answer)
    answer.sock.close()
    with socks5(adit.port, "127.0.0.1", source.port) as sock:
        check(clients.read_digest(sock, 16 * MIB) == f"{16 * MIB} {targets.pattern_sha256(16 * MIB)}", "download")
    with socks5(adit.port, "127.0.0.1", late.port) as sock:
        digest = clients.send_pattern(sock, 16 * MIB)
        sock.shutdown(socket.SHUT_WR)
        check(clients.read_all(sock).decode() == f"{16 * MIB} {digest}", "upload")
    results = []

    def one(i):
        with socks5(adit.port, "127.0.0.1", echo.port) as sock:
            sock.sendall(targets.pattern(i, 50000))
            results.append(clients.read_exactly(sock, 50000) == targets.pattern(i, 50000))
    threads = [threading.Thread(target=one, args=(i,)) for i in range(parallel)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    check(results == [True] * parallel, f"{len(results)} of {parallel} flows side by side")


def says_why(t, adit):
    """Neither tells a refused target from others: general failure, 502 with a reason."""
    port = targets.refused_port(t)
    check(socks5_rep(adit.port, "127.0.0.1", port) == 1, "REP")
    answer = http_connect(adit.port, f"127.0.0.1:{port}")
    check(answer.status == 502 and "proxy-status" in answer.headers, answer)
    t.note("proxy-status:", answer.headers["proxy-status"])
    check(socks5_rep(adit.port, "no-such-name.invalid", 80, timeout=40) == 1, "REP for an unknown name")


def refuses_credentials(t, proxy):
    adit = t.adit(proxy.port, password="wrong")
    check(socks5_rep(adit.port, "127.0.0.1", targets.echo(t).port) == 1, "REP")
    adit.wait_log("credentials rejected")


@case(seconds=120)
def apache_carries_flows(t):
    adit = t.adit(start_apache(t).port)
    carries(t, adit, 30)
    check(adit.wait_record()["transport"] == "h2", adit.records()[:1])


@case()
def apache_s_errors(t):
    adit = t.adit(start_apache(t).port)
    says_why(t, adit)


@case()
def apache_refuses_credentials(t):
    refuses_credentials(t, start_apache(t))


@case()
def apache_has_no_http3(t):
    proxy, echo = start_apache(t), targets.echo(t)
    t.transport = "auto"
    adit = t.adit(proxy.port)
    with socks5(adit.port, "127.0.0.1", echo.port) as sock:
        check(clients.ping(sock), "no echo")
    check(adit.wait_record()["transport"] == "h2", adit.records())


@case()
def a_target_that_ends_first_through_apache(t):
    """Apache holds the end back until the client has ended too; nothing is lost, and nothing hangs after that."""
    adit, origin = t.adit(start_apache(t).port), targets.early_end(t)
    with socks5(adit.port, "127.0.0.1", origin.port) as sock:
        check(clients.read_exactly(sock, 5) == b"first", "the download")
        sock.sendall(b"more")
        sock.shutdown(socket.SHUT_WR)
        check(clients.read_all(sock) == b"", "the end")
    wait_until(lambda: origin.got, 10, "the upload's end at the target")
    check(origin.got[0].startswith("4 "), origin.got)


@case(transports=("http2", "http3", "auto"), seconds=120)
def envoy_carries_flows(t):
    adit = t.adit(start_envoy(t).port)
    carries(t, adit, 60)
    wanted = "h2" if t.transport == "http2" else "h3"
    check(adit.wait_record()["transport"] == wanted, adit.records()[:1])


@case(transports=("http2", "http3"))
def envoy_s_errors(t):
    adit = t.adit(start_envoy(t).port)
    says_why(t, adit)


@case(transports=("http2", "http3"))
def envoy_refuses_credentials(t):
    refuses_credentials(t, start_envoy(t))


@case(transports=("http2", "http3"))
def a_target_that_resets_through_envoy(t):
    """Envoy says CONNECT_ERROR on both transports: a reset to the client, not a clean end."""
    adit, origin = t.adit(start_envoy(t).port), targets.resetter(t)
    with socks5(adit.port, "127.0.0.1", origin.port) as sock:
        sock.sendall(b"x")
        try:
            check(sock.recv(1) == b"x", "a clean end")
        except ConnectionResetError:
            pass


@case(transports=("http2", "http3"))
def a_target_that_ends_first_through_envoy(t):
    """Envoy drops the rest of the upload; the download is whole, and the flow ends."""
    adit, origin = t.adit(start_envoy(t).port), targets.early_end(t)
    with socks5(adit.port, "127.0.0.1", origin.port) as sock:
        check(clients.read_exactly(sock, 5) == b"first", "the download")
        check(clients.is_closed(sock, 10), "no end")
    adit.wait_record()


if __name__ == "__main__":
    main()
