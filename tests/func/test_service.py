#!/usr/bin/env python3
"""adit as a service: the control socket, and what a service manager is told."""
import json
import os
import re
import signal
import socket
import stat
import subprocess
import time

import clients
import targets
from clients import socks5
from harness import C, PASSWORD, Adit, case, check, main, program, wait_until


def adit_command(*arguments, env=None):
    return subprocess.run([program("ADIT", "adit"), *arguments], capture_output=True, text=True, timeout=20,
                          stdin=subprocess.DEVNULL, env=dict(os.environ, **(env or {})))


def with_control(t, endpoint=None, **options):
    path = t.path("control")
    adit = t.adit(endpoint, root={"control": path, "log_level": "debug"}, **options)
    wait_until(lambda: os.path.exists(path), 5, "the control socket")
    return adit, path


def status(path):
    done = adit_command("status", "--json", "--control", path)
    check(done.returncode == 0, done.stderr)
    check(PASSWORD not in done.stdout, "the password is in the status")
    return json.loads(done.stdout)


@case(endpoints=(C,), transports=("http2", "http3"))
def status_tells_how_it_fares(t):
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit, path = with_control(t, endpoint)
    check(stat.S_IMODE(os.lstat(path).st_mode) == 0o600, "mode")
    with socks5(adit.port, "127.0.0.1", echo.port) as sock:
        check(clients.ping(sock), "no echo")
        s = status(path)
        check(s["state"] == "running" and s["flows"] == 1 and s["pid"] == adit.pid, s)
        check(s["listeners"] == [{"name": "mixed", "address": f"127.0.0.1:{adit.port}", "connections": 1, "accepted": 1,
                                  "refused_user": 0, "refused_limit": 0}], s)
        up = s["upstream"]
        check(up["state"] == "up" and up["transport"] == {"http2": "h2", "http3": "h3"}[t.transport], up)
        check(up["opened"] == 1 and up["session"]["streams"] >= 1 and up["session"]["verified"], up)
        check(up["session"]["bytes_in"] > 0 and up["session"]["tls"].startswith("TLS1.3"), up)
    text = adit_command("status", "--control", path).stdout
    check(re.search(r"^upstream \S+: up over h[23], 1 sessions$", text, re.M), text)
    check(re.search(r"^listener mixed at 127\.0\.0\.1:\d+, ", text, re.M), text)


@case(endpoints=(C,), transports=("http2",))
def status_tells_what_is_wrong(t):
    endpoint = t.endpoint()
    adit, path = with_control(t, endpoint, password="wrong")
    adit.wait_log("credentials rejected")
    up = status(path)["upstream"]
    check(up["state"] == "rejected" and up["reason"] == "upstream-auth" and "407" in up["detail"], up)
    text = adit_command("status", "--control", path).stdout
    check("rejected" in text and "407" in text, text)


@case(endpoints=(C,), transports=("http2",))
def reload_drain_and_stop(t):
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit, path = with_control(t, endpoint)
    done = adit_command("reload", "--control", path)
    check(done.returncode == 0 and done.stderr == "", done.stderr)
    good = open(adit.config).read()
    with open(adit.config, "a") as file:
        file.write("\nnonsense = 1\n")
    done = adit_command("reload", "--control", path)
    check(done.returncode == 78 and re.search(r":\d+:1: unknown option 'nonsense'", done.stderr), done.stderr)
    other = t.path("other")
    with open(adit.config, "w") as file:
        file.write(good.replace(path, other))
    check(adit_command("reload", "--control", path).returncode == 0, "reload")
    wait_until(lambda: os.path.exists(other) and not os.path.exists(path), 5, "the socket moves")
    with socks5(adit.port, "127.0.0.1", echo.port) as sock:
        check(clients.ping(sock), "no echo")
        check(adit_command("drain", "--control", other).returncode == 0, "drain")
        adit.wait_log("draining control=drain")
        check(clients.ping(sock), "the flow was ended by the drain")
        check(status(other)["state"] == "draining", "state")
        done = adit_command("reload", "--control", other)
        check(done.returncode == 1 and "draining" in done.stderr, done.stderr)
        check(adit_command("stop", "--control", other).returncode == 0, "stop")
        check(adit.wait(5) == 0, "exit status")
    check(not os.path.exists(other), "the socket's file is still there")


