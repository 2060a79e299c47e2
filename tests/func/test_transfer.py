#!/usr/bin/env python3
"""Bytes through the tunnel: large ones both ways, half-close in both orders, resets, slow and stuck readers."""
import hashlib
import socket
import threading
import time

import clients
import targets
from clients import socks5
from harness import BOTH, C, H2_H3, PY, case, check, main, wait_until

MIB = 1 << 20
# The scripted endpoint's HTTP/3 is Python's: a few MiB a second.
LARGE = {(PY, "http3"): 6 * MIB}


def size_of(t):
    return LARGE.get((t.kind, t.transport), 100 * MIB)


@case(endpoints=BOTH, transports=H2_H3, seconds=240)
def a_large_download(t):
    n = size_of(t)
    endpoint, origin = t.endpoint(), targets.source(t, n)
    adit = t.adit(endpoint)
    start = time.monotonic()
    with socks5(adit.port, "127.0.0.1", origin.port, timeout=60) as sock:
        got = clients.read_digest(sock)
    t.note(f"{n // MIB} MiB down in {time.monotonic() - start:.1f} s, adit {adit.rss() // MIB} MiB,"
           f" {adit.cpu_seconds():.1f} s of CPU")
    check(got == f"{n} {targets.pattern_sha256(n)}", f"{got} of {n}")
    record = adit.wait_record(protocol="socks5")
    check(record["down"] == str(n), record)
    endpoint.check_clean()


@case(endpoints=BOTH, transports=H2_H3, seconds=240)
def a_large_upload(t):
    n = size_of(t)
    endpoint, sink = t.endpoint(), targets.late_answer(t)
    adit = t.adit(endpoint)
    start = time.monotonic()
    with socks5(adit.port, "127.0.0.1", sink.port, timeout=60) as sock:
        digest = clients.send_pattern(sock, n)
        sock.shutdown(socket.SHUT_WR)
        answer = clients.read_all(sock).decode()
    t.note(f"{n // MIB} MiB up in {time.monotonic() - start:.1f} s, adit {adit.rss() // MIB} MiB,"
           f" {adit.cpu_seconds():.1f} s of CPU")
    check(answer == f"{n} {digest}", f"{answer} of {n}")
    endpoint.check_clean()


@case(endpoints=BOTH, transports=H2_H3, seconds=120)
def both_directions_at_once(t):
    n = size_of(t) // 4
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint)
    with socks5(adit.port, "127.0.0.1", echo.port, timeout=60) as sock:
        sender = threading.Thread(target=lambda: (clients.send_pattern(sock, n), sock.shutdown(socket.SHUT_WR)))
        sender.start()
        got = clients.read_digest(sock)
        sender.join()
    check(got == f"{n} {targets.pattern_sha256(n)}", f"{got} of {n}")
    endpoint.check_clean()


@case(endpoints=BOTH, transports=H2_H3)
def the_client_ends_first(t):
    """The upload's end reaches the target, and the answer still comes."""
    endpoint, origin = t.endpoint(), targets.late_answer(t)
    adit = t.adit(endpoint)
    for n in (0, 1, 300000):
        with socks5(adit.port, "127.0.0.1", origin.port) as sock:
            digest = clients.send_pattern(sock, n)
            sock.shutdown(socket.SHUT_WR)
            check(clients.read_all(sock).decode() == f"{n} {digest}", f"{n} bytes")
    endpoint.check_clean()


@case(endpoints=BOTH, transports=H2_H3, seconds=120)
def the_client_ends_first_and_much_is_still_to_come(t):
    n = 8 * MIB

    def handle(sock):
        targets.read_to_eof(sock)
        at = 0
        while at < n:
            sock.sendall(targets.pattern(at, 1 << 16))
            at += 1 << 16
    endpoint, origin = t.endpoint(), targets.Server(t, handle)
    adit = t.adit(endpoint)
    with socks5(adit.port, "127.0.0.1", origin.port) as sock:
        sock.sendall(b"request")
        sock.shutdown(socket.SHUT_WR)
        got = clients.read_digest(sock)
    check(got == f"{n} {targets.pattern_sha256(n)}", got)
    endpoint.check_clean()


