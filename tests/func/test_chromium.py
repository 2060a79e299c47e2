#!/usr/bin/env python3
"""A browser through adit: headless Chromium loads a page with sub-resources and scripted requests."""
import os
import shutil
import subprocess

import targets
from harness import BOTH, C, case, check, main
from network import Skip

FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--disable-default-apps",
         "--disable-dev-shm-usage", "--disable-extensions", "--disable-domain-reliability", "--no-pings",
         "--disable-features=OptimizationHints,MediaRouter,NetworkTimeServiceQuerying",
         "--proxy-bypass-list=<-loopback>", "--virtual-time-budget=30000")
FETCHES = 20


def browse(t, proxy, url):
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        raise Skip("no chromium")
    profile = t.path(f"profile-{t.count()}")
    done = subprocess.run([path, *FLAGS, f"--user-data-dir={profile}", f"--proxy-server={proxy}", "--dump-dom", url],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=80,
                          env=dict(os.environ, HOME=t.dir))
    return done.stdout


def load(t, scheme):
    # A browser has errands of its own: it gets a network where nothing but the test is.
    t.own_network()
    endpoint, origin = t.endpoint(), targets.http_server(t)
    adit = t.adit(endpoint)
    load_through(t, scheme, adit, origin)
    endpoint.check_clean()
    return adit


def load_through(t, scheme, adit, origin):
    # The HTTP proxy serves CONNECT only, which is what a browser uses for https.
    page = browse(t, f"{scheme}://127.0.0.1:{adit.port}",
                  f"{'https' if origin.tls else 'http'}://localhost:{origin.port}/page?{FETCHES}")
    total = sum(1000 + i for i in range(FETCHES))
    check(f"loaded {total} posted 100000" in page, "the page:", page[-600:])
    wanted = {"/style.css", "/script.js", "/image/0.gif", "/image/5.gif", "/bytes/1000", "/upload"}
    check(wanted <= set(origin.paths), wanted - set(origin.paths))


@case(endpoints=BOTH, transports=("http2", "http3", "auto"), seconds=120)
def chromium_by_socks(t):
    adit = load(t, "socks5")
    # Its own errands (updates) come by name as well; nothing comes as an address.
    check(not any(r["dest"][0].isdigit() or r["dest"][0] == "[" for r in adit.records()), "Chromium resolved by itself")


@case(endpoints=BOTH, transports=("http2", "http3"), seconds=120)
def chromium_with_tls_by_http_connect(t):
    t.own_network()
    endpoint = t.endpoint()
    origin = targets.http_server(t, *t.shared.certs.leaf("origin", dns=("localhost",)))
    adit = t.adit(endpoint)
    global FLAGS
    FLAGS += ("--ignore-certificate-errors",)
    load_through(t, "http", adit, origin)
    check(all(r["protocol"] == "http" for r in adit.records()), adit.records())
    endpoint.check_clean()


@case(endpoints=(C,), transports=("auto",), seconds=120)
def chromium_where_udp_is_dropped(t):
    net = t.own_network()
    endpoint, origin = t.endpoint(), targets.http_server(t)
    net.rules(f"udp dport {endpoint.port} drop")
    adit = t.adit(endpoint)
    load_through(t, "socks5", adit, origin)
    check(adit.records()[-1]["transport"] == "h2", adit.records()[-1])


if __name__ == "__main__":
    main()
