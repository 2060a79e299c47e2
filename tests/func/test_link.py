#!/usr/bin/env python3
"""Deep links: from one to a configuration and back, and what becomes of the secret in them on the way."""
import base64
import os
import re
import stat
import subprocess
import time

import clients
import targets
from clients import socks5
from harness import C, PASSWORD, USER, Adit, Process, case, check, expect, listening, main, program, run, wait_until
import certs as certificates


def tlv(tag, value):
    length = len(value)
    return bytes([tag]) + (bytes([length]) if length < 64 else (0x4000 | length).to_bytes(2, "big")) + value


def der(t):
    text = certificates.read(t.ca)
    return b"".join(base64.b64decode(m) for m in re.findall(r"-----BEGIN CERTIFICATE-----(.*?)-----END", text, re.S))


def link_of(t, port, *more, prefix="tt://?", certificate=True):
    fields = [tlv(0, b"\x01"), tlv(1, certificates.HOSTNAME.encode()), tlv(2, f"127.0.0.1:{port}".encode()),
              tlv(5, USER.encode()), tlv(6, PASSWORD.encode()), *more]
    if certificate:
        fields.append(tlv(8, der(t)))
    return prefix + base64.urlsafe_b64encode(b"".join(fields)).decode().rstrip("=")


@case(endpoints=(C,), transports=("auto",))
def import_check_run(t):
    """A link in each of its forms becomes a file that only its owner can read, and that works."""
    endpoint, echo = t.endpoint(), targets.echo(t)
    for n, prefix in enumerate(("tt://?", "tt://", "https://trusttunnel.org/qr.html#tt=")):
        path = t.path(f"deep/er/{n}.toml")
        done = run("import", link_of(t, endpoint.port, tlv(12, b"My \"endpoint\""), prefix=prefix), "-o", path)
        check(done.returncode == 0 and done.stdout == f"{path}: written\n", done.stderr)
        check(stat.S_IMODE(os.stat(path).st_mode) == 0o600, oct(os.stat(path).st_mode))
        check(run("check", "-c", path).returncode == 0, "check")
    check('name = "My \\"endpoint\\""' in open(path).read(), open(path).read())
    port = t.free_port(udp=False)
    with open(path, "a") as file:
        file.write(f'\naddress = "127.0.0.1:{port}"\n')
    adit = Adit(t, path, port)
    adit.wait_ready()
    with socks5(port, "127.0.0.1", echo.port) as sock:
        check(clients.ping(sock), "no echo")


@case(endpoints=(C,), transports=("auto",))
def sources(t):
    """Standard input and files, with links or configurations in them."""
    endpoint = t.endpoint()
    text = link_of(t, endpoint.port)
    for content in (text, f"  {text}\n"):
        with open(t.path("link"), "w") as file:
            file.write(content)
        done = run("import", t.path("link"), "-o", "-")
        check(done.returncode == 0 and PASSWORD in done.stdout, done.stderr)
    done = subprocess.run([program("ADIT", "adit"), "import", "-", "-o", "-"], input=text, capture_output=True, text=True, timeout=20)
    check(done.returncode == 0 and f'hostname = "{certificates.HOSTNAME}"' in done.stdout, done.stderr)
    path, _ = t.config(endpoint)
    os.chmod(path, 0o600)
    done = run("import", path, "-o", t.path("copy.toml"))
    check(done.returncode == 0, done.stderr)
    os.environ["HOME"] = t.path("home")
    os.environ.pop("XDG_CONFIG_HOME", None)
    done = run("import", path)
    check(done.stdout == t.path("home/.config/adit/adit.toml") + ": written\n", done.stdout, done.stderr)