@case()
def nobody_answers(t):
    for where in (t.path("nothing"), t.path("x" * 200)):
        done = adit_command("status", "--control", where)
        check(done.returncode == 1 and done.stdout == "", done)
    done = adit_command("status", "--control", t.path("nothing"))
    check("no adit answers there" in done.stderr, done.stderr)
    done = adit_command("status", env={"XDG_RUNTIME_DIR": t.dir, "RUNTIME_DIRECTORY": t.dir})
    check(done.returncode == 1 and t.dir in done.stderr, done.stderr)
    check(adit_command("status", "now").returncode == 2, "usage")


@case(endpoints=(C,), transports=("http2",))
def files_of_others_are_left_alone(t):
    """A file that is no socket stays; a stale socket is replaced; a second adit does not take the first one's."""
    endpoint = t.endpoint()
    path = t.path("control")
    with open(path, "w") as file:
        file.write("precious")
    adit = t.adit(endpoint, root={"control": path})
    adit.wait_log("no control socket")
    adit.stop()
    check(open(path).read() == "precious", "the file was touched")
    os.unlink(path)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    first, _ = with_control(t, endpoint)
    first.wait_log("replacing a socket that nothing answers at")
    wait_until(lambda: status(path)["pid"] == first.pid, 5, "the first answers")
    second = t.adit(endpoint, root={"control": path})
    second.wait_log("another adit has it")
    second.stop()
    check(status(path)["pid"] == first.pid, "the first one's socket is gone")


@case(endpoints=(C,), transports=("http2",))
def nonsense_on_the_control_socket(t):
    adit, path = with_control(t, t.endpoint())
    for request in (b"\n", b"{}\n", b"[]\n", b'{"command": 5}\n', b'{"command": "nothing"}\n', b"\xff\xfe\n",
                    b'{"command": "status", "command": "stop"}\n'):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(path)
            sock.sendall(request)
            answer = json.loads(clients.read_all(sock))
            check(answer["ok"] is False and answer["error"], answer)
    for request in (b"x" * 10000, b"x" * 100, b""):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(8)
            sock.connect(path)
            try:
                sock.sendall(request)
                check(clients.read_all(sock) == b"", "an answer")
            except (BrokenPipeError, ConnectionResetError):
                pass
    crowd = [socket.socket(socket.AF_UNIX) for _ in range(20)]
    for sock in crowd:
        sock.connect(path)
    time.sleep(5.5)
    check(status(path)["state"] == "running", "status")
    for sock in crowd:
        sock.close()


@case(endpoints=(C,), transports=("http2",))
def another_user_is_refused(t):
    if os.getuid() != 0:
        t.note("not root: only the mode protects")
        return
    adit, path = with_control(t, t.endpoint())
    os.chmod(path, 0o666)
    os.chmod(t.dir, 0o755)
    code = ("import os,socket,sys; os.setgid(65534); os.setuid(65534); s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
            "s.sendall(b'{\"command\":\"status\"}\\n'); sys.exit(len(s.recv(100)))")
    parent = os.path.dirname(t.dir)
    os.chmod(parent, 0o755)
    done = subprocess.run(["python3", "-c", code, path], capture_output=True, text=True, timeout=20)
    check(done.returncode == 0 or "Broken pipe" in done.stderr or "reset" in done.stderr, done.stderr)
    adit.wait_log("a stranger was refused uid=65534")


class Manager:
    """Plays the service manager's end of the notification socket."""

    def __init__(self, t):
        self.path = t.path("notify")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.path)
        self.sock.settimeout(10)
        t.defer(self.sock.close)

    def until(self, wanted):
        seen = []
        while True:
            message = self.sock.recv(4096).decode()
            seen.append(message)
            if wanted in message:
                return seen