@case(endpoints=BOTH, transports=H2_H3)
def the_target_ends_first(t):
    """The client sees the end of the download and may go on uploading."""
    endpoint, origin = t.endpoint(), targets.early_end(t)
    adit = t.adit(endpoint)
    n = 300000
    with socks5(adit.port, "127.0.0.1", origin.port) as sock:
        check(clients.read_all(sock) == b"first", "the download")
        digest = clients.send_pattern(sock, n)
        sock.shutdown(socket.SHUT_WR)
        wait_until(lambda: origin.got, 10, "the upload's end at the target")
    check(origin.got == [f"{n} {digest}"], origin.got)
    endpoint.check_clean()


@case(endpoints=BOTH, transports=H2_H3)
def a_target_that_resets(t):
    """On HTTP/2 it is a reset to the client as well; on HTTP/3 endpoints make it look like an end."""
    endpoint, origin = t.endpoint(), targets.resetter(t)
    adit = t.adit(endpoint)
    with socks5(adit.port, "127.0.0.1", origin.port) as sock:
        sock.sendall(b"x")
        try:
            data = sock.recv(1)
            check(data == b"", f"{data!r}")
            check(t.transport == "http3", "a reset became a clean end")
        except ConnectionResetError:
            pass
    record = adit.wait_record(protocol="socks5")
    t.note("record:", record["by"], record["reason"])


@case(endpoints=BOTH, transports=H2_H3)
def a_client_that_resets(t):
    """The target's connection ends soon, whatever the direction that the bytes went."""
    endpoint, origin = t.endpoint(), targets.silent(t)
    adit = t.adit(endpoint)
    for n in (0, 10000):
        sock = socks5(adit.port, "127.0.0.1", origin.port)
        sock.sendall(targets.pattern(0, n))
        time.sleep(0.3)
        targets.reset(sock)
    wait_until(lambda: origin.ended == 2, 10, "the target's connections end")
    wait_until(lambda: len([r for r in adit.records() if r["by"] == "client"]) == 2, 10, "records")
    endpoint.check_clean()


@case(endpoints=BOTH, transports=H2_H3)
def a_client_that_goes_while_it_is_sent_to(t):
    endpoint, origin = t.endpoint(), targets.source(t, 64 * MIB)
    adit = t.adit(endpoint)
    sock = socks5(adit.port, "127.0.0.1", origin.port)
    clients.read_exactly(sock, 100000)
    targets.reset(sock)
    wait_until(lambda: origin.open == 0, 15, "the target's connection ends")
    check(origin.sent < 64 * MIB, "everything was sent to nobody")
    endpoint.check_clean()


@case(endpoints=BOTH, transports=H2_H3, seconds=90)
def a_stuck_reader_holds_up_nobody(t):
    """One client does not read: its source stops, adit's memory stays bounded, and another flow runs on."""
    n = 64 * MIB
    endpoint, big, origin = t.endpoint(), targets.source(t, n), targets.source(t, 4 * MIB)
    adit = t.adit(endpoint, stream_window="1MiB", session_window="4MiB", buffer_budget="8MiB")
    before = adit.rss()
    stuck = socks5(adit.port, "127.0.0.1", big.port)
    wait_until(lambda: big.sent > 0, 10, "the source sends")
    sent = -1
    while big.sent != sent:         # until it stands still
        sent = big.sent
        time.sleep(1)
    check(sent < n, "nothing stopped the source")
    with socks5(adit.port, "127.0.0.1", origin.port) as sock:
        check(clients.read_digest(sock) == f"{4 * MIB} {targets.pattern_sha256(4 * MIB)}", "the other flow")
    grown = adit.rss() - before
    t.note(f"the source stopped at {sent // 1024} KiB, adit grew by {grown // 1024} KiB")
    check(grown < 24 * MIB, f"adit grew by {grown // MIB} MiB")
    used = adit.cpu_seconds()
    time.sleep(1)
    check(adit.cpu_seconds() - used < 0.2, "busy while stuck")
    got = clients.read_digest(stuck) if t.kind == C else None
    check(got in (None, f"{n} {targets.pattern_sha256(n)}"), "the stuck one, afterwards:", got)
    stuck.close()


