#!/usr/bin/env python3
"""Listeners: Unix sockets, sockets of systemd, who may connect, and how often.

The cases that need a client of another user have one as root. Otherwise the tables are turned: the listener admits that
other user, and the test's own user is the stranger.
"""
import grp
import json
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import time

import clients
import targets
from clients import SocksError, socks5
from harness import C, HERE, Adit, case, check, expect, main, program, run, wait_until

ROOT = os.geteuid() == 0
NOBODY = 65534
ACTIVATE = (sys.executable, os.path.join(HERE, "activate.py"))

# A client of another user: connects, says what it is told to, and prints what comes until the end.
STRANGER = """
import socket, sys
family, where, text = sys.argv[1], sys.argv[2], bytes.fromhex(sys.argv[3])
s = socket.socket(getattr(socket, family))
s.settimeout(10)
try:
    s.connect(where if family == "AF_UNIX" else (where.rpartition(":")[0], int(where.rpartition(":")[2])))
    s.sendall(text)
    got = b""
    while True:
        piece = s.recv(4096)
        if not piece: break
        got += piece
        if len(got) >= 12 and text: break
    print("got", got.hex())
except PermissionError:
    print("forbidden")
except ConnectionError:
    print("reset")
"""


def stranger(family, where, text=b"", uid=NOBODY, gid=NOBODY, groups=()):
    options = dict(user=uid, group=gid, extra_groups=list(groups)) if ROOT else {}
    done = subprocess.run([sys.executable, "-c", STRANGER, family, str(where), text.hex()], capture_output=True, text=True,
                          timeout=30, stdin=subprocess.DEVNULL, **options)
    check(done.returncode == 0, done.stderr)
    return done.stdout.strip()


def socks_bytes(port):
    return b"\x05\x01\x00" + clients.socks5_request("127.0.0.1", port)


GRANTED = "got 050005000001"   # the method, and a reply that grants


def refused(answer):
    """Closed without a byte."""
    return answer in ("got", "reset")


def through(sock, port, auth=None):
    """SOCKS5 on a connected socket, and an echo."""
    sock.settimeout(20)
    check(clients.socks5_greet(sock, auth), "credentials")
    sock.sendall(clients.socks5_request("127.0.0.1", port))
    rep = clients.socks5_reply(sock)
    if rep:
        raise SocksError(rep)
    check(clients.ping(sock), "no echo")
    return sock


