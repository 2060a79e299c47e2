#!/usr/bin/env python3
"""Judges the test endpoints with a client that is not adit: what they agree on is what the other tests rely on."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "func"))

import certs                                                                     # noqa: E402
from harness import BOTH, H2_H3, INTEROP, PASSWORD, PY, SHORT, USER, case, check, main  # noqa: E402


@case(endpoints=BOTH, transports=H2_H3, seconds=180)
def judged_by_a_foreign_client(t):
    t.shared.need_python_stacks()
    endpoint = t.endpoint()
    judge(t, endpoint, "--trusttunnel")


@case(endpoints=BOTH, transports=("http3",), seconds=180)
def judged_with_retry(t):
    t.shared.need_python_stacks()
    judge(t, t.endpoint("--retry"), "--trusttunnel")


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
