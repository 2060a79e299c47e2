#!/usr/bin/env python3
"""adit as a process: exit codes, what `check` says, signals, and what becomes of running flows."""
import os
import re
import signal
import socket
import subprocess
import threading
import time

import clients
import targets
from clients import SocksError, socks5
from harness import BOTH, C, PASSWORD, PY, Adit, case, check, expect, listening, main, program, run, wait_until


@case()
def help_and_version(t):
    expect(run("--help"), 0, "Usage: adit", "check")
    expect(run("--version"), 0, "adit")
    done = run("--options")
    expect(done, 0, "endpoint.hostname", "listener.NAME.address")


@case()
def wrong_usage_is_2(t):
    for arguments in (("--nonsense",), ("-c",), ("nonsense",), ("-l", "loud"), ("check", "more", "words")):
        expect(run(*arguments), 2)


@case()
def check_says_ok(t):
    path, _ = t.config()
    expect(run("check", "-c", path), 0, "ok")
    expect(run("-c", path, "check"), 0, "ok")


@case()
def the_search_path(t):
    """$ADIT_CONFIG, ./adit.toml, $XDG_CONFIG_HOME: the first that is there; an option beats them all."""
    path, _ = t.config()
    home, work = t.path("home"), t.path("work")
    for directory in (home, home + "/adit", work):
        os.mkdir(directory)
    places = (path + ".env", work + "/adit.toml", home + "/adit/adit.toml")
    for place in places:
        with open(path) as source, open(place, "w") as out:
            out.write(source.read())
        os.chmod(place, 0o600)
    env = dict(os.environ, XDG_CONFIG_HOME=home)
    expect(run("check", "-c", path, cwd=work, env=dict(env, ADIT_CONFIG=places[0])), 0, path + ": ok")
    expect(run("check", cwd=work, env=dict(env, ADIT_CONFIG=places[0])), 0, places[0] + ": ok")
    expect(run("check", cwd=work, env=env), 0, "adit.toml: ok")
    expect(run("check", cwd=home, env=env), 0, places[2] + ": ok")


@case()
def an_unknown_command_is_suggested(t):
    expect(run("chekc"), 2, "did you mean 'check'")


@case()
def an_export_of_an_endpoint_will_do(t):
    """The endpoint's options flat, as endpoints export them, and the listener that is made when there is none."""
    import certs
    path = t.path("export.toml")
    with open(path, "w") as out:
        out.write(f'hostname = "tt.test"\naddresses = ["127.0.0.1:24444"]\ncustom_sni = ""\nhas_ipv6 = true\n'
                  f'username = "alice"\npassword = "{PASSWORD}"\nclient_random_prefix = ""\nskip_verification = false\n'
                  f'certificate = """\n{certs.read(t.ca)}"""\nupstream_protocol = "http3"\nanti_dpi = false\n')
    os.chmod(path, 0o600)
    expect(run("check", "-c", path), 0, "ok")


@case()
def wrong_configurations_are_78_and_name_the_place(t):
    def text(**options):
        path, _ = t.config(**options)
        return path
    for path, words in (
            (text(hostname=None), ("hostname",)),
            (text(addresses=[]), ("addresses",)),
            (text(addresses=["no address:x"]), ("addresses",)),
            (text(username=None), ("username",)),
            (text(upstream_protocol="http4"), ("http4", "auto")),
            (text(usrname="x"), ("usrname", "username")),
            (text(certificate="no PEM"), ("certificate",)),
            (text(certificate="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), ("certificate",)),
            (text(connect_timeout="soon"), ("connect_timeout",)),
            (text(has_ipv6="yes"), ("has_ipv6",)),
            (text(listener={"address": "127.0.0.1:99999"}), ("address",)),
            (text(listener={"address": "0.0.0.0:1080"}), ("0.0.0.0", "allow_open")),
            (text(listener={"adress": "127.0.0.1:1"}), ("adress", "address")),
            (text(extra="\n[endpoint]\nhostname = \"again\"\n"), ("endpoint",)),
            (text(extra="\n= broken\n"), (":",)),
            (text(extra="\nx = \"\0\"\n"), (":",))):
        done = run("check", "-c", path)
        expect(done, 78, *words)
        check(f"{path}:" in done.stderr, "no place is named:", done.stderr)
        expect(run("-c", path), 78)
    expect(run("check", "-c", t.path("nowhere.toml")), 78, "nowhere.toml")
    open(t.path("empty.toml"), "w").close()
    expect(run("check", "-c", t.path("empty.toml")), 78)


@case()
def a_readable_password_is_worth_a_warning(t):
    path, _ = t.config()
    os.chmod(path, 0o644)
    expect(run("check", "-c", path), 0, "warning")


@case()
def a_port_that_is_taken_is_1(t):
    with socket.create_server(("127.0.0.1", 0)) as other:
        path, _ = t.config(port=other.getsockname()[1])
        done = run("-c", path)
        check(done.returncode == 1, f"exit {done.returncode}: {done.stderr}")
        check(str(other.getsockname()[1]) in done.stderr, done.stderr)


@case()
def sigterm_without_flows_ends_at_once(t):
    for number in (signal.SIGTERM, signal.SIGINT):
        adit = t.adit(None)
        adit.signal(number)
        start = time.monotonic()
        check(adit.wait(5) == 0, "exit status")
        check(time.monotonic() - start < 2, "slow")


@case(endpoints=BOTH, transports=("http2", "http3"))
def sigterm_lets_flows_end(t):
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint)
    sock = socks5(adit.port, "127.0.0.1", echo.port)
    check(clients.ping(sock), "no echo")
    adit.signal(signal.SIGTERM)
    time.sleep(0.5)
    check(adit.running(), "ended under a running flow")
    check(clients.ping(sock), "the flow died at SIGTERM")
    try:
        socks5(adit.port, "127.0.0.1", echo.port).close()
        check(False, "a new flow was served while draining")
    except (SocksError, clients.Closed, OSError):
        pass
    sock.shutdown(socket.SHUT_WR)
    check(clients.read_all(sock) == b"", "the end")
    check(adit.wait(5) == 0, "exit status")
    endpoint.check_clean()


@case(endpoints=BOTH, transports=("http2", "http3"))
def a_second_sigterm_ends_at_once(t):
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint)
    sock = socks5(adit.port, "127.0.0.1", echo.port)
    adit.signal(signal.SIGTERM)
    time.sleep(0.3)
    adit.signal(signal.SIGTERM)
    check(adit.wait(3) == 0, "exit status")
    check(clients.is_closed(sock, 3), "the flow is still open")
    wait_until(lambda: echo.open == 0, 5, "the target's connection ends")
    check(adit.records()[-1]["reason"] == "shutdown", adit.records())


