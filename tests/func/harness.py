"""The frame of functional and interop tests: cases in processes of their own, TAP on stdout, and the programs under test.

A test program declares cases and ends with `main()`:

    @case(endpoints=BOTH, transports=("http2", "http3"), seconds=30)
    def echo(t):
        endpoint = t.endpoint()
        adit = t.adit(endpoint)
        ...

Every case runs in a forked process: it may enter a network namespace of its own (t.own_network()), and when its time is
over it is killed with all that it started. A failed assertion, an exception, a sanitizer report of adit, a bad exit
status, or a process left behind fails the case.

Environment: ADIT and ENDPOINT are the paths of the programs, else they are looked for below BUILDDIR or top_builddir.
ADIT_TEST_ONLY=WORD runs only the cases with WORD in their name.
"""
import itertools
import json
import os
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
INTEROP = os.path.join(os.path.dirname(HERE), "interop")
sys.path[:0] = [HERE, INTEROP]

import certs as certificates    # noqa: E402
import network                  # noqa: E402
from network import Skip        # noqa: E402

PY, C = "py", "c"
BOTH = (PY, C)
H2_H3 = ("http2", "http3")
USER, PASSWORD = "alice", "s3cret-pass"
SHORT = {"http2": "h2", "http3": "h3", "auto": "auto"}

CASES = []


class Failure(AssertionError):
    """A case's own words for what is wrong."""


def check(condition, *words):
    if not condition:
        raise Failure(" ".join(str(w) for w in words))


def builddir():
    return os.environ.get("BUILDDIR") or os.environ.get("top_builddir") or "build"


def program(variable, *places):
    path = os.environ.get(variable)
    for place in ([path] if path else [os.path.join(builddir(), p) for p in places]):
        if os.access(place, os.X_OK):
            return os.path.abspath(place)
    raise Skip(f"no {variable.lower()} program")


def case(endpoints=(None,), transports=(None,), seconds=60):
    """Declares a case, once for every endpoint kind and transport."""
    def declare(function):
        for kind, transport in itertools.product(endpoints, transports):
            marks = [m for m in (kind and f"{kind} endpoint", SHORT.get(transport)) if m]
            title = function.__name__.replace("_", " ") + (f" ({', '.join(marks)})" if marks else "")
            CASES.append((title, function, kind, transport, seconds))
        return function
    return declare


# ---- processes --------------------------------------------------------------------------------------------------
def tail(path, lines=40):
    try:
        with open(path, errors="replace") as file:
            return file.read().splitlines()[-lines:]
    except OSError:
        return []


def wait_until(condition, seconds=10, what="condition", step=0.02):
    """The first true value of condition(); fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failure(f"{what}: not within {seconds} s")
        time.sleep(step)


def listening(port, pid="self"):
    """Is a TCP socket of the process's namespace in LISTEN on the port? Asks the kernel: nobody is connected to."""
    for table in (f"/proc/{pid}/net/tcp", f"/proc/{pid}/net/tcp6"):
        try:
            with open(table) as file:
                for line in file.readlines()[1:]:
                    fields = line.split()
                    if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                        return True
        except OSError:
            pass
    return False


class Process:
    """A program with its stderr in a file. stop() is idempotent."""

    def __init__(self, t, name, argv, env=None, stdout=None, stdin=subprocess.DEVNULL, ok=(0, -signal.SIGTERM)):
        self.t = t
        self.name = name
        self.ok = ok
        self.stopped = False
        self.stderr_path = os.path.join(t.dir, f"{name}-{t.count()}.stderr")
        self.out = None
        if stdout is None:
            stdout = self.out = open(self.stderr_path + ".out", "wb")
        with open(self.stderr_path, "wb") as stderr:
            self.process = subprocess.Popen(argv, stdin=stdin, stdout=stdout, stderr=stderr,
                                            env=dict(os.environ, **(env or {})))
        self.pid = self.process.pid
        t.logs.append((name, self.stderr_path))
        t.defer(self.stop)

    def running(self):
        return self.process.poll() is None

    def stderr(self):
        with open(self.stderr_path, errors="replace") as file:
            return file.read()

    def wait(self, seconds=10):
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} still runs after {seconds} s") from None

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self, seconds=10):
        if self.stopped:
            return
        self.stopped = True
        if self.running():
            self.process.terminate()
        try:
            status = self.wait(seconds)
        except Failure:
            self.process.kill()
            self.process.wait()
            raise
        self.after(status)

    def kill(self):
        """The program dies without a chance to say goodbye."""
        self.stopped = True
        self.process.kill()
        self.process.wait()

    def after(self, status):
        check(status in self.ok, f"{self.name} ended with {status}")

    # ---- what the kernel knows about it ----
    def rss(self):
        with open(f"/proc/{self.pid}/status") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1)) * 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


