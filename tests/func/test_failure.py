#!/usr/bin/env python3
"""When the endpoint is down, refuses, misbehaves or is not the right one: adit fails closed, says why, and recovers."""
import socket
import threading
import time

import certs
import clients
import targets
from clients import SocksError, http_connect, socks5, socks5_rep
from harness import BOTH, H2_H3, PASSWORD, PY, case, check, main, wait_until

PROMPT = dict(recovery_wait="2s", health_timeout="2s", handshake_timeout="2s", connect_timeout="5s")


def timed_rep(adit, host, port, **options):
    start = time.monotonic()
    rep = socks5_rep(adit.port, host, port, **options)
    return rep, time.monotonic() - start


def ping_through(adit, echo, seconds=20):
    with socks5(adit.port, "127.0.0.1", echo.port, timeout=seconds) as sock:
        check(clients.ping(sock), "no echo")


@case(transports=("http2", "http3", "auto"))
def an_endpoint_that_is_down(t):
    """Requests fail within recovery_wait, the target is not reached by another way, and adit stays."""
    echo = targets.echo(t)
    adit = t.adit(None, **PROMPT)
    for _ in range(2):
        rep, seconds = timed_rep(adit, "127.0.0.1", echo.port)
        check(rep not in (0, 2, 7), f"REP {rep}")
        check(seconds < 5, f"only after {seconds:.1f} s")
    answer = http_connect(adit.port, f"127.0.0.1:{echo.port}")
    check(answer.status in (502, 503, 504) and "proxy-status" in answer.headers, answer)
    check(echo.connections == 0, "the target was reached past the tunnel")
    check(adit.running(), "adit ended")
    used = adit.cpu_seconds()
    time.sleep(2)
    check(adit.cpu_seconds() - used < 0.3, "busy while the endpoint is down")


@case(endpoints=BOTH, transports=("http2", "http3", "auto"), seconds=90)
def an_endpoint_that_comes_back(t):
    """Killed while it is used; flows end; requests fail; when it is back everything works without a restart."""
    echo = targets.echo(t)
    endpoint = t.endpoint()
    adit = t.adit(endpoint, **PROMPT)
    held = socks5(adit.port, "127.0.0.1", echo.port)
    check(clients.ping(held), "no echo")
    endpoint.kill()
    rep, seconds = timed_rep(adit, "127.0.0.1", echo.port)
    check(rep not in (0, 2, 7), f"REP {rep}")
    check(seconds < 10, f"only after {seconds:.1f} s")
    check(clients.is_closed(held, 15), "the flow outlived its session")
    again = t.endpoint(port=endpoint.port)

    def works():
        try:
            ping_through(adit, echo)
            return True
        except (SocksError, OSError):
            return False
    start = time.monotonic()
    wait_until(works, 20, "works again", step=0.2)
    t.note(f"worked {time.monotonic() - start:.1f} s after the restart")
    again.check_clean()


@case(endpoints=BOTH, transports=H2_H3)
def an_endpoint_that_comes_up_late(t):
    """A request that waits is served by the session that comes up within recovery_wait."""
    echo = targets.echo(t)
    port = t.free_port()
    adit = t.adit(port, recovery_wait="15s", handshake_timeout="2s")
    results = []
    thread = threading.Thread(target=lambda: results.append(socks5_rep(adit.port, "127.0.0.1", echo.port, timeout=30)))
    thread.start()
    time.sleep(1.5)
    t.endpoint(port=port)
    thread.join(25)
    check(results == [0], results)


@case(endpoints=BOTH, transports=H2_H3)
def a_certificate_for_another_name(t):
    endpoint, echo = t.endpoint(leaf=t.shared.certs.leaf("other", dns=("other.test",))), targets.echo(t)
    refused_certificate(t, t.adit(endpoint, **PROMPT), endpoint, echo)


