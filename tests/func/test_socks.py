#!/usr/bin/env python3
"""SOCKS on the mixed listener: what is served, what is refused, and with which reply."""
import socket
import struct
import time

import clients
import targets
from clients import SocksError, Closed, dial, read_exactly, socks5, socks5_rep, socks5_request
from harness import BOTH, C, H2_H3, PASSWORD, PY, USER, case, check, main

APP = ("app", "app-pass")


def expect_rep(adit, host, port, wanted, **options):
    rep = socks5_rep(adit.port, host, port, **options)
    check(rep == wanted, f"{host}:{port} gave REP {rep}, not {wanted}")


@case(endpoints=BOTH, transports=H2_H3)
def socks5_carries_bytes_both_ways(t):
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint)
    with socks5(adit.port, "127.0.0.1", echo.port) as sock:
        check(clients.ping(sock), "no echo")
        sock.sendall(targets.pattern(0, 100000))
        check(read_exactly(sock, 100000) == targets.pattern(0, 100000), "wrong bytes")
        sock.shutdown(socket.SHUT_WR)
        check(clients.read_all(sock) == b"", "no end after ours")
    record = adit.wait_record(protocol="socks5", dest=f"127.0.0.1:{echo.port}")
    check(record["up"] == "100004" and record["down"] == "100004", "record:", record)
    check(record["transport"] == {"http2": "h2", "http3": "h3"}[t.transport], "record:", record)
    endpoint.check_clean()


@case(endpoints=BOTH, transports=("http2",))
def names_are_left_to_the_endpoint(t):
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint)
    with socks5(adit.port, "localhost", echo.port) as sock:
        check(clients.ping(sock), "no echo")
    if t.kind == PY:
        # A name that no resolver here knows.
        with socks5(adit.port, "Only-There.Test", echo.port) as sock:
            check(clients.ping(sock), "no echo")
        asked = [e["authority"] for e in endpoint.requests()]
        check(asked == [f"localhost:{echo.port}", f"only-there.test:{echo.port}"], asked)
    endpoint.check_clean()


@case(endpoints=(PY,), transports=H2_H3)
def the_request_has_the_right_form(t):
    endpoint, echo = t.endpoint("--strict"), targets.echo(t)
    adit = t.adit(endpoint, user_agent="linux something/1")
    socks5(adit.port, "127.0.0.1", echo.port).close()
    request = endpoint.requests()[0]
    check(request["auth"] == "ok", request)
    check([k for k, _ in request["headers"]] == [":method", ":authority", "user-agent", "proxy-authorization"], request)
    check(request["headers"][2][1] == "linux something/1", request)
    session = endpoint.events("session")[0]
    check(session["sni"] == "tt.test", session)
    if t.transport == "http2":
        check("h3" not in session["offered"] and "h2" in session["offered"], session)
    endpoint.check_clean()


@case(endpoints=(PY,), transports=("http2",))
def the_reply_waits_for_the_endpoint(t):
    endpoint = t.endpoint()
    adit = t.adit(endpoint)
    sock = dial(adit.port)
    clients.socks5_greet(sock)
    sock.sendall(socks5_request("hang.test", 80) + b"early")
    sock.settimeout(1)
    try:
        data = sock.recv(1)
        check(False, f"{data!r} before the endpoint had answered")
    except (TimeoutError, socket.timeout):
        pass
    # A client that has gone is noticed: only a reset shows that, an end may be a half-close.
    targets.reset(sock)
    endpoint.wait_event("reset")


@case(endpoints=BOTH, transports=("http2",))
def everything_in_one_segment(t):
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint, listener=dict(username=APP[0], password=APP[1]))
    sock = dial(adit.port)
    name, password = APP[0].encode(), APP[1].encode()
    sock.sendall(b"\x05\x01\x02" + b"\x01" + bytes([len(name)]) + name + bytes([len(password)]) + password
                 + socks5_request("127.0.0.1", echo.port) + b"payload once")
    check(read_exactly(sock, 4) == b"\x05\x02\x01\x00", "greeting and credentials")
    check(clients.socks5_reply(sock) == 0, "reply")
    check(read_exactly(sock, 12) == b"payload once", "payload")
    sock.settimeout(0.3)
    try:
        check(sock.recv(1) == b"never", "the payload came twice")
    except (TimeoutError, socket.timeout):
        pass