@case()
def what_is_refused(t):
    done = run("import", link_of(t, 1, tlv(7, b"\x01"), certificate=False), "-o", t.path("a"))
    check(done.returncode == 78 and "skip_verification" in done.stderr and "--insecure" in done.stderr, done.stderr)
    check(not os.path.exists(t.path("a")), "written all the same")
    done = run("import", link_of(t, 1, tlv(7, b"\x01"), certificate=False), "--insecure", "-o", t.path("a"))
    check(done.returncode == 0 and "skip_verification = true" in open(t.path("a")).read(), done.stderr)
    done = run("import", link_of(t, 1), "-o", t.path("a"))
    check(done.returncode == 1 and "--force" in done.stderr, done.stderr)
    check("skip_verification" in open(t.path("a")).read(), "overwritten")
    check(run("import", link_of(t, 1), "-o", t.path("a"), "--force").returncode == 0, "--force")
    check(sorted(os.listdir(t.dir)) == sorted(f for f in os.listdir(t.dir) if ".new" not in f), os.listdir(t.dir))
    for link, words in ((link_of(t, 1)[:-20], "cut off"), ("tt://?%%%", "base64url"), ("tt://?", "names no host"),
                        (link_of(t, 1, tlv(8, b"\x30\x05ab"), certificate=False), "certificates"),
                        (link_of(t, 1, tlv(1, b"bad host")), "hostname")):
        done = run("import", link, "-o", "-")
        check(done.returncode == 78 and words in done.stderr and PASSWORD not in done.stderr, words, done.stderr)
    check(run("import").returncode == 2 and run("import", "a", "b").returncode == 2, "usage")
    done = run("import", t.path("nothing"))
    check(done.returncode == 78 and "nothing" in done.stderr, done.stderr)
    os.symlink("/dev/null", t.path("link"))
    done = run("import", link_of(t, 1), "-o", t.path("link"))
    check(done.returncode == 1, "a link was followed")


@case(endpoints=(C,), transports=("http3",))
def run_from_a_link(t):
    """--link on the command line is hidden from ps; from standard input nothing was ever there."""
    endpoint, echo = t.endpoint(), targets.echo(t)
    link = link_of(t, endpoint.port, tlv(9, b"\x02"))
    adit = Process(t, "adit", [program("ADIT", "adit"), "--link", link, "-l", "debug"], ok=(0,))
    wait_until(lambda: "session up" in adit.stderr(), 10, "a session")
    with open(f"/proc/{adit.pid}/cmdline", "rb") as file:
        shown = file.read()
    check(b"tt://" in shown and link[10:].encode() not in shown and len(shown.replace(b"\0", b"")) < 120, shown)
    check(link[8:40] not in adit.stderr() and PASSWORD not in adit.stderr(), "in the log")
    if listening(1080, adit.pid):
        with socks5(1080, "127.0.0.1", echo.port) as sock:
            check(clients.ping(sock), "no echo")
    adit.stop()
    done = subprocess.run([program("ADIT", "adit"), "--link", "-", "probe"], input=link, capture_output=True, text=True, timeout=20)
    check(done.returncode == 0 and re.search(r" h3 .* 200 +ok$", done.stdout, re.M), done.stdout, done.stderr)


@case()
def there_and_back(t):
    """export --link, import, export: the same; and the same as a configuration."""
    path, _ = t.config(443, name="Straße", custom_sni="front.test", client_random="aabb/ff00", has_ipv6=False,
                       upstream_protocol="http2")
    os.chmod(path, 0o600)
    done = run("export", "-c", path)
    check(done.returncode == 0 and done.stdout.startswith("tt://?"), done.stderr)
    again = t.path("again.toml")
    check(run("import", done.stdout.strip(), "-o", again).returncode == 0, "import")
    check(run("export", "-c", again).stdout == done.stdout, "another link")

    def endpoint_of(file):
        text = run("export", "--toml", "-c", file).stdout
        return text[text.index("[endpoint]"):text.index("[listener")]
    check(endpoint_of(path) == endpoint_of(again), endpoint_of(path), endpoint_of(again))


@case()
def a_code_for_the_camera(t):
    path, _ = t.config(443, certificate="")
    with open(path) as file:
        text = file.read()
    with open(path, "w") as file:
        file.write(text.replace('certificate = ""\n', ""))
    os.chmod(path, 0o600)
    done = run("export", "--qr", "-c", path)
    check(done.returncode == 0, done.stderr)
    lines = done.stdout.splitlines()
    width = len(lines[0])
    check({len(line) for line in lines} == {width} and set(done.stdout) <= set(" ▄▀█\n") and len(lines) == (width + 1) // 2,
          done.stdout)
    check(lines[0] == "█" * width, "no quiet zone")
    big, _ = t.config(443, name="x" * 200, certificate=certificates.read(t.ca) * 8)
    done = run("export", "--qr", "-c", big)
    check(done.returncode == 1 and "too long for a QR code" in done.stderr, done.stderr)


if __name__ == "__main__":
    main()