@case(endpoints=BOTH, transports=H2_H3)
def a_certificate_of_an_unknown_authority(t):
    endpoint = t.endpoint(leaf=certs.Certs(t.dir, "Somebody else").leaf())
    echo = targets.echo(t)
    refused_certificate(t, t.adit(endpoint, **PROMPT), endpoint, echo)


@case(endpoints=BOTH, transports=H2_H3)
def an_expired_certificate(t):
    endpoint, echo = t.endpoint(leaf=t.shared.certs.expired()), targets.echo(t)
    refused_certificate(t, t.adit(endpoint, **PROMPT), endpoint, echo)


@case(endpoints=BOTH, transports=("auto",))
def a_refused_certificate_is_not_tried_elsewhere(t):
    endpoint, echo = t.endpoint(leaf=certs.Certs(t.dir, "Somebody else").leaf()), targets.echo(t)
    refused_certificate(t, t.adit(endpoint, **PROMPT), endpoint, echo)


def refused_certificate(t, adit, endpoint, echo):
    rep, seconds = timed_rep(adit, "127.0.0.1", echo.port)
    check(rep == 1, f"REP {rep}")
    check(seconds < 6, f"only after {seconds:.1f} s")
    answer = http_connect(adit.port, f"127.0.0.1:{echo.port}")
    check(answer.status == 502 and "tls_certificate_error" in answer.headers.get("proxy-status", ""), answer)
    adit.wait_log("upstream-certificate")
    check(echo.connections == 0, "the target was reached")
    if endpoint.kind == PY:
        check(not endpoint.events("request"), "credentials went to an unverified endpoint")


@case(endpoints=BOTH, transports=H2_H3)
def verification_can_be_switched_off_but_not_quietly(t):
    endpoint, echo = t.endpoint(leaf=certs.Certs(t.dir, "Somebody else").leaf()), targets.echo(t)
    adit = t.adit(endpoint, skip_verification=True)
    ping_through(adit, echo)
    adit.wait_log("NOT VERIFIED")


@case(endpoints=BOTH, transports=("http2", "http3", "auto"))
def refused_credentials(t):
    """One state, REP 1, 502, and no hammering."""
    endpoint, echo = t.endpoint(password="another"), targets.echo(t)
    adit = t.adit(endpoint, **PROMPT)
    adit.wait_log("credentials rejected")
    for _ in range(30):
        rep, seconds = timed_rep(adit, "127.0.0.1", echo.port)
        check(rep == 1 and seconds < 5, f"REP {rep} after {seconds:.1f} s")
    answer = http_connect(adit.port, f"127.0.0.1:{echo.port}")
    check(answer.status == 502 and "proxy_configuration_error" in answer.headers.get("proxy-status", ""), answer)
    check(echo.connections == 0, "the target was reached")
    check(PASSWORD not in adit.stderr(), "the password is in the log")
    if t.kind == PY:
        count = len(endpoint.events("request"))
        t.note(f"{count} requests on {len(endpoint.events('session'))} sessions reached the endpoint")
        check(count <= 5, f"{count} requests reached the endpoint")
        check(len(endpoint.events("tcp")) <= 4, "hammering")


@case(endpoints=(PY,), transports=H2_H3)
def credentials_refused_later(t):
    """An account that is closed while the session is up."""
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint, **PROMPT)
    ping_through(adit, echo)
    endpoint.control("fault status=407")
    before = len(endpoint.events("request"))
    for _ in range(20):
        check(socks5_rep(adit.port, "127.0.0.1", echo.port) == 1, "REP")
    adit.wait_log("credentials rejected")
    check(len(endpoint.events("request")) - before <= 6, "hammering")


@case(endpoints=BOTH, transports=H2_H3)
def every_request_is_forbidden(t):
    """403 for everything: deployed endpoints may be configured to answer bad credentials so."""
    endpoint, echo = t.endpoint(faults=["status=403"]), targets.echo(t)
    adit = t.adit(endpoint, **PROMPT)
    rep, _ = timed_rep(adit, "127.0.0.1", echo.port)
    check(rep in (1, 2), f"REP {rep}")
    check(http_connect(adit.port, f"127.0.0.1:{echo.port}").status in (403, 502), "status")
    check(echo.connections == 0, "the target was reached")