@case(endpoints=(C,), transports=("http2",))
def a_service_manager_is_told(t):
    endpoint, manager = t.endpoint(), Manager(t)
    path, port = t.config(endpoint, root={"control": "none"})
    os.environ.update(NOTIFY_SOCKET=manager.path, WATCHDOG_USEC="400000")
    adit = Adit(t, path, port)
    manager.until("READY=1")
    adit.wait_ready(1)
    manager.until("STATUS=h2 to tt.test")
    check(len(manager.until("WATCHDOG=1")) == 1, "no watchdog message")
    begin = time.monotonic()
    manager.until("WATCHDOG=1")
    check(time.monotonic() - begin < 0.3, "the watchdog's messages are late")
    adit.signal(signal.SIGHUP)
    message = [m for m in manager.until("RELOADING=1") if "RELOADING" in m][0]
    stamp = int(re.search(r"MONOTONIC_USEC=(\d+)", message).group(1)) / 1e6
    check(abs(time.monotonic() - stamp) < 2, message)
    manager.until("READY=1")
    endpoint.kill()
    manager.until("no session to tt.test")
    adit.signal(signal.SIGTERM)
    manager.until("STOPPING=1")


@case(endpoints=(C,), transports=("http2",))
def the_journal_gets_priorities(t):
    path, _ = t.config(t.endpoint())
    with open(t.path("journal"), "wb") as journal:
        st = os.fstat(journal.fileno())
        process = subprocess.Popen([program("ADIT", "adit"), "-c", path], stderr=journal, stdin=subprocess.DEVNULL,
                                   env=dict(os.environ, JOURNAL_STREAM=f"{st.st_dev}:{st.st_ino}"))
        t.defer(process.kill)
        wait_until(lambda: "session up" in open(t.path("journal")).read(), 10, "a session")
        process.terminate()
        check(process.wait(10) == 0, "exit status")
    for line in open(t.path("journal")):
        check(re.match(r"<[3-7]>[a-z]+: ", line), line)


@case(endpoints=(C,), transports=("auto", "http2", "http3"))
def probe(t):
    """Each address over each transport that is allowed; the exit status says whether one is in order."""
    endpoint = t.endpoint()
    path, _ = t.config(endpoint, addresses=[f"127.0.0.1:{endpoint.port}", f"127.0.0.1:{targets.refused_port(t)}",
                                            "nothing.invalid:443"])
    os.chmod(path, 0o600)
    done = adit_command("probe", "-c", path)
    check(done.returncode == 0 and done.stderr == "", done.stderr)
    kinds = {"auto": ("h2", "h3"), "http2": ("h2",), "http3": ("h3",)}[t.transport]
    lines = done.stdout.splitlines()
    check(len(lines) == 1 + 3 * len(kinds), done.stdout)
    for kind in kinds:
        good = [line for line in lines if re.match(rf"127\.0\.0\.1:{endpoint.port} +{kind} +[0-9.]+ ms +{kind} +200 +ok$", line)]
        bad = [line for line in lines if re.match(rf"127\.0\.0\.1:\d+ +{kind} +- .*refused", line)]
        unknown = [line for line in lines if re.match(rf"- +{kind} .*nothing\.invalid:443: ", line)]
        check(len(good) == len(bad) == len(unknown) == 1, done.stdout)
    rows = json.loads(adit_command("probe", "--json", "-c", path).stdout)
    check([r["ok"] for r in rows] == [True, False, False] * len(kinds), rows)
    check(rows[0]["session"]["verified"] and rows[0]["session"]["tls"].startswith("TLS1.3"), rows[0])


@case(endpoints=(C,), transports=("auto",))
def a_probe_of_what_is_wrong(t):
    endpoint = t.endpoint()
    path, _ = t.config(endpoint, password="wrong")
    done = adit_command("probe", "-c", path)
    check(done.returncode == 1 and done.stdout.count("407") >= 2 and "credentials" in done.stdout, done.stdout, done.stderr)
    path, _ = t.config(endpoint, hostname="other.test")
    done = adit_command("probe", "-c", path)
    check(done.returncode == 1 and done.stdout.count("name mismatch") == 2, done.stdout)
    path, _ = t.config(endpoint, certificate="-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    check(adit_command("probe", "-c", path).returncode == 78, "certificate")


if __name__ == "__main__":
    main()
