#!/usr/bin/env python3
"""Another network, and a sleep: adit on a machine of its own that moves, in front of an endpoint that stays."""
import signal
import time

import clients
import targets
from clients import socks5
from harness import C, case, check, main
from network import Machine

ALL = ("auto", "http2", "http3")


def start(t):
    t.own_network()
    machine = Machine(t)
    machine.move("10.77.0.2")
    endpoint, echo = t.endpoint(host=Machine.NEAR), targets.echo(t)
    adit = t.adit(endpoint, prefix=machine.prefix(), addresses=[f"{Machine.NEAR}:{endpoint.port}"])
    seconds(machine, adit, echo)
    return machine, adit, echo


def seconds(machine, adit, echo):
    """How long a request takes until its first echo."""
    begin = time.monotonic()
    with machine.inside():
        sock = socks5(adit.port, "127.0.0.1", echo.port, timeout=30)
    with sock:
        check(clients.ping(sock), "no echo")
    return time.monotonic() - begin


def used(adit):
    return adit.wait_log("session up transport=(h[23])").group(1)


@case(endpoints=(C,), transports=ALL, seconds=60)
def another_address(t):
    """The machine's address is replaced by another one: the first request afterwards is served within 3 s."""
    machine, adit, echo = start(t)
    for n in range(3, 6):
        machine.move(f"10.77.0.{n}")
        took = seconds(machine, adit, echo)
        t.note(f"{took:.2f} s")
        check(took < 3, f"served only after {took:.1f} s")
    check(adit.wait_record(id="4")["transport"] == used(adit), adit.records())


@case(endpoints=(C,), transports=ALL, seconds=90)
def no_network_for_a_while(t):
    """The address is gone for 8 s; once it is there again, attempts do not wait for the back-off."""
    machine, adit, echo = start(t)
    machine.move(None)
    time.sleep(8)
    machine.move("10.77.0.2")
    took = seconds(machine, adit, echo)
    t.note(f"{took:.2f} s")
    check(took < 3, f"served only after {took:.1f} s")


@case(endpoints=(C,), transports=("auto", "http2"), seconds=90)
def a_sleep(t):
    """adit does not run for 17 s, and what it had connected is forgotten on the way meanwhile."""
    machine, adit, echo = start(t)
    adit.signal(signal.SIGSTOP)
    machine.move("10.77.0.9")  # behind its back, as a NAT that forgets
    time.sleep(17)
    adit.signal(signal.SIGCONT)
    took = seconds(machine, adit, echo)
    t.note(f"{took:.2f} s")
    check(took < 3, f"served only after {took:.1f} s")
    check(adit.wait_record(id="2")["transport"] == used(adit), adit.records())


@case(endpoints=(C,), transports=ALL, seconds=90)
def a_link_that_flaps_elsewhere(t):
    """Links that do not lead to the endpoint come and go: the session stays."""
    machine, adit, echo = start(t)
    for _ in range(10):
        machine.run("link", "add", "other", "type", "veth", "peer", "name", "far")
        machine.run("link", "set", "other", "up")
        machine.run("address", "add", "10.99.0.1/24", "dev", "other")
        machine.run("link", "del", "other")
        time.sleep(0.3)
    check(seconds(machine, adit, echo) < 1, "late")
    check(adit.stderr().count("session up") == 1, "the session was replaced")


if __name__ == "__main__":
    main()
