#!/usr/bin/env python3
"""Networks that do not let UDP or TCP through: a namespace of the case's own with rules in it."""
import threading
import time

import clients
import targets
from clients import socks5
from harness import BOTH, C, PY, case, check, main, wait_until


def first_flow(adit, echo, seconds=15):
    """Time to the first echo from a fresh start."""
    start = time.monotonic()
    with socks5(adit.port, "127.0.0.1", echo.port, timeout=seconds) as sock:
        check(clients.ping(sock), "no echo")
        return time.monotonic() - start


@case(endpoints=BOTH, transports=("auto",))
def nothing_is_in_the_way(t):
    """Without trouble new flows go over HTTP/3."""
    t.own_network()
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint)
    t.note(f"first flow after {first_flow(adit, echo):.2f} s")
    check(adit.wait_record()["transport"] == "h3", adit.records())
    endpoint.check_clean()


@case(endpoints=BOTH, transports=("auto",))
def udp_is_dropped(t):
    """The first flow is served over HTTP/2 within two seconds of the start."""
    net = t.own_network()
    endpoint, echo = t.endpoint(), targets.echo(t)
    net.rules(f"udp dport {endpoint.port} drop")
    start = time.monotonic()
    adit = t.adit(endpoint)
    first_flow(adit, echo)
    seconds = time.monotonic() - start
    t.note(f"first flow {seconds:.2f} s after the start")
    check(seconds < 2.5, f"first flow only after {seconds:.2f} s")
    check(adit.wait_record()["transport"] == "h2", adit.records())
    check(first_flow(adit, echo) < 1, "the second flow waited too")


@case(endpoints=BOTH, transports=("auto",))
def udp_is_rejected(t):
    """An ICMP error needs no waiting."""
    net = t.own_network()
    endpoint, echo = t.endpoint(), targets.echo(t)
    net.rules(f"udp dport {endpoint.port} reject")
    start = time.monotonic()
    adit = t.adit(endpoint)
    first_flow(adit, echo)
    seconds = time.monotonic() - start
    t.note(f"first flow {seconds:.2f} s after the start")
    check(seconds < 2.5, f"first flow only after {seconds:.2f} s")
    check(adit.wait_record()["transport"] == "h2", adit.records())


@case(endpoints=BOTH, transports=("auto",))
def answers_over_udp_are_dropped(t):
    """Only the way back is blocked."""
    net = t.own_network()
    endpoint, echo = t.endpoint(), targets.echo(t)
    net.rules(f"udp sport {endpoint.port} drop")
    start = time.monotonic()
    adit = t.adit(endpoint)
    first_flow(adit, echo)
    seconds = time.monotonic() - start
    check(seconds < 2.5, f"first flow only after {seconds:.2f} s")


@case(endpoints=BOTH, transports=("auto",), seconds=90)
def udp_is_dropped_after_a_while(t):
    """HTTP/3 came up, then its packets vanish: new flows go over HTTP/2 soon, and adit says so."""
    net = t.own_network()
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint, health_timeout="2s", recovery_wait="15s")
    first_flow(adit, echo)
    check(adit.wait_record()["transport"] == "h3", adit.records())
    net.rules(f"udp dport {endpoint.port} drop\nudp sport {endpoint.port} drop")
    seconds = first_flow(adit, echo, 20)
    t.note(f"a flow that was started into the hole was served after {seconds:.1f} s")
    check(seconds < 10, f"only after {seconds:.1f} s")
    wait_until(lambda: adit.records()[-1]["transport"] == "h2", 5, "a flow over HTTP/2")
    check(first_flow(adit, echo) < 1, "the next flow waited too")


@case(endpoints=BOTH, transports=("auto",), seconds=90)
def large_udp_is_dropped(t):
    """Only packets over 1,200 bytes vanish, as where the path MTU is wrong: data must still arrive."""
    net = t.own_network()
    endpoint, origin = t.endpoint(), targets.late_answer(t)
    net.rules(f"udp dport {endpoint.port} meta length > 1260 drop")
    adit = t.adit(endpoint)
    n = 1 << 20
    with socks5(adit.port, "127.0.0.1", origin.port, timeout=30) as sock:
        digest = clients.send_pattern(sock, n)
        sock.shutdown(1)
        check(clients.read_all(sock).decode() == f"{n} {digest}", "upload")
    t.note("over", adit.wait_record()["transport"])


