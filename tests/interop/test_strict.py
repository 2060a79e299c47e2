#!/usr/bin/env python3
"""adit against an endpoint that watches every breach of the protocol, and one that behaves like known deployed ones."""
import os
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "func"))

import clients                                                  # noqa: E402
import targets                                                  # noqa: E402
from clients import socks5, socks5_rep                          # noqa: E402
from harness import H2_H3, PY, case, check, main, wait_until    # noqa: E402


def ping_through(adit, echo):
    with socks5(adit.port, "127.0.0.1", echo.port) as sock:
        check(clients.ping(sock), "no echo")


def use_everything(t, adit):
    """All the ways in which a flow may go."""
    echo, late, early, rst = (targets.echo(t), targets.late_answer(t), targets.early_end(t), targets.resetter(t))
    quiet = targets.silent(t)
    ping_through(adit, echo)
    with socks5(adit.port, "localhost", late.port) as sock:
        digest = clients.send_pattern(sock, 200000)
        sock.shutdown(socket.SHUT_WR)
        check(clients.read_all(sock).decode() == f"200000 {digest}", "the client ends first")
    with socks5(adit.port, "only-there.test", early.port) as sock:
        check(clients.read_all(sock) == b"first", "the target ends first")
        sock.sendall(b"more")
        sock.shutdown(socket.SHUT_WR)
        wait_until(lambda: early.got, 10, "the rest of the upload")
    with socks5(adit.port, "127.0.0.1", rst.port) as sock:
        sock.sendall(b"x")
        clients.is_closed(sock)
    for n in (0, 1000):
        sock = socks5(adit.port, "127.0.0.1", quiet.port)
        sock.sendall(b"x" * n)
        time.sleep(0.2)
        targets.reset(sock)
    wait_until(lambda: quiet.ended == 2, 10, "aborts arrive")
    for name, rep in (("warn-300.test", 5), ("status-404.test", 1), ("rst.test", 1)):
        check(socks5_rep(adit.port, name, 80) == rep, name)
    check(socks5_rep(adit.port, "127.0.0.1", targets.refused_port(t)) == 5, "refused")
    sock = clients.dial(adit.port)
    clients.socks5_greet(sock)
    sock.sendall(clients.socks5_request("hang.test", 80) + b"early data")
    time.sleep(0.3)
    sock.close()
    answer = clients.http_connect(adit.port, f"127.0.0.1:{echo.port}")
    check(answer.status == 200 and clients.ping(answer.sock), "HTTP CONNECT")
    answer.sock.close()


@case(endpoints=(PY,), transports=("http2", "http3", "auto"))
def no_breach_of_the_protocol(t):
    endpoint = t.endpoint("--strict")
    adit = t.adit(endpoint)
    use_everything(t, adit)
    adit.stop()
    endpoint.check_clean()
    sessions = endpoint.events("session")
    check(len(sessions) <= (2 if t.transport == "auto" else 1), "sessions were lost:", sessions)


@case(endpoints=(PY,), transports=("http3",))
def with_retry(t):
    endpoint = t.endpoint("--strict", "--retry")
    adit = t.adit(endpoint)
    use_everything(t, adit)
    endpoint.check_clean()


@case(endpoints=(PY,), transports=("http3",))
def an_endpoint_that_ignores_a_bare_fin_and_reset(t):
    """Only an empty DATA frame with the FIN ends an upload there; everything else leaks the target's socket."""
    endpoint = t.endpoint("--strict", faults=["h3-fin=ignore-bare"])
    adit = t.adit(endpoint)
    use_everything(t, adit)
    endpoint.check_clean()


@case(endpoints=(PY,), transports=("http3",))
def an_endpoint_whose_tunnels_die_by_a_fin(t):
    """There a client's half-close ends both directions: what had come before is delivered, and nothing hangs."""
    endpoint, echo = t.endpoint(faults=["h3-fin=kill"]), targets.echo(t)
    adit = t.adit(endpoint)
    with socks5(adit.port, "127.0.0.1", echo.port) as sock:
        check(clients.ping(sock), "no echo")
        sock.shutdown(socket.SHUT_WR)
        check(clients.is_closed(sock, 10), "still open")
    ping_through(adit, echo)


@case(endpoints=(PY,), transports=("http2",))
def an_endpoint_like_mihomo_s_listener(t):
    """No ALPN, 200 before the target is dialled, a small connection window."""
    endpoint = t.endpoint("--stream-window", "1048576", "--conn-window", "1048576", "--max-streams", "250",
                          faults=["no-alpn", "instant-200"])
    adit = t.adit(endpoint)
    echo, late = targets.echo(t), targets.late_answer(t)
    ping_through(adit, echo)
    with socks5(adit.port, "127.0.0.1", late.port) as sock:
        digest = clients.send_pattern(sock, 8 << 20)
        sock.shutdown(socket.SHUT_WR)
        check(clients.read_all(sock).decode() == f"{8 << 20} {digest}", "upload")
    with socks5(adit.port, "127.0.0.1", targets.refused_port(t)) as sock:
        check(clients.is_closed(sock, 10), "a dead target's flow is still open")
    endpoint.check_clean()


@case(endpoints=(PY,), transports=H2_H3)
def a_health_check_with_another_answer(t):
    """Any answer is a sign of life, save that the credentials are wrong: the session stays and is used."""
    for status in ("503", "400", "501", "404"):
        endpoint, echo = t.endpoint(faults=[f"check={status}"]), targets.echo(t)
        adit = t.adit(endpoint)
        ping_through(adit, echo)
        time.sleep(0.3)
        ping_through(adit, echo)
        check(len(endpoint.events("session")) == 1, status, endpoint.events("session"))
        endpoint.check_clean()
        adit.stop()
        endpoint.stop()


@case(endpoints=(PY,), transports=H2_H3)
def a_health_check_without_an_answer_while_data_flows(t):
    """What is received counts as life."""
    endpoint, echo = t.endpoint(faults=["check=hang"]), targets.echo(t)
    adit = t.adit(endpoint, health_timeout="1s")
    with socks5(adit.port, "127.0.0.1", echo.port) as sock:
        for _ in range(20):
            check(clients.ping(sock), "the flow was lost")
            time.sleep(0.2)
    check(len(endpoint.events("session")) == 1, endpoint.events("session"))


@case(endpoints=(PY,), transports=H2_H3, seconds=60)
def sessions_over_the_cap_end(t):
    """Deployed endpoints allow a user so many sessions; one too many ends after its first request."""
    endpoint, echo = t.endpoint(faults=["session-cap=1", "close-after=4"]), targets.echo(t)
    adit = t.adit(endpoint, recovery_wait="3s")
    for _ in range(2):
        ping_through(adit, echo)
    for _ in range(4):
        socks5_rep(adit.port, "127.0.0.1", echo.port)
    time.sleep(2)
    tried = len(endpoint.events("session"))
    check(tried < 12, f"hammering: {tried} sessions")
    endpoint.control("clear session-cap")
    endpoint.control("clear close-after")
    wait_until(lambda: socks5_rep(adit.port, "127.0.0.1", echo.port) == 0, 15, "works again", step=0.3)


if __name__ == "__main__":
    main()
