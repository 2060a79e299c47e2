#!/usr/bin/env python3
"""Real applications through adit: curl and proxychains, plain and over TLS."""
import hashlib

import targets
from clients import curl, run
from harness import BOTH, H2_H3, PY, case, check, main

MIB = 1 << 20


def digest(data):
    return hashlib.sha256(data).hexdigest()


@case(endpoints=BOTH, transports=H2_H3)
def curl_by_socks_with_names(t):
    endpoint, origin = t.endpoint(), targets.http_server(t)
    adit = t.adit(endpoint)
    done = curl("--socks5-hostname", f"127.0.0.1:{adit.port}", f"http://localhost:{origin.port}/bytes/{3 * MIB}")
    check(digest(done.stdout) == targets.pattern_sha256(3 * MIB), f"{len(done.stdout)} bytes")
    check(adit.wait_record()["dest"] == f"localhost:{origin.port}", adit.records())
    endpoint.check_clean()


@case(endpoints=BOTH, transports=H2_H3)
def curl_by_socks_with_addresses(t):
    endpoint, origin = t.endpoint(), targets.http_server(t)
    adit = t.adit(endpoint)
    done = curl("--socks5", f"127.0.0.1:{adit.port}", f"http://127.0.0.1:{origin.port}/bytes/{MIB}")
    check(digest(done.stdout) == targets.pattern_sha256(MIB), f"{len(done.stdout)} bytes")


@case(endpoints=BOTH, transports=H2_H3)
def curl_with_tls_by_http_connect(t):
    """TLS between curl and the origin, inside the tunnel."""
    endpoint = t.endpoint()
    origin = targets.http_server(t, *t.shared.certs.leaf("origin", dns=("localhost",), ips=("127.0.0.1",)))
    adit = t.adit(endpoint)
    done = curl("--cacert", t.ca, "-x", f"http://127.0.0.1:{adit.port}",
                f"https://localhost:{origin.port}/bytes/{2 * MIB}")
    check(digest(done.stdout) == targets.pattern_sha256(2 * MIB), f"{len(done.stdout)} bytes")
    done = curl("--cacert", t.ca, "--proxytunnel", "-x", f"http://127.0.0.1:{adit.port}", "-T", t.leaf()[0],
                f"https://localhost:{origin.port}/upload")
    with open(t.leaf()[0], "rb") as file:
        check(digest(file.read()) in done.stdout.decode(), done.stdout)
    endpoint.check_clean()


@case(endpoints=BOTH, transports=("http2",))
def curl_tunnels_plain_http_on_demand(t):
    endpoint, origin = t.endpoint(), targets.http_server(t)
    adit = t.adit(endpoint)
    done = curl("-p", "-x", f"http://127.0.0.1:{adit.port}", f"http://localhost:{origin.port}/bytes/1000")
    check(done.stdout == targets.pattern(0, 1000), "wrong bytes")
    # Without -p curl asks in absolute form.
    done = curl("-x", f"http://127.0.0.1:{adit.port}", f"http://localhost:{origin.port}/bytes/1000")
    check(done.stdout == targets.pattern(0, 1000), "wrong bytes")


@case(endpoints=BOTH, transports=("http2",))
def curl_with_credentials(t):
    endpoint, origin = t.endpoint(), targets.http_server(t)
    adit = t.adit(endpoint, listener=dict(username="app", password="a:b c"))
    url = f"http://localhost:{origin.port}/bytes/10"
    for proxy in ("--socks5-hostname", "-px"):
        address = f"127.0.0.1:{adit.port}"
        done = curl(proxy, address, "--proxy-user", "app:a:b c", url)
        check(done.stdout == targets.pattern(0, 10), f"{proxy}: wrong bytes")
        done = curl(proxy, address, "--proxy-user", "app:other", url, status=None)
        check(done.returncode in (56, 97), f"{proxy}: curl ended with {done.returncode}")


@case(endpoints=BOTH, transports=H2_H3)
def curl_says_what_failed(t):
    """97 is curl's code for a SOCKS failure, 56 for a refused CONNECT; both texts carry the reason."""
    adit = t.adit(t.endpoint())
    port = targets.refused_port(t)
    done = curl("--socks5-hostname", f"127.0.0.1:{adit.port}", f"http://localhost:{port}/", status=97)
    check(b"(5)" in done.stderr or b"refused" in done.stderr.lower(), done.stderr)
    done = curl("-px", f"http://127.0.0.1:{adit.port}", f"http://localhost:{port}/", status=56)
    check(b"502" in done.stderr, done.stderr)


@case(endpoints=BOTH, transports=H2_H3, seconds=90)
def curl_in_parallel_on_kept_connections(t):
    """Sixty requests over eight connections at a time."""
    endpoint, origin = t.endpoint(), targets.http_server(t)
    adit = t.adit(endpoint)
    config = t.path("urls")
    with open(config, "w") as out:
        for i in range(60):
            out.write(f'url = "http://localhost:{origin.port}/bytes/{20000 + i}"\noutput = "{t.path(f"out-{i}")}"\n')
    curl("--socks5-hostname", f"127.0.0.1:{adit.port}", "--parallel", "--parallel-max", "8", "-K", config)
    for i in range(60):
        with open(t.path(f"out-{i}"), "rb") as file:
            check(file.read() == targets.pattern(0, 20000 + i), f"file {i}")
    endpoint.check_clean()


@case(endpoints=BOTH, transports=H2_H3)
def proxychains(t):
    endpoint, origin = t.endpoint(), targets.http_server(t)
    adit = t.adit(endpoint)
    for kind in ("socks5", "http"):
        config = t.path(f"proxychains-{kind}.conf")
        with open(config, "w") as out:
            out.write(f"strict_chain\nproxy_dns\ntcp_connect_time_out 20000\n[ProxyList]\n{kind} 127.0.0.1 {adit.port}\n")
        done = run("proxychains4", "-q", "-f", config, "curl", "-sS", "--max-time", "40",
                   f"http://127.0.0.1:{origin.port}/bytes/{MIB}")
        check(digest(done.stdout) == targets.pattern_sha256(MIB), f"{kind}: {len(done.stdout)} bytes")
        record = adit.wait_record(protocol="socks5" if kind == "socks5" else "http")
        check(record["dest"] == f"127.0.0.1:{origin.port}", record)


@case(endpoints=(PY,), transports=("http2",))
def environment_variables(t):
    """As programs are usually told: ALL_PROXY, HTTPS_PROXY."""
    endpoint, origin = t.endpoint(), targets.http_server(t)
    adit = t.adit(endpoint)
    done = curl(f"http://only-there.test:{origin.port}/bytes/10",
                env={"ALL_PROXY": f"socks5h://127.0.0.1:{adit.port}"})
    check(done.stdout == targets.pattern(0, 10), "wrong bytes")
    tls = targets.http_server(t, *t.shared.certs.leaf("origin", dns=("only-there.test",)))
    done = curl("--cacert", t.ca, f"https://only-there.test:{tls.port}/bytes/10",
                env={"HTTPS_PROXY": f"http://127.0.0.1:{adit.port}"})
    check(done.stdout == targets.pattern(0, 10), "wrong bytes")


if __name__ == "__main__":
    main()