@case(endpoints=BOTH, transports=("http2",))
def a_request_byte_by_byte(t):
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint)
    sock = dial(adit.port)
    for byte in b"\x05\x02\x01\x00":
        sock.sendall(bytes([byte]))
        time.sleep(0.01)
    check(read_exactly(sock, 2) == b"\x05\x00", "method")
    for byte in socks5_request("localhost", echo.port):
        sock.sendall(bytes([byte]))
        time.sleep(0.01)
    check(clients.socks5_reply(sock) == 0, "reply")
    check(clients.ping(sock), "no echo")


@case(endpoints=BOTH, transports=H2_H3)
def a_refused_target_is_rep_5(t):
    endpoint = t.endpoint()
    adit = t.adit(endpoint)
    port = targets.refused_port(t)
    expect_rep(adit, "127.0.0.1", port, 5)
    record = adit.wait_record(dest=f"127.0.0.1:{port}")
    check(record["reason"] == "target-refused", record)


WARNINGS = ((300, 5), (301, 4), (302, 6), (310, 2), (311, 2), (399, 1))


@case(endpoints=(PY,), transports=H2_H3)
def warnings_become_replies(t):
    endpoint = t.endpoint()
    adit = t.adit(endpoint)
    for code, rep in WARNINGS:
        expect_rep(adit, f"warn-{code}.test", 80, rep)
    for status, rep in ((502, 1), (503, 1), (404, 1), (302, 1), (429, 1)):
        expect_rep(adit, f"status-{status}.test", 80, rep)
    expect_rep(adit, "rst.test", 80, 1)
    endpoint.check_clean()
    check(len(endpoint.events("session")) == 1, "the session did not stay:", endpoint.events("session"))


@case(endpoints=(C,), transports=("http2",), seconds=120)
def warnings_become_replies_too(t):
    for code, rep in WARNINGS[:5]:
        endpoint = t.endpoint(faults=[f"x-warning={code}"])
        adit = t.adit(endpoint)
        expect_rep(adit, "127.0.0.1", 9, rep)
        adit.stop()
        endpoint.stop()


@case(endpoints=(PY,), transports=H2_H3)
def an_endpoint_that_never_answers_is_no_success(t):
    endpoint = t.endpoint()
    adit = t.adit(endpoint, connect_timeout="2s")
    start = time.monotonic()
    rep = socks5_rep(adit.port, "hang.test", 80)
    check(rep in (1, 3, 6), f"REP {rep}")
    check(1.5 < time.monotonic() - start < 6, f"after {time.monotonic() - start:.1f} s")


@case(endpoints=(PY,), transports=("http2",))
def refused_commands_and_addresses(t):
    adit = t.adit(t.endpoint())
    for command in (0, 2, 3, 4, 255):
        expect_rep(adit, "127.0.0.1", 80, 7, command=command)
    for atyp in (0, 2, 5, 255):
        sock = dial(adit.port)
        clients.socks5_greet(sock)
        sock.sendall(b"\x05\x01\x00" + bytes([atyp]) + b"\x7f\0\0\x01\0\x50")
        check(clients.socks5_reply(sock) == 8, f"ATYP {atyp}")
        check(clients.is_closed(sock), f"ATYP {atyp}: still open")


@case(endpoints=(PY,), transports=("http2",))
def bad_destinations_never_reach_the_endpoint(t):
    endpoint = t.endpoint()
    adit = t.adit(endpoint)
    bad = [b"a\0b", b"a\r\nb", b"a b", b"a/b", b"a@b", b"[a", b"a]", b"\xff\xfe", b"a..b", b".a", b"x" * 64, b"_udp2",
           b"_icmp", b"_check", b"_CHECK", b"_check.", b"_udp2:0", b"a%b", b"1.2.3.4.5", b"256.1.1.1", b"fe80::1%lo",
           b"-a", b"*"]
    for host in bad:
        rep = socks5_rep(adit.port, host, 443)
        check(rep == 2, f"{host!r} gave REP {rep}")
    for host, port in (("127.0.0.1", 0), ("localhost", 0)):
        rep = socks5_rep(adit.port, host, port)
        check(rep in (1, 2), f"port 0 gave REP {rep}")
    check(not endpoint.requests(), "reached the endpoint:", endpoint.requests())
    endpoint.check_clean()


@case(endpoints=(PY,), transports=("http2",))
def addresses_in_disguise_are_made_plain(t):
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint)
    for host in (b"127.1", b"0x7f000001", b"2130706433", b"017700000001", b"::ffff:127.0.0.1", b"127.0.0.1"):
        with socks5(adit.port, host, echo.port) as sock:
            check(clients.ping(sock), f"{host!r}: no echo")
    asked = {e["authority"] for e in endpoint.requests()}
    check(asked == {f"127.0.0.1:{echo.port}"}, asked)


