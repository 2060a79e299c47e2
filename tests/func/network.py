"""A network of one's own for a case: a namespace with nothing but a loopback, and rules that drop or reject there.

The namespace belongs to the process that entered it and to its children, and goes with them; nothing has a name in the
system. Needs root or unprivileged user namespaces, and nft.
"""
import contextlib
import ctypes
import os
import shutil
import subprocess
import time

CLONE_NEWNET = 0x40000000
CLONE_NEWUSER = 0x10000000
PR_SET_CHILD_SUBREAPER = 36


class Skip(Exception):
    """The case cannot run here; the text is the reason."""


def libc():
    return ctypes.CDLL(None, use_errno=True)


def become_subreaper():
    """Orphaned grandchildren become this process's children, so that none is lost."""
    libc().prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def tool(name):
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        raise Skip(f"no {name}")
    return path


def enter_own():
    ip = tool("ip")
    tool("nft")
    flags = CLONE_NEWNET
    uid, gid = os.getuid(), os.getgid()
    if uid != 0:
        flags |= CLONE_NEWUSER
    if libc().unshare(flags) != 0:
        raise Skip("no network namespace can be made here")
    if uid != 0:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    subprocess.run([ip, "link", "set", "lo", "up"], check=True)


def rules(text):
    """Replaces all rules of the namespace; each line is a rule of the input hook, as `udp dport 443 drop`."""
    script = "flush ruleset\n"
    if text.strip():
        lines = "\n".join(f"    {line.strip()}" for line in text.strip().splitlines())
        script += f"table inet case {{\n  chain in {{\n    type filter hook input priority 0\n{lines}\n  }}\n}}\n"
    done = subprocess.run([tool("nft"), "-f", "-"], input=script, capture_output=True, text=True)
    if done.returncode:
        raise Skip("nftables does not work here") if "Operation not" in done.stderr else RuntimeError(done.stderr)


class Machine:
    """A second namespace, joined to this one by a wire: this side is at NEAR, that one where move() puts it."""
    NEAR = "10.77.0.1"

    def __init__(self, t):
        self.ip, self.nsenter = tool("ip"), tool("nsenter")
        self.keeper = subprocess.Popen([tool("unshare"), "--net", "sleep", "600"])
        t.defer(self.end)
        mine = os.readlink("/proc/self/ns/net")
        deadline = time.monotonic() + 10
        while os.readlink(self.namespace()) == mine:
            if time.monotonic() > deadline:
                raise RuntimeError("no second namespace")
            time.sleep(0.01)
        subprocess.run([self.ip, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns",
                        str(self.keeper.pid)], check=True)
        subprocess.run([self.ip, "address", "add", f"{self.NEAR}/24", "dev", "wire"], check=True)
        subprocess.run([self.ip, "link", "set", "wire", "up"], check=True)
        self.run("link", "set", "lo", "up")
        self.run("link", "set", "wire", "up")
        self.address = None

    def namespace(self):
        return f"/proc/{self.keeper.pid}/ns/net"

    def prefix(self):
        """Stands before the command of a program that is to run there."""
        return [self.nsenter, f"--net={self.namespace()}", "--"]

    def run(self, *arguments):
        subprocess.run([*self.prefix(), self.ip, *arguments], check=True)

    def move(self, address):
        """It loses the address that it had, and gets this one (None: none)."""
        if self.address:
            self.run("address", "del", f"{self.address}/24", "dev", "wire")
        if address:
            self.run("address", "add", f"{address}/24", "dev", "wire")
        self.address = address

    @contextlib.contextmanager
    def inside(self):
        """Sockets made by this thread meanwhile are of that namespace."""
        with open("/proc/self/ns/net") as mine, open(self.namespace()) as other:
            if libc().setns(other.fileno(), CLONE_NEWNET):
                raise RuntimeError("setns")
            try:
                yield
            finally:
                if libc().setns(mine.fileno(), CLONE_NEWNET):
                    os._exit(99)

    def end(self):
        self.keeper.kill()
        self.keeper.wait()