@case(endpoints=(PY,), transports=("http2",))
def nobody_reads_the_log(t):
    """A closed stderr or one that cannot take more never stops adit."""
    endpoint, echo = t.endpoint(), targets.echo(t)
    for where in ("/dev/full", None):
        path, port = t.config(endpoint)
        if where:
            process = subprocess.Popen([program("ADIT", "adit"), "-c", path], stderr=open(where, "w"))
        else:
            process = subprocess.Popen(["/bin/sh", "-c", 'exec "$0" -c "$1" 2>&- 1>&-', program("ADIT", "adit"), path])
        t.defer(process.kill)
        wait_until(lambda: listening(port), 10, "adit listens")
        for _ in range(3):
            with socks5(port, "127.0.0.1", echo.port) as sock:
                check(clients.ping(sock), "no echo")
        process.terminate()
        check(process.wait(10) == 0, f"exit {process.returncode}")


@case(endpoints=(PY,), transports=("http2",))
def nothing_secret_is_to_be_seen(t):
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint, root={"log_level": "trace"})
    with socks5(adit.port, "127.0.0.1", echo.port) as sock:
        check(clients.ping(sock), "no echo")
    for name in ("cmdline", "environ"):
        with open(f"/proc/{adit.pid}/{name}", "rb") as file:
            check(PASSWORD.encode() not in file.read(), f"in {name}")
    adit.stop()
    text = adit.stderr()
    check(PASSWORD not in text, "the password is in the log")
    encoded = clients.basic("alice", PASSWORD).split()[1]
    check(encoded not in text, "the credentials are in the log")


@case(endpoints=(PY,), transports=("http2",))
def two_listeners(t):
    endpoint, echo = t.endpoint(), targets.echo(t)
    second = t.free_port(udp=False)
    path, port = t.config(endpoint, extra=f'\n[listener.more]\naddress = "127.0.0.1:{second}"\nprotocols = ["socks5"]\n')
    adit = Adit(t, path, port)
    adit.wait_ready()
    for each in (port, second):
        with socks5(each, "127.0.0.1", echo.port) as sock:
            check(clients.ping(sock), "no echo")
    with clients.dial(second) as sock:
        sock.sendall(f"CONNECT 127.0.0.1:{echo.port} HTTP/1.1\r\n\r\n".encode())
        check(clients.is_closed(sock, 5), "HTTP was answered where only SOCKS5 is spoken")
    adit.wait_record(listener="more")