@case(endpoints=(PY,), transports=("http2",))
def ipv6_destinations(t):
    endpoint = t.endpoint()
    echo = targets.echo(t, host="::1")
    adit = t.adit(endpoint)
    for host in ("::1", b"::1", b"[::1]"):
        with socks5(adit.port, host, echo.port) as sock:
            check(clients.ping(sock), f"{host!r}: no echo")
    asked = {e["authority"] for e in endpoint.requests()}
    check(asked == {f"[::1]:{echo.port}"}, asked)
    endpoint.check_clean()


@case(endpoints=(PY,), transports=("http2",))
def the_proxy_itself_is_no_destination(t):
    endpoint = t.endpoint()
    adit = t.adit(endpoint)
    for host in ("127.0.0.1", b"127.1", b"localhost", b"::ffff:127.0.0.1"):
        rep = socks5_rep(adit.port, host, adit.port)
        check(rep == 2, f"{host!r} gave REP {rep}")
    check(not endpoint.requests(), "reached the endpoint:", endpoint.requests())


@case(endpoints=(PY,), transports=("http2",))
def credentials_of_applications(t):
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint, listener=dict(username=APP[0], password=APP[1]))
    with socks5(adit.port, "127.0.0.1", echo.port, auth=APP) as sock:
        check(clients.ping(sock), "no echo")
    for auth in ((APP[0], "wrong"), ("nobody", APP[1]), ("", APP[1]), (APP[0], ""), (b"app\0", APP[1]),
                 ("u" * 255, "p" * 255)):
        sock = dial(adit.port)
        check(not clients.socks5_greet(sock, auth), f"{auth} was let in")
        check(clients.is_closed(sock), "still open after bad credentials")
    try:
        socks5(adit.port, "127.0.0.1", echo.port)
        check(False, "served without credentials")
    except SocksError as error:
        check(error.rep == 0xFF, error)
    # The request in place of the credentials.
    sock = dial(adit.port)
    sock.sendall(b"\x05\x01\x02")
    check(read_exactly(sock, 2) == b"\x05\x02", "method")
    sock.sendall(socks5_request("127.0.0.1", echo.port))
    try:
        answer = clients.read_all(sock)
    except Closed:
        answer = b""
    check(answer in (b"", b"\x01\x01"), f"answered {answer!r}")
    check(echo.connections == 1, "the target was reached without credentials")
    check(APP[1] not in adit.stderr() and PASSWORD not in adit.stderr(), "a password is in the log")


@case(endpoints=(PY,), transports=("http2",))
def greetings(t):
    adit = t.adit(t.endpoint())
    sock = dial(adit.port)
    sock.sendall(b"\x05\xff" + bytes(range(1, 255)) + b"\x00")
    check(read_exactly(sock, 2) == b"\x05\x00", "255 methods, the wanted one last")
    for greeting in (b"\x05\x00", b"\x05\x01\x01", b"\x05\x02\x03\x80"):
        sock = dial(adit.port)
        sock.sendall(greeting)
        check(read_exactly(sock, 2) == b"\x05\xff", f"{greeting!r}")
        check(clients.is_closed(sock), f"{greeting!r}: still open")
    for first in (b"\x00", b"\x01", b"\x03", b"\x06", b"\x16\x03\x01\x02\x00"):
        sock = dial(adit.port)
        sock.sendall(first)
        check(clients.is_closed(sock), f"{first!r}: not closed in silence")


@case(endpoints=(PY,), transports=("http2",))
def socks4_carries_bytes(t):
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint)
    port = struct.pack(">H", echo.port)
    for request in (b"\x04\x01" + port + b"\x7f\0\0\x01\0", b"\x04\x01" + port + b"\x7f\0\0\x01user \xff\0",
                    b"\x04\x01" + port + b"\0\0\0\x01user\0LocalHost\0"):
        sock = dial(adit.port)
        sock.sendall(request + b"early")
        check(read_exactly(sock, 8) == b"\x00\x5a" + bytes(6), "refused")
        check(read_exactly(sock, 5) == b"early" and clients.ping(sock), "no echo")
        sock.close()
    names = [e["authority"] for e in endpoint.requests()]
    check(names == [f"127.0.0.1:{echo.port}"] * 2 + [f"localhost:{echo.port}"], names)
    adit.wait_record(protocol="socks4", dest=f"localhost:{echo.port}", reason="ok")