@case(endpoints=BOTH, transports=("auto",))
def tcp_is_dropped(t):
    """HTTP/3 carries on where TCP does not come through."""
    net = t.own_network()
    endpoint, echo = t.endpoint(), targets.echo(t)
    net.rules(f"tcp dport {endpoint.port} drop")
    adit = t.adit(endpoint)
    first_flow(adit, echo)
    check(adit.wait_record()["transport"] == "h3", adit.records())


@case(endpoints=BOTH, transports=("auto",), seconds=120)
def both_are_dropped_and_come_back(t):
    net = t.own_network()
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint, health_timeout="2s", recovery_wait="2s", handshake_timeout="2s")
    first_flow(adit, echo)
    net.rules(f"udp dport {endpoint.port} drop\ntcp dport {endpoint.port} drop\n"
              f"udp sport {endpoint.port} drop\ntcp sport {endpoint.port} drop")
    start = time.monotonic()
    rep = clients.socks5_rep(adit.port, "127.0.0.1", echo.port, timeout=40)
    check(rep in (1, 3, 4, 6), f"REP {rep}")
    t.note(f"REP {rep} after {time.monotonic() - start:.1f} s")
    check(time.monotonic() - start < 20, "too late")
    net.rules("")

    def works():
        return clients.socks5_rep(adit.port, "127.0.0.1", echo.port, timeout=30) == 0
    start = time.monotonic()
    wait_until(works, 30, "works again", step=0.2)
    t.note(f"worked {time.monotonic() - start:.1f} s after the way was free")


@case(endpoints=BOTH, transports=("auto",))
def an_endpoint_without_http3(t):
    t.own_network()
    endpoint, echo = t.endpoint("--no-h3"), targets.echo(t)
    start = time.monotonic()
    adit = t.adit(endpoint)
    first_flow(adit, echo)
    check(time.monotonic() - start < 2.5, "waited for HTTP/3")
    check(adit.wait_record()["transport"] == "h2", adit.records())


@case(endpoints=BOTH, transports=("auto",))
def an_endpoint_without_http2(t):
    t.own_network()
    endpoint, echo = t.endpoint("--no-h2"), targets.echo(t)
    adit = t.adit(endpoint)
    first_flow(adit, echo)
    check(adit.wait_record()["transport"] == "h3", adit.records())


@case(endpoints=BOTH, transports=("auto",))
def the_endpoint_s_own_udp_fault(t):
    endpoint, echo = t.endpoint(faults=["udp-drop"]), targets.echo(t)
    start = time.monotonic()
    adit = t.adit(endpoint)
    first_flow(adit, echo)
    check(time.monotonic() - start < 2.5, "late")
    check(adit.wait_record()["transport"] == "h2", adit.records())


@case(endpoints=BOTH, transports=("http3",), seconds=120)
def loss_on_the_way(t):
    """Every twentieth UDP packet in each direction is lost: slower, but complete."""
    net = t.own_network()
    n = (1 if t.kind == PY else 8) << 20
    endpoint, source, sink = t.endpoint(), targets.source(t, n), targets.late_answer(t)
    net.rules(f"udp dport {endpoint.port} numgen random mod 100 < 5 drop\n"
              f"udp sport {endpoint.port} numgen random mod 100 < 5 drop")
    adit = t.adit(endpoint, health_timeout="10s", handshake_timeout="20s", recovery_wait="20s")
    with socks5(adit.port, "127.0.0.1", source.port, timeout=60) as sock:
        check(clients.read_digest(sock) == f"{n} {targets.pattern_sha256(n)}", "download")
    with socks5(adit.port, "127.0.0.1", sink.port, timeout=60) as sock:
        digest = clients.send_pattern(sock, n)
        sock.shutdown(1)
        check(clients.read_all(sock).decode() == f"{n} {digest}", "upload")


@case(endpoints=BOTH, transports=("auto",), seconds=60)
def a_burst_at_the_start_waits_for_the_race(t):
    """Thirty requests at once while UDP is blackholed: all are served, on one session."""
    net = t.own_network()
    endpoint, echo = t.endpoint(), targets.echo(t)
    net.rules(f"udp dport {endpoint.port} drop")
    adit = t.adit(endpoint)
    results = []

    def one():
        try:
            with socks5(adit.port, "127.0.0.1", echo.port) as sock:
                results.append(clients.ping(sock))
        except Exception as error:
            results.append(repr(error))
    threads = [threading.Thread(target=one) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    check(results == [True] * 30, results)
    if t.kind == PY:
        check(len(endpoint.events("session")) == 1, endpoint.events("session"))


if __name__ == "__main__":
    main()