QUARANTINE = "quarantine_size_mb=4:thread_local_quarantine_size_kb=256"
SANITIZER = re.compile(r"ERROR: (Address|Leak|Thread|Memory)Sanitizer|runtime error:|SUMMARY: \w+Sanitizer")


class Adit(Process):
    """adit with a configuration; the listener is at 127.0.0.1:port."""

    def __init__(self, t, path, port, arguments=(), prefix=()):
        self.port = port
        self.config = path
        # A sanitizer keeps freed memory for a while: little of it, or the resident size says nothing.
        sanitizer = ":".join(filter(None, (os.environ.get("ASAN_OPTIONS"), QUARANTINE)))
        super().__init__(t, "adit", [*prefix, program("ADIT", "adit"), *arguments, "-c", path], ok=(0,),
                         env={"ASAN_OPTIONS": sanitizer})

    def stop(self, seconds=15):
        """The first SIGTERM lets flows end; what is still open after a moment is ended by a second one."""
        if not self.stopped and self.running():
            self.process.terminate()
            try:
                self.process.wait(1)
            except subprocess.TimeoutExpired:
                pass
        super().stop(seconds)

    def after(self, status):
        check(not SANITIZER.search(self.stderr()), "adit: a sanitizer reported")
        super().after(status)

    def wait_ready(self, seconds=15):
        def ready():
            check(self.running(), f"adit ended with {self.process.returncode} before it listened")
            return listening(self.port, self.pid)
        wait_until(ready, seconds, "adit listens")

    def wait_log(self, pattern, seconds=10):
        return wait_until(lambda: re.search(pattern, self.stderr()), seconds, f"log line {pattern!r}")

    def records(self):
        """The access records so far, each a dict of its keys."""
        found = []
        for line in self.stderr().splitlines():
            if " flow: end " in line:
                found.append({k: v.strip('"') for k, v in re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)', line)})
        return found

    def wait_record(self, seconds=10, **fields):
        """The first record with these values."""
        def find():
            return [r for r in self.records() if all(r.get(k) == v for k, v in fields.items())]
        return wait_until(find, seconds, f"access record {fields}")[0]

    def transport_used(self):
        """What the newest record went through: "h2", "h3"."""
        return self.records()[-1].get("transport")


class Endpoint(Process):
    """The scripted endpoint (kind PY, with events and control lines) or the C one."""

    def __init__(self, t, kind, argv, cert, key, user, password):
        self.kind = kind
        self.cert, self.key = cert, key
        self.user, self.password = user, password
        self.event_list = []
        self.port = None
        super().__init__(t, f"{kind}-endpoint", argv, stdout=subprocess.PIPE,
                         stdin=subprocess.PIPE if kind == PY else subprocess.DEVNULL)
        line = self.first_line(20)
        check(line.startswith("ready "), f"{self.name} said {line!r} instead of ready")
        self.port = int(line.split()[1])
        threading.Thread(target=self.read_events, daemon=True).start()

    def first_line(self, seconds):
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        return self.process.stdout.readline().decode() if ready else ""

    def read_events(self):
        for line in self.process.stdout:
            if line.startswith(b"{"):
                self.event_list.append(json.loads(line))

    def after(self, status):
        check(not SANITIZER.search(self.stderr()), f"{self.name}: a sanitizer reported")
        if self.kind == PY:
            bugs = self.events("endpoint-bug")
            check(not bugs, "the scripted endpoint failed:", bugs[:3])
        super().after(status)

    # ---- only of the scripted one ----
    def events(self, name=None, **fields):
        return [e for e in list(self.event_list)
                if name in (None, e["event"]) and all(e.get(k) == v for k, v in fields.items())]

    def wait_event(self, name, seconds=10, **fields):
        return wait_until(lambda: self.events(name, **fields), seconds, f"endpoint event {name} {fields}")[0]

    def requests(self, **fields):
        """Requests without the health checks."""
        return [e for e in self.events("request", **fields) if e["authority"] != "_check"]

    def control(self, line):
        before = len(self.events("control", line=line))
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        wait_until(lambda: len(self.events("control", line=line)) > before, 10, f"control line {line!r}")

    def check_clean(self):
        """No breach of the protocol was seen."""
        if self.kind == PY:
            check(not self.events("violation"), "violations:", self.events("violation")[:5])
            check(not self.events("protocol-error"), "protocol errors:", self.events("protocol-error")[:5])


def run(*arguments, seconds=20, **options):
    """A run of adit to its end."""
    done = subprocess.run([program("ADIT", "adit"), *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=seconds, **options)
    check(not SANITIZER.search(done.stderr), done.stderr[-2000:])
    return done


def expect(done, status, *words):
    """A run ended with that status and said these words."""
    check(done.returncode == status, f"exit {done.returncode}, not {status}: {done.stdout} {done.stderr}")
    for word in words:
        check(word in done.stdout + done.stderr, f"{word!r} is missing in: {done.stdout} {done.stderr}")
    check(PASSWORD not in done.stdout + done.stderr, "the password was printed")


def toml_value(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    return json.dumps(value)


def toml_table(name, values):
    lines = [f"[{name}]"] if name else []
    return "\n".join(lines + [f"{k} = {toml_value(v)}" for k, v in values.items() if v is not None]) + "\n"


# ---- what a case gets -------------------------------------------------------------------------------------------
class Test:
    """One running case: what it was declared for, a directory, certificates, and its processes."""

    def __init__(self, title, kind, transport, shared):
        self.title = title
        self.kind = kind
        self.transport = transport
        self.shared = shared
        self.dir = tempfile.mkdtemp(prefix="case-", dir=shared.dir)
        os.chmod(self.dir, 0o755)
        self.logs = []
        self.notes = []
        self.undo = []
        self.counter = 0

    def count(self):
        self.counter += 1
        return self.counter

    def defer(self, function):
        self.undo.append(function)

    def note(self, *words):
        self.notes.append(" ".join(str(w) for w in words))

    def path(self, name):
        return os.path.join(self.dir, name)

    @property
    def ca(self):
        return self.shared.certs.ca

    def leaf(self):
        return self.shared.leaf

    def own_network(self):
        """From here on this case and what it starts are alone on a loopback of their own."""
        network.enter_own()
        return network

    def free_port(self, udp=True):
        """A loopback port that nobody has, for TCP and UDP; below those that the system gives to clients, so that none
        of them takes it before it is used."""
        for _ in range(100):
            port = random.SystemRandom().randrange(10000, 32768)
            with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
                try:
                    tcp.bind(("127.0.0.1", port))
                    if udp:
                        datagram.bind(("127.0.0.1", port))
                    return port
                except OSError:
                    continue
        raise Failure("no free port")

    def endpoint(self, *arguments, kind=None, host="127.0.0.1", port=0, faults=(), leaf=None, user=USER, password=PASSWORD):
        kind = kind or self.kind or PY
        cert, key = leaf or self.leaf()
        argv = []
        if kind == PY:
            self.shared.need_python_stacks()
            argv = [sys.executable, os.path.join(INTEROP, "pyendpoint.py")]
        else:
            argv = [program("ENDPOINT", "tests/endpoint/adit-endpoint")]
        argv += ["--listen", f"{host}:{port or self.free_port()}", "--cert", cert, "--key", key,
                 "--user", f"{user}:{password}"]
        for fault in faults:
            argv += ["--fault", fault]
        return Endpoint(self, kind, argv + list(arguments), cert, key, user, password)

    def config(self, endpoint=None, listener=None, root=None, port=None, extra="", **options):
        """Writes a configuration; returns its path and the listener's port. endpoint: an Endpoint, or a port."""
        where = endpoint if isinstance(endpoint, int) else endpoint.port if endpoint else self.free_port()
        port = port or self.free_port(udp=False)
        table = {
            "hostname": certificates.HOSTNAME, "addresses": [f"127.0.0.1:{where}"], "username": USER,
            "password": PASSWORD, "certificate": certificates.read(self.ca),
            "upstream_protocol": self.transport or "auto",
        }
        table.update(options)
        text = toml_table("", dict({"log_level": "debug", "control": "none"}, **(root or {})))
        text += toml_table("endpoint", table)
        text += toml_table("listener.mixed", dict({"address": f"127.0.0.1:{port}"}, **(listener or {})))
        path = self.path(f"adit-{self.count()}.toml")
        with open(path, "w") as out:
            out.write(text + extra)
        os.chmod(path, 0o600)
        return path, port

    def adit(self, endpoint=None, wait=True, arguments=(), prefix=(), **options):
        path, port = self.config(endpoint, **options)
        adit = Adit(self, path, port, arguments, prefix)
        if wait:
            adit.wait_ready()
        return adit

    def finish(self):
        """Undoes everything, the newest first; the first trouble is raised at the end."""
        trouble = None
        while self.undo:
            try:
                self.undo.pop()()
            except Exception as error:
                trouble = trouble or error
        if trouble:
            raise trouble


class Shared:
    """What all cases of the program have in common; made before the first fork."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="adit-test-")
        os.chmod(self.dir, 0o755)
        self.certs = certificates.Certs(os.path.join(self.dir))
        self.leaf = self.certs.leaf()
        self.stacks = None

    def need_python_stacks(self):
        if self.stacks is None:
            done = subprocess.run([sys.executable, "-c", "import h2, aioquic"], capture_output=True)
            self.stacks = done.returncode == 0
        if not self.stacks:
            raise Skip("no python packages h2 and aioquic")

    def remove(self):
        shutil.rmtree(self.dir, ignore_errors=True)


# ---- running ----------------------------------------------------------------------------------------------------
def children_of(pid):
    """All living descendants."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    fields = file.read().rpartition(")")[2].split()
                if fields[0] != "Z":
                    parents.setdefault(int(fields[1]), []).append(int(entry))
            except OSError:
                pass
    found, todo = [], [pid]
    while todo:
        for child in parents.get(todo.pop(), ()):
            found.append(child)
            todo.append(child)
    return found


def kill_descendants(pid):
    for child in children_of(pid):
        try:
            os.kill(child, signal.SIGKILL)
        except OSError:
            pass


def run_body(title, function, kind, transport, shared):
    """In the child: the verdict as a dict."""
    t = Test(title, kind, transport, shared)
    verdict = {"ok": True, "skip": None, "text": []}
    try:
        function(t)
    except Skip as skip:
        verdict["skip"] = str(skip)
    except Exception as error:
        verdict["ok"] = False
        verdict["text"] = [f"{type(error).__name__}: {error}"] + traceback.format_exc().splitlines()[-12:-1]
    try:
        t.finish()
    except Exception as error:
        verdict["ok"] = False
        verdict["text"].append(f"at the end: {type(error).__name__}: {error}")
    left = children_of(os.getpid())
    if left:
        verdict["text"].append(f"{len(left)} processes were left behind")
        kill_descendants(os.getpid())
    if not verdict["ok"]:
        for name, path in t.logs:
            verdict["text"] += [f"---- {name}"] + tail(path)
    verdict["notes"] = t.notes
    return verdict


def run_case(entry, shared):
    title, function, kind, transport, seconds = entry
    readable, writable = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os.close(readable)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        network.become_subreaper()
        with os.fdopen(writable, "w") as out:
            json.dump(run_body(title, function, kind, transport, shared), out)
        os._exit(0)
    os.close(writable)
    deadline = time.monotonic() + seconds
    text = b""
    with os.fdopen(readable, "rb") as pipe:
        while True:
            ready, _, _ = select.select([pipe], [], [], max(0, deadline - time.monotonic()))
            data = os.read(pipe.fileno(), 65536) if ready else None
            if not data:
                break
            text += data
    if data is None:
        logs = []
        for root, _, files in os.walk(shared.dir):
            for name in sorted(files):
                if name.endswith(".stderr"):
                    logs += [f"---- {name}"] + tail(os.path.join(root, name), 15)
        kill_descendants(pid)
        os.kill(pid, signal.SIGKILL)
        verdict = {"ok": False, "skip": None, "text": [f"not done after {seconds} s"] + logs, "notes": []}
    else:
        verdict = json.loads(text) if text else {"ok": False, "skip": None, "text": ["the case died"], "notes": []}
    os.waitpid(pid, 0)
    for name in os.listdir(shared.dir):
        if name.startswith("case-"):
            shutil.rmtree(os.path.join(shared.dir, name), ignore_errors=True)
    return verdict


def give_up(number, frame):
    kill_descendants(os.getpid())
    os._exit(128 + number)


def main():
    signal.signal(signal.SIGTERM, give_up)
    signal.signal(signal.SIGINT, give_up)
    only = os.environ.get("ADIT_TEST_ONLY", "")
    cases = [c for c in CASES if only in c[0]]
    shared = Shared()
    failed = 0
    try:
        for number, entry in enumerate(cases, 1):
            start = time.monotonic()
            verdict = run_case(entry, shared)
            for line in "\n".join(verdict["notes"]).splitlines():
                print(f"# {line}")
            if verdict["ok"] and verdict["skip"]:
                print(f"ok {number} - {entry[0]} # SKIP {verdict['skip']}", flush=True)
                continue
            failed += not verdict["ok"]
            print(f"{'ok' if verdict['ok'] else 'not ok'} {number} - {entry[0]}")
            print(f"# {time.monotonic() - start:.1f} s")
            for line in "\n".join(verdict["text"]).splitlines():
                print(f"#   {line}")
            sys.stdout.flush()
        print(f"1..{len(cases)}", flush=True)
    finally:
        shared.remove()
    sys.exit(1 if failed else 0)