def socks4_answer(port, request):
    """The CD of the reply, None when there is none; the connection must be over after it."""
    sock = dial(port)
    sock.sendall(request)
    try:
        reply = read_exactly(sock, 8)
    except Closed:
        return None
    check(reply[0] == 0, f"{reply!r}")
    check(clients.is_closed(sock), "still open")
    return reply[1]


@case(endpoints=(PY,), transports=("http2",))
def socks4_refusals(t):
    endpoint = t.endpoint()
    adit = t.adit(endpoint)
    for request in (b"\x04\x02\x00\x50\x7f\0\0\x01\0", b"\x04\x01\x00\x00\x7f\0\0\x01\0", b"\x04\x01\x00\x50\0\0\0\x01\0\0",
                    b"\x04\x01\x00\x50\0\0\0\x01\0a\r\nb\0", b"\x04\x01\x00\x50\0\0\0\x01\0_udp2\0",
                    b"\x04\x01\x00\x50\x7f\0\0\x01" + b"u" * 300, b"\x04\x01\x00\x50\0\0\0\x01\0" + b"n" * 300,
                    b"\x04\x01" + struct.pack(">H", adit.port) + b"\0\0\0\x09\0localhost\0"):
        cd = socks4_answer(adit.port, request)
        check(cd == 91, f"{request[:20]!r}: {cd}")
    check(not endpoint.requests(), "reached the endpoint")
    refused = targets.refused_port(t)
    check(socks4_answer(adit.port, b"\x04\x01" + struct.pack(">H", refused) + b"\x7f\0\0\x01\0") == 91, "no target")


@case(endpoints=(PY,), transports=("http2",))
def socks4_is_refused_where_it_is_not_served_or_not_enough(t):
    endpoint, echo = t.endpoint(), targets.echo(t)
    request = b"\x04\x01" + struct.pack(">H", echo.port) + b"\x7f\0\0\x01app\0"
    for listener, cd in ((dict(username="app", password="app-pass"), 93), (dict(protocols=["socks5"]), 91),
                         (dict(protocols=["http"]), None), (dict(protocols=["socks4"]), 90)):
        adit = t.adit(endpoint, listener=listener)
        if cd == 90:
            sock = dial(adit.port)
            sock.sendall(request)
            check(read_exactly(sock, 8)[1] == 90, listener)
        else:
            check(not endpoint.requests(), "reached the endpoint")
            check(socks4_answer(adit.port, request) == cd, listener)
        adit.stop()


@case(endpoints=(PY,), transports=("http2",))
def a_slow_client_has_one_deadline(t):
    adit = t.adit(t.endpoint(), listener=dict(handshake_timeout="2s"))
    start = time.monotonic()
    quiet, slow = dial(adit.port), dial(adit.port)
    sent = 0
    while time.monotonic() - start < 5:
        try:
            slow.sendall(b"\x05\xff"[sent:sent + 1] or b"\x01")
            sent += 1
        except OSError:
            break
        time.sleep(0.4)
    check(clients.is_closed(slow, 1) and clients.is_closed(quiet, 1), "not closed")
    check(time.monotonic() - start < 5, f"only after {time.monotonic() - start:.1f} s")
    check(socks5_rep(adit.port, "status-404.test", 80) == 1, "adit serves no more")


@case(endpoints=(PY,), transports=("http2",), seconds=90)
def noise_does_no_harm(t):
    """Random bytes and cut-off requests; afterwards everything is as before."""
    import random
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint)
    socks5(adit.port, "127.0.0.1", echo.port).close()
    time.sleep(0.5)
    descriptors = adit.descriptors()
    rng = random.Random(1)
    whole = b"\x05\x01\x00" + socks5_request("localhost", 1)
    for i in range(300):
        sock = dial(adit.port)
        if i % 3 == 0:
            sock.sendall(whole[:rng.randrange(len(whole))])
        elif i % 3 == 1:
            sock.sendall(rng.randbytes(rng.randrange(1, 600)))
        else:
            sock.sendall(b"\x05\x01\x00\x05" + rng.randbytes(rng.randrange(1, 300)))
        if i % 2:
            targets.reset(sock)
        else:
            sock.close()
    with socks5(adit.port, "127.0.0.1", echo.port) as sock:
        check(clients.ping(sock), "no echo")
    from harness import wait_until
    wait_until(lambda: adit.descriptors() <= descriptors, 12, "descriptors as before")
    used = adit.cpu_seconds()
    time.sleep(1)
    check(adit.cpu_seconds() - used < 0.2, "busy while idle")


if __name__ == "__main__":
    main()
