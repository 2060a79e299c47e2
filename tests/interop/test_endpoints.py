#!/usr/bin/env python3
"""Judges the test endpoints with a client that is not adit: what they agree on is what the other tests rely on."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "func"))

import certs                                                                    # noqa: E402
from clients import basic                                                       # noqa: E402
from harness import BOTH, H2_H3, INTEROP, PASSWORD, PY, SHORT, USER, case, check, main, wait_until  # noqa: E402


@case(endpoints=BOTH, transports=H2_H3, seconds=180)
def judged_by_a_foreign_client(t):
    t.shared.need_python_stacks()
    endpoint = t.endpoint()
    judge(t, endpoint, "--trusttunnel")


@case(endpoints=BOTH, transports=("http3",), seconds=180)
def judged_with_retry(t):
    t.shared.need_python_stacks()
    judge(t, t.endpoint("--retry"), "--trusttunnel")


REQUEST = ((b":method", b"CONNECT"), (b":authority", b"hang.test:80"), (b"user-agent", b"x"),
           (b"proxy-authorization", basic(USER, PASSWORD).encode()))


def changed(at, *fields):
    return [*REQUEST[:at], *fields, *REQUEST[at + 1:]]


BREACHES = (
    ("upper-case-name", changed(2, (b"User-Agent", b"x")), ("h2",)),
    ("pseudo-header-on-connect", changed(1, REQUEST[1], (b":scheme", b"https"), (b":path", b"/")), ("h2", "h3")),
    ("method", changed(0, (b":method", b"GET")), ("h2", "h3")),
    ("authority", changed(1, (b":authority", b"a b:80")), ("h2", "h3")),
    ("authority", changed(1, (b":authority", b"::1:80")), ("h2", "h3")),
    ("no-port", changed(1, (b":authority", b"localhost")), ("h2", "h3")),
    ("pseudo-host-with-port", changed(1, (b":authority", b"_check:443")), ("h2", "h3")),
    ("forbidden-header", changed(2, (b"x-ping", b"1")), ("h2", "h3")),
    ("credentials-form", changed(3, (b"proxy-authorization", b"basic YTpi")), ("h2", "h3")),
)


@case(transports=H2_H3)
def the_scripted_endpoint_sees_breaches(t):
    """Else "no violations" in the other tests would mean nothing."""
    t.shared.need_python_stacks()
    import asyncio

    from pyclient import Client
    proto = SHORT[t.transport]
    endpoint = t.endpoint()

    async def breach(fields, then=None):
        client = await Client.open(proto, f"127.0.0.1:{endpoint.port}", t.ca, certs.HOSTNAME)
        stream = client.request("", fields=list(fields))
        if then:
            await asyncio.sleep(0.2)
            then(client, stream)
        await asyncio.sleep(0.3)
        await client.close()

    for what, fields, protocols in BREACHES:
        if proto in protocols:
            before = len(endpoint.events("violation", what=what))
            asyncio.run(breach(fields))
            wait_until(lambda: len(endpoint.events("violation", what=what)) > before, 5, f"{what} for {fields}")
    check(not endpoint.events("protocol-error", proto="h2"), "not meant to be broken at that level")
    if proto == "h3":
        asyncio.run(breach(changed(2, (b"User-Agent", b"x"))))
        wait_until(lambda: endpoint.events("protocol-error", proto="h3"), 5, "an upper-case name")
        asyncio.run(breach(REQUEST, lambda client, stream: stream.finish()))
        endpoint.wait_event("violation", 5, what="fin-before-answer")
        asyncio.run(breach(changed(1, (b":authority", b"silent.test:80")),
                           lambda client, stream: (client.session.finish(stream, bare=True))))
        endpoint.wait_event("violation", 5, what="bare-fin")
    before = len(endpoint.events("violation"))
    asyncio.run(breach(REQUEST))
    check(len(endpoint.events("violation")) == before, "a good request was blamed:", endpoint.events("violation")[-1])


def judge(t, endpoint, *arguments):
    # Both ends of it on HTTP/3 are Python's.
    size = ("--mib", "2", "--streams", "40") if t.transport == "http3" else ("--mib", "16", "--streams", "200")
    done = subprocess.run([sys.executable, os.path.join(INTEROP, "pyclient.py"), f"--{SHORT[t.transport]}",
                           "--server", f"127.0.0.1:{endpoint.port}", "--ca", t.ca, "--sni", certs.HOSTNAME,
                           "--user", f"{USER}:{PASSWORD}", "judge", *size, *arguments],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=150)
    for line in done.stdout.splitlines():
        t.note(line)
    check(done.returncode == 0, [l for l in done.stdout.splitlines() if l.startswith("not ok")], done.stderr[-1500:])
    if endpoint.kind == PY:
        bugs = endpoint.events("endpoint-bug")
        check(not bugs, bugs)


if __name__ == "__main__":
    main()
