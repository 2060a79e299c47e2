#!/usr/bin/env python3
"""A thousand downloads at once on each transport: every byte checked, adit's memory bounded, nothing left behind."""
import asyncio
import hashlib
import threading
import time

import clients
import targets
from harness import C, H2_H3, PY, SANITIZER, case, check, main, wait_until

MIB = 1 << 20
# The scripted endpoint's HTTP/3 is Python's, and its cost grows with the square of the streams.
FLOWS = {(C, "http2"): 1000, (C, "http3"): 1000, (PY, "http2"): 1000, (PY, "http3"): 40}
SIZE = 64 * 1024


class Source:
    """Sends a download of SIZE bytes from an offset that the request names; asyncio, in a thread of its own. The last
    bytes wait until `gather` downloads are open at once."""

    def __init__(self, gather=1):
        self.ready = threading.Event()
        self.gather = gather
        self.gathered = None
        self.open = 0
        self.most = 0
        threading.Thread(target=lambda: asyncio.run(self.serve()), daemon=True).start()
        check(self.ready.wait(10), "no source")

    async def serve(self):
        self.gathered = asyncio.Event()
        server = await asyncio.start_server(self.one, "127.0.0.1", 0, backlog=2048)
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        await server.serve_forever()

    async def one(self, reader, writer):
        self.open += 1
        self.most = max(self.most, self.open)
        if self.open >= self.gather:
            self.gathered.set()
        try:
            offset = int(await reader.readline())
            for at in range(0, SIZE, 16384):
                if at == SIZE - 16384:
                    await asyncio.wait_for(self.gathered.wait(), 100)
                writer.write(targets.pattern(offset + at, 16384))
                await writer.drain()
            await reader.read()
        except (OSError, ValueError, asyncio.TimeoutError):
            pass
        finally:
            self.open -= 1
            writer.close()


async def download(port, target, offset, gate):
    """One flow by SOCKS5; its digest or what went wrong."""
    async with gate:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"\x05\x01\x00" + clients.socks5_request("127.0.0.1", target) + b"%d\n" % offset)
        await reader.readexactly(2)
        reply = await reader.readexactly(10)
        if reply[1]:
            return f"REP {reply[1]}"
        return hashlib.sha256(await reader.readexactly(SIZE)).hexdigest()
    except (OSError, asyncio.IncompleteReadError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        writer.close()


async def all_downloads(port, target, n):
    gate = asyncio.Semaphore(100)
    return await asyncio.gather(*(download(port, target, 1000 * i, gate) for i in range(n)))


@case(endpoints=(C, PY), transports=H2_H3, seconds=240)
def parallel_downloads(t):
    n = FLOWS[t.kind, t.transport]
    endpoint, warm_up, source = t.endpoint("--max-streams", str(n + 100)), Source(), Source(n)
    adit = t.adit(endpoint, root={"log_level": "info"}, recovery_wait="60s", connect_timeout="60s", max_pending=2000)
    asyncio.run(all_downloads(adit.port, warm_up.port, 10))
    wait_until(lambda: warm_up.open == 0, 20, "the warm-up ends")
    before, descriptors = adit.rss(), adit.descriptors()
    start = time.monotonic()
    results = asyncio.run(all_downloads(adit.port, source.port, n))
    seconds = time.monotonic() - start
    grown = adit.rss() - before
    wrong = [r for i, r in enumerate(results)
             if r != hashlib.sha256(targets.pattern(1000 * i, SIZE)).hexdigest()]
    t.note(f"{n} downloads of {SIZE} bytes, {source.most} at once, {seconds:.1f} s, adit grew by {grown / MIB:.1f} MiB,"
           f" {adit.cpu_seconds():.1f} s of CPU")
    check(not wrong, f"{len(wrong)} of {n} went wrong:", wrong[:5])
    check(source.most == n, f"only {source.most} were open at once")
    check(grown < 192 * MIB, f"adit grew by {grown // MIB} MiB")
    wait_until(lambda: source.open == 0, 20, "the targets' connections end")
    spare = 3  # sessions beside the one in use stay for 45 s
    wait_until(lambda: adit.descriptors() <= descriptors + spare, 20, "descriptors as before")
    wait_until(lambda: len(adit.records()) == n + 10, 20, "a record for each flow")
    used = adit.cpu_seconds()
    time.sleep(1)
    check(adit.cpu_seconds() - used < 0.2, "busy while idle")
    endpoint.check_clean()


@case(endpoints=(C,), transports=H2_H3, seconds=240)
def memory_does_not_grow_with_use(t):
    """The same load again and again: the resident size settles."""
    endpoint, source = t.endpoint("--max-streams", "1000"), Source()
    adit = t.adit(endpoint, root={"log_level": "info"})
    sizes = []
    for _ in range(6):
        results = asyncio.run(all_downloads(adit.port, source.port, 150))
        check(all(len(r) == 64 for r in results), [r for r in results if len(r) != 64][:3])
        wait_until(lambda: source.open == 0, 20, "the targets' connections end")
        sizes.append(adit.rss())
    t.note("resident MiB:", " ".join(f"{s / MIB:.1f}" for s in sizes))
    # A sanitizer keeps freed memory in quarantine: the size says nothing then.
    with open(f"/proc/{adit.pid}/maps") as maps:
        if "asan" not in maps.read():
            check(sizes[-1] - sizes[2] < 4 * MIB, "adit grows")
    check(not SANITIZER.search(adit.stderr()), "a sanitizer reported")


@case(endpoints=(C,), transports=("http2",), seconds=120)
def few_descriptors_are_enough_to_stay_alive(t):
    """With 64 descriptors and 300 connections at once nothing breaks: some wait or are refused, later ones work."""
    import resource
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint, root={"log_level": "info"})
    resource.prlimit(adit.pid, resource.RLIMIT_NOFILE, (64, 64))
    held = []
    for _ in range(300):
        try:
            held.append(clients.dial(adit.port, 5))
        except OSError:
            break
    time.sleep(1)
    used, lines = adit.cpu_seconds(), len(adit.stderr())
    time.sleep(2)
    check(adit.cpu_seconds() - used < 0.5, "busy without descriptors")
    check(len(adit.stderr()) - lines < 4096, "a flood in the log")
    for sock in held:
        sock.close()

    def works():
        try:
            with clients.socks5(adit.port, "127.0.0.1", echo.port, timeout=5) as sock:
                return clients.ping(sock)
        except (OSError, clients.SocksError, clients.Closed):
            return False
    wait_until(works, 20, "works again", step=0.3)


if __name__ == "__main__":
    main()