def unix_dial(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(20)
    sock.connect(path)
    return sock


def unix_adit(t, endpoint, path, **listener):
    config, _ = t.config(endpoint, listener=dict({"address": f"unix:{path}"}, **listener))
    adit = Adit(t, config, 0)
    adit.wait_log("listening name=mixed")
    return adit


def rewrite(adit, old, new):
    with open(adit.config) as file:
        text = file.read()
    check(old in text, f"{old!r} is not in the configuration")
    with open(adit.config, "w") as file:
        file.write(text.replace(old, new))


def reload(adit, old, new, log="gateway: reloaded"):
    before = adit.stderr().count(log)
    rewrite(adit, old, new)
    adit.signal(signal.SIGHUP)
    wait_until(lambda: adit.stderr().count(log) > before, 10, log)


def counts(control):
    """What the listener has counted."""
    done = run("status", "--json", "--control", control)
    expect(done, 0)
    return json.loads(done.stdout)["listeners"][0]


# ---- Unix sockets -----------------------------------------------------------------------------------------------
@case(endpoints=(C,), transports=("http2", "http3"))
def a_unix_socket(t):
    endpoint, echo, origin = t.endpoint(), targets.echo(t), targets.http_server(t)
    path = t.path("socks")
    adit = unix_adit(t, endpoint, path)
    check(stat.S_IMODE(os.lstat(path).st_mode) == 0o600, "mode")
    with unix_dial(path) as sock:
        through(sock, echo.port)
    with unix_dial(path) as sock:
        sock.sendall(f"CONNECT 127.0.0.1:{echo.port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        check(clients.read_exactly(sock, 12) == b"HTTP/1.1 200", "CONNECT")
    with unix_dial(path) as sock:
        sock.sendall(f"GET http://127.0.0.1:{origin.port}/bytes/1000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        check(clients.read_all(sock).endswith(targets.pattern(0, 1000)), "GET")
    check(adit.wait_record(protocol="socks5", reason="ok")["client"] == "unix:", adit.records())
    curl = shutil.which("curl")
    done = subprocess.run([curl, "-sS", "--max-time", "20", "--proxy", f"socks5h://localhost{path}",
                           f"http://localhost:{origin.port}/bytes/5000"], capture_output=True, timeout=30)
    check(done.stdout == targets.pattern(0, 5000), done.stderr)
    # To the listener itself curl is a client with an origin-form request.
    done = subprocess.run([curl, "-sS", "--max-time", "20", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket", path,
                           "http://localhost/"], capture_output=True, timeout=30)
    check(done.stdout == b"400", done.stdout)
    adit.stop()
    check(not os.path.lexists(path), "the socket is left behind")


@case(endpoints=(C,), transports=("http2",))
def the_mode_of_a_unix_socket(t):
    """Others get in by the mode alone; a reload changes it without another socket."""
    endpoint, echo = t.endpoint(), targets.echo(t)
    path = t.path("socks")
    adit = unix_adit(t, endpoint, path, mode="0600")
    if ROOT:
        check(stranger("AF_UNIX", path) == "forbidden", "0600 let another user in")
    inode = os.lstat(path).st_ino
    reload(adit, '"0600"', '"0666"')
    check(stat.S_IMODE(os.lstat(path).st_mode) == 0o666 and os.lstat(path).st_ino == inode, os.lstat(path))
    check(stranger("AF_UNIX", path, socks_bytes(echo.port)).startswith(GRANTED), "0666")


@case(endpoints=(C,), transports=("http2",))
def what_is_in_the_way_of_a_unix_socket(t):
    """H.8, H.10: a foreign file, a link, a directory and a socket in use stay as they are; a stale socket is replaced."""
    endpoint, echo = t.endpoint(), targets.echo(t)
    path = t.path("socks")
    config, _ = t.config(endpoint, listener={"address": f"unix:{path}"})

    def must_fail(words):
        done = run("-c", config)
        expect(done, 1, f"cannot listen on unix:{path}: ", words)
        check(re.search(rf"{re.escape(config)}:\d+:\d+: ", done.stderr), done.stderr)
    with open(path, "w") as file:
        file.write("precious")
    must_fail("not a socket; it is left alone")
    check(open(path).read() == "precious", "the file was touched")
    os.unlink(path)
    os.symlink(t.path("nowhere"), path)
    must_fail("not a socket; it is left alone")
    check(os.readlink(path) == t.path("nowhere") and not os.path.exists(t.path("nowhere")), "the link")
    os.unlink(path)
    os.mkdir(path)
    must_fail("not a socket; it is left alone")
    os.rmdir(path)
    if ROOT:
        with socket.socket(socket.AF_UNIX) as foreign:
            foreign.bind(path)
        os.lchown(path, NOBODY, NOBODY)
        must_fail("a socket of another user; it is left alone")
        os.unlink(path)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    first = unix_adit(t, endpoint, path)
    check("replacing a socket that nothing answers at" in first.stderr(), first.stderr())
    must_fail("another program uses it")
    with unix_dial(path) as sock:
        through(sock, echo.port)
    first.kill()
    check(os.path.exists(path), "a killed program removes nothing")
    second = unix_adit(t, endpoint, path)
    # What took its place is not its to remove.
    os.unlink(path)
    with open(path, "w") as file:
        file.write("precious")
    second.stop()
    check(open(path).read() == "precious", "a file that it had not made was removed")


@case(endpoints=(C,), transports=("http2",))
def a_unix_socket_comes_and_goes_by_reload(t):
    endpoint, echo = t.endpoint(), targets.echo(t)
    path, other = t.path("socks"), t.path("other")
    adit = unix_adit(t, endpoint, path)
    with unix_dial(path) as old:
        through(old, echo.port)
        reload(adit, path, other)
        check(not os.path.lexists(path) and os.path.exists(other), "files")
        check(clients.ping(old), "the flow was lost")
        with unix_dial(other) as sock:
            through(sock, echo.port)
        inode = os.lstat(other).st_ino
        reload(adit, "[endpoint]", "[endpoint]\nconnect_timeout = 20000")
        check(os.lstat(other).st_ino == inode, "the socket was made anew")


# ---- who may connect --------------------------------------------------------------------------------------------
@case(endpoints=(C,), transports=("http2", "http3"))
def users_that_may_not_connect(t):
    """C.6: closed before any reply, without waiting for a byte; one line a second, and a counter."""
    endpoint, echo = t.endpoint(), targets.echo(t)
    control = t.path("control")
    admitted = os.geteuid() if ROOT else NOBODY
    adit = t.adit(endpoint, root={"control": control}, listener={"allow_uids": [admitted]})
    port = adit.port
    wait_until(lambda: os.path.exists(control), 5, "the control socket")
    n = 0
    for text in (b"", socks_bytes(echo.port), b"GET / HTTP/1.1\r\n\r\n"):
        start = time.monotonic()
        answer = stranger("AF_INET", f"127.0.0.1:{port}", text)
        check(refused(answer), answer)
        check(time.monotonic() - start < 5, "not at once")
        n += 1
    check(refused(stranger("AF_INET6", f"::ffff:127.0.0.1:{port}")), "a mapped address")
    n += 1
    line = adit.wait_log(r"a connection is refused: its user may not use this listener listener=mixed uid=(\d+) "
                         r"client=127\.0\.0\.1:\d+ refused=\d+")
    check(int(line.group(1)) == (NOBODY if ROOT else os.getuid()), line.group(0))
    check(counts(control)["refused_user"] == n, counts(control))
    check(counts(control)["connections"] == 0, counts(control))
    check(not adit.records(), "a flow was made")
    if ROOT:
        with socks5(port, "127.0.0.1", echo.port) as sock:
            check(clients.ping(sock), "the admitted user has no echo")
            check(refused(stranger("AF_INET", f"127.0.0.1:{port}")), "refused beside a flow")
            check(clients.ping(sock), "the flow was harmed")
    code = ("import socket,sys\nfor i in range(300):\n s=socket.socket(); s.connect_ex(('127.0.0.1',int(sys.argv[1]))); "
            "s.close()")
    options = dict(user=NOBODY, group=NOBODY, extra_groups=[]) if ROOT else {}
    subprocess.run([sys.executable, "-c", code, str(port)], timeout=30, check=True, **options)
    wait_until(lambda: counts(control)["refused_user"] >= n + 300, 10, "all are counted")
    lines = len(re.findall("its user may not use this listener", adit.stderr()))
    check(lines <= 15, f"{lines} lines")
    text = run("status", "--control", control).stdout
    check(re.search(r"listener mixed at .*, 0 connections, \d+ refused by user", text), text)


@case(endpoints=(C,), transports=("http2",))
def a_client_that_is_gone_is_nobody(t):
    """What it left in the socket is not carried out, though the user may connect: whose it was cannot be told any more."""
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint, listener={"allow_uids": [0, os.geteuid()]})
    check(rep_of(adit.port, echo) == 0, "the user may connect")
    adit.wait_record()
    adit.signal(signal.SIGSTOP)
    for linger in (0, 1):
        with clients.dial(adit.port) as sock:
            if linger:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.sendall(socks_bytes(echo.port))
    adit.signal(signal.SIGCONT)
    adit.wait_log("may not use this listener listener=mixed uid=unknown")
    check(rep_of(adit.port, echo) == 0, "the user may still connect")
    wait_until(lambda: len(adit.records()) == 2, 5, "the records")
    time.sleep(0.3)
    check(len(adit.records()) == 2, adit.records())


@case(endpoints=(C,), transports=("http2",))
def users_beyond_a_user_namespace(t):
    """There all others look like the user 65534, who must not open the door to them, nor his group."""
    if not ROOT:
        t.note("not root: there is no other user")
        return
    endpoint, echo, path = t.endpoint(), targets.echo(t), t.path("socks")
    config = config_of(t, endpoint, ("web", "127.0.0.1:0", f"allow_uids = [0, {NOBODY}]"),
                       ("local", f"unix:{path}", 'mode = "0666"', f"allow_uids = [{NOBODY}]", f"allow_gids = [0, {NOBODY}]"))
    adit = Adit(t, config, 0, prefix=("unshare", "--user", "--map-root-user"))
    adit.wait_log(f"does not have the user, who is never let in .* listener=web uid={NOBODY}")
    port = int(adit.wait_log(r"listening name=web address=127.0.0.1:(\d+)").group(1))
    adit.wait_log("listening name=local")
    check(rep_of(port, echo) == 0, "root")
    for uid in (NOBODY, 1234):
        check(refused(stranger("AF_INET", f"127.0.0.1:{port}", socks_bytes(echo.port), uid=uid, gid=NOBODY)), uid)
        check(refused(stranger("AF_UNIX", path, socks_bytes(echo.port), uid=uid, gid=NOBODY)), uid)
    check(stranger("AF_UNIX", path, socks_bytes(echo.port), uid=0, gid=0).startswith(GRANTED), "root, by the group")
    check(refused(stranger("AF_UNIX", path, socks_bytes(echo.port), uid=0, gid=1234)), "the group that others look like")


@case(endpoints=(C,), transports=("http2",))
def users_of_ipv6_and_of_all_addresses(t):
    endpoint, echo = t.endpoint(), targets.echo(t)
    me, other = (os.geteuid(), NOBODY) if ROOT else (NOBODY, os.getuid())
    for address, family, host in (("[::1]", "AF_INET6", "::1"), ("0.0.0.0", "AF_INET", "127.0.0.3")):
        port = t.free_port()
        config, _ = t.config(endpoint, listener={"address": f"{address}:{port}", "allow_uids": [me], "allow_open": True})
        adit = Adit(t, config, port)
        adit.wait_ready()
        check(refused(stranger(family, f"{host}:{port}", socks_bytes(echo.port))), address)
        adit.wait_log(f"may not use this listener listener=mixed uid={other} ")
        reload(adit, f"allow_uids = [{me}]", f"allow_uids = [{me}, {other}]")
        check(stranger(family, f"{host}:{port}", socks_bytes(echo.port)).startswith(GRANTED), address)
        reload(adit, f"allow_uids = [{me}, {other}]", "allow_uids = [4242]")
        check(refused(stranger(family, f"{host}:{port}", socks_bytes(echo.port))), address)
        adit.stop()


@case(endpoints=(C,), transports=("http2",))
def users_and_groups_by_name(t):
    endpoint, echo = t.endpoint(), targets.echo(t)
    other = NOBODY if ROOT else os.getuid()
    name, group = pwd.getpwuid(other).pw_name, grp.getgrgid(pwd.getpwuid(other).pw_gid).gr_name
    adit = t.adit(endpoint, listener={"allow_uids": [4242, name]})
    ask = lambda: stranger("AF_INET", f"127.0.0.1:{adit.port}", socks_bytes(echo.port))
    check(ask().startswith(GRANTED), "by name")
    reload(adit, f'allow_uids = [4242, "{name}"]', "allow_gids = [4242]")
    check(refused(ask()), "a group that it is not in")
    reload(adit, "allow_gids = [4242]", f'allow_gids = [4242, "{group}"]')
    check(ask().startswith(GRANTED), "by the name of the group")
    check(ask().startswith(GRANTED), "again")
    reload(adit, "[4242", '["no-such-group"', log="nothing was changed")
    check("this machine has no group 'no-such-group'" in adit.stderr(), adit.stderr()[-500:])
    check(ask().startswith(GRANTED), "after a reload that failed")


@case(endpoints=(C,), transports=("http2",))
def users_and_groups_of_a_unix_socket(t):
    """The groups are those of the process, whatever the databases say."""
    endpoint, echo = t.endpoint(), targets.echo(t)
    path = t.path("socks")
    other = NOBODY if ROOT else os.getuid()
    adit = unix_adit(t, endpoint, path, mode="0666", allow_uids=[4242])
    ask = lambda **who: stranger("AF_UNIX", path, socks_bytes(echo.port), **who)
    check(refused(ask()), "another uid")
    adit.wait_log(f"listener=mixed uid={other} client=unix: refused=1")
    reload(adit, "allow_uids = [4242]", f"allow_uids = [{other}]")
    check(ask().startswith(GRANTED), "its uid")
    group = 4243 if ROOT else os.getgid()
    reload(adit, f"allow_uids = [{other}]", f"allow_gids = [{group}]")
    if ROOT:
        check(refused(ask()), "without the group")
        check(ask(gid=4243).startswith(GRANTED), "by its group")
        check(ask(groups=(5, 4243)).startswith(GRANTED), "by a supplementary group")
    else:
        check(ask().startswith(GRANTED), "by its group")


@case()
def beyond_loopback_credentials_are_needed(t):
    """C.8: neither a list of users nor a mode stands for them."""
    for listener, status in (({"address": "0.0.0.0:1", "allow_uids": [0]}, 78), ({"address": "[::]:1"}, 78),
                             ({"address": "0.0.0.0:1", "allow_open": True}, 0),
                             ({"address": "0.0.0.0:1", "username": "a", "password": "b"}, 0),
                             ({"address": "unix:/nowhere/socks", "mode": "0666"}, 0),
                             ({"address": "unix:relative"}, 78), ({"address": "127.0.0.1:1", "mode": "0600"}, 78),
                             ({"allow_uids": []}, 78), ({"allow_uids": ["no-such-user"]}, 78)):
        path, _ = t.config(listener=listener)
        done = run("check", "-c", path)
        expect(done, status)


# ---- limits -----------------------------------------------------------------------------------------------------
def rep_of(port, echo):
    try:
        sock = socks5(port, "127.0.0.1", echo.port)
    except SocksError as error:
        return error.rep
    sock.close()
    return 0


@case(endpoints=(C,), transports=("http2",))
def limits_are_told(t):
    """A.27: REP 1 and 503 past the limits of a listener and of a user; what ends makes room."""
    endpoint, echo = t.endpoint(), targets.echo(t)
    control = t.path("control")
    for option, words in (("max_connections", "too many connections on this listener"),
                          ("max_connections_per_uid", "too many connections of this user")):
        adit = t.adit(endpoint, root={"control": control}, listener={option: 2})
        held = [socks5(adit.port, "127.0.0.1", echo.port) for _ in range(2)]
        check(rep_of(adit.port, echo) == 1, "REP")
        with clients.dial(adit.port) as sock:
            sock.sendall(f"CONNECT 127.0.0.1:{echo.port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            check(clients.read_exactly(sock, 12) == b"HTTP/1.1 503", "status")
        adit.wait_record(reason="limit", detail=words)
        check(re.search(rf"connections are refused: {words} listener=mixed", adit.stderr()), adit.stderr()[-600:])
        check(counts(control)["refused_limit"] == 2, counts(control))
        if ROOT:
            answer = stranger("AF_INET", f"127.0.0.1:{adit.port}", socks_bytes(echo.port))
            alone = option == "max_connections_per_uid"
            check(answer.startswith(GRANTED if alone else "got 05000501"), f"another user: {answer}")
        for sock in held:
            check(clients.ping(sock), "a flow was harmed")
        held.pop().close()
        wait_until(lambda: rep_of(adit.port, echo) == 0, 5, "room again")
        held.pop().close()
        adit.stop()


@case(endpoints=(C,), transports=("http2",))
def a_crowd_of_one_user_leaves_room(t):
    """Past the limit and what is told so, connections are reset; the counts go back to nothing."""
    endpoint, echo = t.endpoint(), targets.echo(t)
    control = t.path("control")
    adit = t.adit(endpoint, root={"control": control}, listener={"max_connections_per_uid": 5, "max_connections": 1000})
    crowd = []
    for _ in range(200):
        try:
            crowd.append(clients.dial(adit.port))
        except ConnectionError:
            pass
    wait_until(lambda: counts(control)["refused_limit"] >= 195, 5, "refused")
    check(counts(control)["connections"] <= 5 + 64, counts(control))
    if ROOT:
        check(stranger("AF_INET", f"127.0.0.1:{adit.port}", socks_bytes(echo.port)).startswith(GRANTED), "another user")
    for sock in crowd:
        sock.close()
    wait_until(lambda: counts(control)["connections"] == 0, 5, "nobody is left")
    check(rep_of(adit.port, echo) == 0, "served again")


# ---- sockets of systemd -----------------------------------------------------------------------------------------
def config_of(t, endpoint, *listeners):
    """Configuration with these listeners alone, each NAME, ADDRESS, and more lines."""
    path, _ = t.config(endpoint)
    with open(path) as file:
        text = file.read()
    text = text[:text.index("[listener.mixed]")]
    for name, address, *more in listeners:
        text += f'[listener.{name}]\naddress = "{address}"\n' + "".join(f"{line}\n" for line in more)
    with open(path, "w") as file:
        file.write(text)
    return path


@case(endpoints=(C,), transports=("http2", "http3"))
def systemd_passes_sockets(t):
    """The first connection starts adit, and is served; names select the listener."""
    endpoint, echo = t.endpoint(), targets.echo(t)
    port, six, path = t.free_port(), t.free_port(), t.path("passed")
    config = config_of(t, endpoint, ("web", "systemd:one"), ("six", "systemd:two", 'protocols = ["http"]'),
                       ("local", "systemd:three"))
    adit = Adit(t, config, port, prefix=(*ACTIVATE, "--wait", f"two=tcp:[::1]:{six}", f"one=tcp:127.0.0.1:{port}",
                                         f"three=unix:{path}", f"four=tcp:127.0.0.1:{t.free_port()}", "--"))
    wait_until(lambda: os.path.exists(path), 10, "the sockets")
    time.sleep(0.3)
    check("adit" not in os.readlink(f"/proc/{adit.pid}/exe"), "adit runs before a connection")
    with socks5(port, "127.0.0.1", echo.port) as first:
        check(clients.ping(first), "no echo")
        check(adit.wait_log(r"a socket was passed that no listener uses name=four"), "the fourth")
        with socket.create_connection(("::1", six), 10) as sock:
            sock.sendall(f"CONNECT 127.0.0.1:{echo.port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            check(clients.read_exactly(sock, 12) == b"HTTP/1.1 200", "CONNECT")
        with unix_dial(path) as sock:
            through(sock, echo.port)
        adit.wait_record(listener="local")
        check(adit.wait_record(listener="six")["protocol"] == "http", adit.records())
        with open(f"/proc/{adit.pid}/environ", "rb") as file:
            check(b"LISTEN_PID" in file.read(), "the case is void: nothing was passed")
        # A listener that goes and comes back by reload finds its socket again.
        reload(adit, '"systemd:one"', '"systemd:four"')
        reload(adit, '"systemd:four"', '"systemd:one"')
        check(clients.ping(first), "the flow was lost")
        check(rep_of(port, echo) == 0, "after two reloads")
        try:
            rep_of(six, echo)
            check(False, "127.0.0.1 answers at the port of ::1")
        except OSError:
            pass
    adit.stop()
    check(os.path.exists(path), "a socket that systemd made was removed")


@case(endpoints=(C,), transports=("http2",))
def systemd_passes_what_does_not_fit(t):
    """H.8: exact messages, and exit 78."""
    endpoint = t.endpoint()
    port = t.free_port()

    def must_fail(address, sockets, words, *more):
        config = config_of(t, endpoint, ("web", address, *more))
        done = subprocess.run([*ACTIVATE, *sockets, "--", program("ADIT", "adit"), "-c", config], capture_output=True,
                              text=True, timeout=30, stdin=subprocess.DEVNULL)
        expect(done, 78, f"cannot listen on {address}: {words}")
        check(re.search(rf"{re.escape(config)}:\d+:11: cannot listen", done.stderr), done.stderr)
    must_fail("systemd:web", [f"one=tcp:127.0.0.1:{port}", f"two=tcp:127.0.0.1:{t.free_port()}"],
              "no socket 'web' was passed; there is: one, two")
    must_fail("systemd:web", [f"web=tcp:127.0.0.1:{port}", f"web=tcp:127.0.0.1:{t.free_port()}"],
              "2 sockets 'web' were passed")
    must_fail("systemd:web", [f"web=udp:127.0.0.1:{port}"], "what was passed as 'web' carries datagrams")
    must_fail("systemd:web", [f"web=idle:127.0.0.1:{port}"], "what was passed as 'web' does not listen")
    must_fail("systemd:web", [f"web=tcp:0.0.0.0:{port}"], f"it would be open to everyone who can reach 0.0.0.0:{port}")
    must_fail("systemd:web", [f"web=tcp:0.0.0.0:{port}"], "it would be open", "allow_uids = [0]")
    config = config_of(t, endpoint, ("web", "systemd:web"))
    done = run("-c", config)
    expect(done, 78, "adit was not started by socket activation")
    done = run("-c", config, env=dict(os.environ, LISTEN_PID="1", LISTEN_FDS="1", LISTEN_FDNAMES="web"))
    expect(done, 78, "adit was not started by socket activation")
    expect(run("check", "-c", config), 0)
    done = subprocess.run(["/bin/sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=2 exec "$0" -c "$1"', program("ADIT", "adit"), config],
                          capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    expect(done, 78, "descriptor 3 is not open")
    with_open = config_of(t, endpoint, ("web", "systemd:web", "allow_open = true"))
    adit = Adit(t, with_open, port, prefix=(*ACTIVATE, f"web=tcp:0.0.0.0:{port}", "--"))
    adit.wait_log("listening name=web address=0.0.0.0")


@case(endpoints=(C,), transports=("http2",))
def users_of_a_passed_socket(t):
    """A socket for both families: IPv4 comes in mapped addresses."""
    endpoint, echo = t.endpoint(), targets.echo(t)
    port = t.free_port()
    admitted, other = (os.geteuid(), NOBODY) if ROOT else (NOBODY, os.getuid())
    config = config_of(t, endpoint, ("web", "systemd:web", f"allow_uids = [{admitted}]", "allow_open = true"))
    adit = Adit(t, config, port, prefix=(*ACTIVATE, f"web=tcp:[::]:{port}", "--"))
    adit.wait_log("listening name=web")
    for family, host in (("AF_INET", "127.0.0.1"), ("AF_INET6", "::1"), ("AF_INET6", "::ffff:127.0.0.1")):
        check(refused(stranger(family, f"{host}:{port}", socks_bytes(echo.port))), host)
    adit.wait_log(f"listener=web uid={other} ")
    check("uid=unknown" not in adit.stderr(), adit.stderr()[-800:])
    reload(adit, f"allow_uids = [{admitted}]", f"allow_uids = [{other}]")
    for family, host in (("AF_INET", "127.0.0.1"), ("AF_INET6", "::1"), ("AF_INET6", "::ffff:127.0.0.1")):
        check(stranger(family, f"{host}:{port}", socks_bytes(echo.port)).startswith(GRANTED), host)


@case(endpoints=(C,), transports=("http2",))
def systemd_socket_activate(t):
    """systemd's own tool starts adit at the first connection."""
    endpoint, echo = t.endpoint(), targets.echo(t)
    tool = shutil.which("systemd-socket-activate")
    check(tool, "no systemd-socket-activate")
    port = t.free_port()
    config = config_of(t, endpoint, ("web", "systemd:web"))
    adit = Adit(t, config, port, prefix=(tool, "-E", "ASAN_OPTIONS", "-l", f"127.0.0.1:{port}", "--fdname=web"))
    adit.wait_ready()
    check(os.path.basename(os.readlink(f"/proc/{adit.pid}/exe")) == "systemd-socket-activate", "adit runs already")
    with socks5(port, "127.0.0.1", echo.port) as sock:
        check(clients.ping(sock), "no echo")
    check(os.path.basename(os.readlink(f"/proc/{adit.pid}/exe")) == "adit", "who was it?")
    adit.wait_record(listener="web")


if __name__ == "__main__":
    main()