@case()
def print_config(t):
    """What it prints is a configuration that says the same, but for the secrets, and tells where each value came from."""
    path, port = t.config(listener={"max_connections_per_uid": 7, "allow_uids": ["root", 12]}, extra=(
        '[listener.a]\naddress = "unix:/run/a \\"b\\".socks"\nmode = 0o640\n[listener.b]\naddress = "unix:/run/b"\n'
        '[listener.c]\naddress = "systemd:c.socket"\nallow_gids = [4294967294]\n'))
    os.chmod(path, 0o600)
    done = run("print-config", "-c", path)
    check(done.returncode == 0 and done.stderr == "", done.stderr)
    check(PASSWORD not in done.stdout, "the password is shown")
    check(re.search(r'^password = "\*{8}" +# line \d+, column \d+$', done.stdout, re.M), done.stdout)
    check(re.search(r'^health_timeout = "7s" +# default$', done.stdout, re.M), done.stdout)
    check(re.search(rf'^\[listener\.mixed\]\naddress = "127\.0\.0\.1:{port}"', done.stdout, re.M), done.stdout)
    for line in (r"max_connections_per_uid = 7", r"allow_uids = \[0, 12\]", r'address = "unix:/run/a \\"b\\".socks"',
                 r'mode = "0640"', r'mode = "0600"', r'address = "systemd:c.socket"', r"allow_gids = \[4294967294\]"):
        check(re.search(rf"^{line} +# ", done.stdout, re.M), line, done.stdout)
    check(done.stdout.count("mode =") == 2, "the mode of what is no Unix socket", done.stdout)
    again = t.path("again.toml")
    with open(again, "w") as file:
        file.write(done.stdout)
    os.chmod(again, 0o600)
    twice = run("print-config", "-c", again)
    check(twice.returncode == 0, twice.stderr)

    def values(text):
        return [re.sub(r" +# (line|default|credential).*", "", line) for line in text.splitlines()[1:]]
    check(values(twice.stdout) == values(done.stdout), "not the same again")
    check(run("print-config", "-c", t.path("none")).returncode == 78, "no file")


@case(endpoints=(C,), transports=("http2",))
def a_reload(t):
    """SIGHUP: another port and another transport, while a flow goes on."""
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint)
    old = socks5(adit.port, "127.0.0.1", echo.port)
    with old:
        check(clients.ping(old), "no echo")
        path, port = t.config(endpoint, upstream_protocol="http3")
        os.replace(path, adit.config)
        adit.signal(signal.SIGHUP)
        wait_until(lambda: listening(port, adit.pid), 5, "the new port")
        wait_until(lambda: not listening(adit.port, adit.pid), 5, "the old port is closed")
        with socks5(port, "127.0.0.1", echo.port) as sock:
            check(clients.ping(sock), "no echo after the reload")
        check(adit.wait_record(id="2")["transport"] == "h3", adit.records())
        check(clients.ping(old), "the old flow was lost")
    check(adit.wait_record(id="1")["transport"] == "h2", adit.records())


@case(endpoints=(C,), transports=("http2",))
def a_reload_of_what_is_wrong(t):
    """A bad file is told with its place, and changes nothing; no file at all neither."""
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint)
    with open(adit.config, "a") as file:
        file.write('\n[listener.more]\nadress = "127.0.0.1:1"\n')
    line = open(adit.config).read().count("\n")
    adit.signal(signal.SIGHUP)
    adit.wait_log("nothing was changed")
    check(re.search(rf":{line}:1: unknown option 'adress'; did you mean 'address'", adit.stderr()), adit.stderr()[-500:])
    os.unlink(adit.config)
    adit.signal(signal.SIGHUP)
    wait_until(lambda: adit.stderr().count("nothing was changed") == 2, 5, "the second refusal")
    with socks5(adit.port, "127.0.0.1", echo.port) as sock:
        check(clients.ping(sock), "no echo")
    check(adit.stderr().count("session up") == 1, "the session was replaced")


@case(endpoints=(C,), transports=("auto",), seconds=120)
def a_hundred_reloads_under_load(t):
    """Every second one changes the endpoint's options; no flow is lost, no descriptor and no memory stays."""
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint)
    texts = [open(adit.config).read()]
    texts.append(texts[0].replace("[endpoint]", "[endpoint]\nconnect_timeout = 20000"))
    stop, done, failed = threading.Event(), [], []

    def load():
        while not stop.is_set():
            try:
                with socks5(adit.port, "127.0.0.1", echo.port) as sock:
                    check(clients.ping(sock), "no echo")
                done.append(1)
            except Exception as error:
                failed.append(repr(error))
    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    descriptors = rss = 0
    for n in range(100):
        with open(adit.config, "w") as file:
            file.write(texts[(n + 1) % 2])
        adit.signal(signal.SIGHUP)
        wait_until(lambda: adit.stderr().count("gateway: reloaded") == n + 1, 10, "reloaded")
        if n == 20:
            descriptors, rss = adit.descriptors(), adit.rss()
    stop.set()
    for thread in threads:
        thread.join(20)
    t.note(f"{len(done)} flows, grown by {(adit.rss() - rss) >> 10} KiB in 80 reloads")
    check(not failed, failed[:3])
    check(len(done) > 200, f"only {len(done)} flows")
    wait_until(lambda: adit.descriptors() <= descriptors, 20, "descriptors as before")
    check(adit.rss() - rss < 32 << 20, f"grown by {(adit.rss() - rss) >> 10} KiB")


if __name__ == "__main__":
    main()