@case(endpoints=BOTH, transports=H2_H3, seconds=90)
def a_target_that_does_not_read_stops_the_client(t):
    endpoint, origin, echo = t.endpoint(), targets.never_reads(t), targets.echo(t)
    adit = t.adit(endpoint)
    before = adit.rss()
    sock = socks5(adit.port, "127.0.0.1", origin.port)
    sock.settimeout(2)
    sent = 0
    try:
        while sent < 256 * MIB:
            sent += sock.send(targets.pattern(sent, 1 << 16))
    except (TimeoutError, socket.timeout):
        pass
    grown = adit.rss() - before
    t.note(f"the client stopped after {sent // 1024} KiB, adit grew by {grown // 1024} KiB")
    check(sent < 256 * MIB, "nothing stopped the client")
    check(grown < 24 * MIB, f"adit grew by {grown // MIB} MiB")
    with socks5(adit.port, "127.0.0.1", echo.port) as other:
        check(clients.ping(other), "another flow")
    sock.close()


@case(endpoints=BOTH, transports=H2_H3, seconds=90)
def an_idle_flow_ends_after_its_time(t):
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint, listener=dict(idle_timeout="2s"))
    with socks5(adit.port, "127.0.0.1", echo.port) as sock:
        for _ in range(5):
            check(clients.ping(sock), "ended while it was used")
            time.sleep(0.7)
        start = time.monotonic()
        check(clients.is_closed(sock, 8), "still open")
        check(time.monotonic() - start < 5, "late")
    check(adit.wait_record(protocol="socks5")["reason"] == "idle", adit.records())
    wait_until(lambda: echo.open == 0, 10, "the target's connection ends")


@case(endpoints=BOTH, transports=H2_H3, seconds=90)
def many_short_flows_leave_nothing_behind(t):
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint)

    def one(i):
        with socks5(adit.port, "127.0.0.1", echo.port) as sock:
            check(clients.ping(sock, b"%d" % i), "no echo")
    one(0)
    time.sleep(0.5)
    descriptors = adit.descriptors()
    for i in range(200):
        one(i)
    wait_until(lambda: adit.descriptors() <= descriptors, 10, "descriptors as before")
    wait_until(lambda: echo.open == 0, 10, "the targets' connections end")
    wait_until(lambda: len(adit.records()) == 201, 10, "a record for each flow")
    endpoint.check_clean()


@case(endpoints=(PY,), transports=H2_H3, seconds=90)
def small_windows(t):
    """An endpoint with windows of a few KiB slows down, but nothing is lost."""
    endpoint, sink = t.endpoint("--stream-window", "4096", "--conn-window", "65535"), targets.late_answer(t)
    adit = t.adit(endpoint)
    n = MIB
    with socks5(adit.port, "127.0.0.1", sink.port) as sock:
        digest = clients.send_pattern(sock, n)
        sock.shutdown(socket.SHUT_WR)
        check(clients.read_all(sock).decode() == f"{n} {digest}", "upload")
    endpoint.check_clean()


@case(endpoints=BOTH, transports=H2_H3, seconds=90)
def bytes_in_pieces_of_all_sizes(t):
    """Writes of 1 byte to 70,000, with pauses, come out the same."""
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint)
    sizes = [1, 2, 3, 7, 100, 1000, 1350, 1351, 4096, 16383, 16384, 16385, 65535, 70000] * 2
    total = sum(sizes)
    with socks5(adit.port, "127.0.0.1", echo.port) as sock:
        def send():
            at = 0
            for i, n in enumerate(sizes):
                sock.sendall(targets.pattern(at, n))
                at += n
                time.sleep(0.01 if i % 3 == 0 else 0)
            sock.shutdown(socket.SHUT_WR)
        thread = threading.Thread(target=send)
        thread.start()
        got = clients.read_all(sock)
        thread.join()
    check(len(got) == total, f"{len(got)} of {total} bytes")
    check(hashlib.sha256(got).hexdigest() == targets.pattern_sha256(total), "wrong bytes")


if __name__ == "__main__":
    main()