@case(endpoints=BOTH, transports=H2_H3)
def goaway_moves_new_flows_to_a_new_session(t):
    """The running flow goes on, no request fails."""
    endpoint, echo = t.endpoint(faults=["goaway-after=4"]), targets.echo(t)
    adit = t.adit(endpoint, **PROMPT)
    held = []
    for _ in range(12):
        sock = socks5(adit.port, "127.0.0.1", echo.port)
        check(clients.ping(sock), "no echo")
        held.append(sock)
    for i, sock in enumerate(held):
        check(clients.ping(sock), f"flow {i} died by a GOAWAY")
    if t.kind == PY:
        check(len(endpoint.events("session")) >= 3, endpoint.events("session"))
        endpoint.check_clean()


@case(endpoints=BOTH, transports=H2_H3)
def a_refused_stream_is_tried_again(t):
    """The health check and the first request are refused unprocessed; nobody notices."""
    endpoint, echo = t.endpoint(faults=["refuse-stream=2"]), targets.echo(t)
    adit = t.adit(endpoint, **PROMPT)
    for _ in range(5):
        ping_through(adit, echo)
    endpoint.check_clean()


@case(endpoints=(PY,), transports=H2_H3, seconds=90)
def a_session_that_is_dropped_is_replaced(t):
    """The endpoint ends the session without a word: running flows end, the next ones work at once."""
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint, **PROMPT)
    for _ in range(3):
        held = socks5(adit.port, "127.0.0.1", echo.port)
        endpoint.control("drop")
        check(clients.is_closed(held, 5), "the flow outlived its session")
        start = time.monotonic()
        ping_through(adit, echo)
        t.note(f"next flow after {time.monotonic() - start:.2f} s")
    endpoint.check_clean()


@case(endpoints=(PY,), transports=H2_H3, seconds=90)
def a_session_that_falls_silent_is_replaced(t):
    """Nothing comes any more: a health check notices, and a request that waited is served by the next session."""
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint, recovery_wait="20s", health_timeout="1s", handshake_timeout="2s")
    ping_through(adit, echo)
    endpoint.control("fault deaf")
    results = []
    thread = threading.Thread(target=lambda: results.append(socks5_rep(adit.port, "127.0.0.1", echo.port, timeout=40)))
    thread.start()
    adit.wait_log("silent", 12)
    endpoint.control("drop")        # the old sessions stay lost
    endpoint.control("clear deaf")
    start = time.monotonic()
    thread.join(35)
    check(results == [0], results)
    t.note(f"served {time.monotonic() - start:.1f} s after the endpoint heard again")
    ping_through(adit, echo)


@case(endpoints=BOTH, transports=("http2",))
def an_endpoint_without_alpn(t):
    endpoint, echo = t.endpoint(faults=["no-alpn"]), targets.echo(t)
    adit = t.adit(endpoint, **PROMPT)
    ping_through(adit, echo)
    adit.wait_log("no ALPN")


@case(endpoints=BOTH, transports=H2_H3)
def an_endpoint_that_is_slow_to_answer(t):
    endpoint, echo = t.endpoint(faults=["slow-accept=1500"]), targets.echo(t)
    adit = t.adit(endpoint)
    start = time.monotonic()
    ping_through(adit, echo)
    check(time.monotonic() - start > 1.4, "the fault did nothing")


@case(endpoints=(PY,), transports=("http2",))
def an_endpoint_that_is_slow_to_accept(t):
    endpoint, echo = t.endpoint(faults=["slow-tcp=1500"]), targets.echo(t)
    adit = t.adit(endpoint, handshake_timeout="10s")
    ping_through(adit, echo)


