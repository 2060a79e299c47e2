"""A network of one's own for a case: a namespace with nothing but a loopback, and rules that drop or reject there.

The namespace belongs to the process that entered it and to its children, and goes with them; nothing has a name in the
system. Needs root or unprivileged user namespaces, and nft.
"""
import ctypes
import os
import shutil
import subprocess

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
