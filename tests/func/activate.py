#!/usr/bin/env python3
"""Starts a program with sockets, as systemd does: activate.py [--wait] NAME=SOCKET... -- PROGRAM ARGUMENTS...

SOCKET: tcp:ADDRESS:PORT, udp:ADDRESS:PORT, unix:PATH, or idle:ADDRESS:PORT for one that does not listen. With --wait the
program is started by the first connection to any of them; until then nothing of it runs.
"""
import os
import select
import socket
import sys


def make(text):
    kind, _, where = text.partition(":")
    if kind == "unix":
        made = socket.socket(socket.AF_UNIX)
        made.bind(where)
    else:
        host, _, port = where.rpartition(":")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        made = socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host.strip("[]"), int(port)))
    if kind in ("tcp", "unix"):
        made.listen(64)
    return made


def main():
    mine, command = sys.argv[1:sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1:]
    wait = "--wait" in mine
    pairs = [a.partition("=")[::2] for a in mine if a != "--wait"]
    socks = [make(where) for _, where in pairs]
    if wait:
        select.select(socks, [], [])
    high = [os.dup2(s.fileno(), 100 + i) for i, s in enumerate(socks)]
    os.closerange(3, 100)
    for i, fd in enumerate(high):
        os.dup2(fd, 3 + i)
        os.close(fd)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(socks)),
                      LISTEN_FDNAMES=":".join(name for name, _ in pairs))
    os.execvp(command[0], command)


main()