@case(endpoints=BOTH, transports=H2_H3)
def an_endpoint_that_answers_before_it_dials(t):
    """A dead target is success and then the end; a living one works."""
    endpoint, echo = t.endpoint(faults=["instant-200"]), targets.echo(t)
    adit = t.adit(endpoint, **PROMPT)
    ping_through(adit, echo)
    with socks5(adit.port, "127.0.0.1", targets.refused_port(t)) as sock:
        check(clients.is_closed(sock, 10), "still open")
    ping_through(adit, echo)


@case(transports=("http2",))
def something_else_on_the_port(t):
    """Not TLS at all, or closed at once: an error with a reason, and no busy loop."""
    for speech in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"\x15\x03\x03\x00\x02\x02\x28", b"SSH-2.0-x\r\n"):
        def handle(sock, speech=speech):
            sock.recv(100)
            sock.sendall(speech)
            sock.shutdown(socket.SHUT_WR)
        other = targets.Server(t, handle)
        adit = t.adit(other.port, **PROMPT)
        rep, seconds = timed_rep(adit, "localhost", 80)
        check(rep not in (0, 2, 7) and seconds < 5, f"{speech!r}: REP {rep} after {seconds:.1f} s")
        time.sleep(1)
        check(other.connections < 8, f"{speech!r}: {other.connections} attempts")
        adit.stop()


@case(transports=("http2", "http3"))
def an_endpoint_that_accepts_and_says_nothing(t):
    if t.transport == "http2":
        port = targets.silent(t).port
    else:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        t.defer(sock.close)
        port = sock.getsockname()[1]
    adit = t.adit(port, **PROMPT)
    rep, seconds = timed_rep(adit, "localhost", 80)
    check(rep not in (0, 2, 7), f"REP {rep}")
    check(seconds < 6, f"only after {seconds:.1f} s")


@case(endpoints=(PY,), transports=H2_H3, seconds=90)
def many_cancelled_requests_do_not_cost_the_session(t):
    """Applications that give up are told to the endpoint at a rate that it bears."""
    endpoint, echo = t.endpoint(faults=["rst-flood"]), targets.echo(t)
    adit = t.adit(endpoint, **PROMPT)
    ping_through(adit, echo)
    for _ in range(60):
        sock = clients.dial(adit.port)
        clients.socks5_greet(sock)
        sock.sendall(clients.socks5_request("hang.test", 80))
        time.sleep(0.01)
        sock.close()
    time.sleep(1)
    ping_through(adit, echo)
    flood = endpoint.events("violation", what="rst-flood")
    check(not flood, "the endpoint saw a flood of resets")
    check(len(endpoint.events("session")) == 1, "the session was lost")


@case(endpoints=(PY,), transports=H2_H3, seconds=90)
def streams_beyond_the_limit_wait(t):
    """The endpoint allows 4 streams; 12 requests are all served in the end."""
    endpoint, echo = t.endpoint("--max-streams", "4"), targets.echo(t)
    adit = t.adit(endpoint, recovery_wait="20s")
    results = []

    def one(i):
        with socks5(adit.port, "127.0.0.1", echo.port, timeout=30) as sock:
            ok = clients.ping(sock, b"%d" % i)
            time.sleep(0.3)
        results.append(ok)
    threads = [threading.Thread(target=one, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    check(results == [True] * 12, results)
    endpoint.check_clean()


@case(endpoints=(PY,), transports=H2_H3, seconds=60)
def a_session_ended_by_the_dead_man_timer_is_replaced(t):
    """An endpoint that ends sessions without new streams. The deployed period is 600 s, too long for a test; here it is
    so short that the session is lost, and the next flow has to be served by another."""
    endpoint, echo = t.endpoint(faults=["dead-man=1500"]), targets.echo(t)
    adit = t.adit(endpoint, **PROMPT)
    for _ in range(3):
        ping_through(adit, echo)
        time.sleep(2)
    endpoint.check_clean()


if __name__ == "__main__":
    main()
