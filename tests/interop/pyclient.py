#!/usr/bin/env python3
"""A tiny CONNECT client over HTTP/2 and HTTP/3 that judges endpoints and proxies.

    pyclient.py --h2|--h3 --server 127.0.0.1:PORT --ca FILE --sni NAME [--user NAME:PASSWORD] COMMAND
      connect AUTHORITY            prints status and header fields as one JSON line
      judge                        a series of checks against targets on loopback of its own, as TAP
"""
import argparse
import asyncio
import hashlib
import json
import os
import socket
import ssl
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from aioquic.asyncio import connect as quic_connect         # noqa: E402
from aioquic.h3.connection import ErrorCode                 # noqa: E402
from aioquic.quic.configuration import QuicConfiguration    # noqa: E402

from h2io import H2Session                                  # noqa: E402
from h3io import H3Session                                  # noqa: E402
from streamio import EventLog, StreamReset, basic, split_authority  # noqa: E402

USER_AGENT = b"linux pyclient"


class ClientH2(H2Session):
    pass


class ClientH3(H3Session):
    def on_client_fin(self, stream, how):
        stream.fin_form = how


class Client:
    """One session. `await Client.open(...)`, then request() any number of times, then close()."""

    def __init__(self, session, keeper=None):
        self.session = session
        self.keeper = keeper

    @classmethod
    async def open(cls, proto, server, ca, sni, log=None, **options):
        host, port = split_authority(server)
        log = log or EventLog()
        if proto == "h2":
            return cls(await cls.open_h2(host, port, ca, sni, log, options))
        configuration = QuicConfiguration(is_client=True, alpn_protocols=["h3"], server_name=sni, idle_timeout=60,
                                          max_data=16 << 20, max_stream_data=options.get("stream_window", 1 << 20))
        configuration.load_verify_locations(cafile=ca)
        keeper = quic_connect(host, port, configuration=configuration, wait_connected=True,
                              create_protocol=lambda quic, stream_handler=None: ClientH3(quic, None, True, log))
        session = await asyncio.wait_for(keeper.__aenter__(), options.get("timeout", 10))
        return cls(session, keeper)

    @staticmethod
    async def open_h2(host, port, ca, sni, log, options):
        loop = asyncio.get_running_loop()
        context = ssl.create_default_context(cafile=ca)
        alpn = options.get("alpn", ["h2"])
        if alpn:
            context.set_alpn_protocols(alpn)
        _, session = await asyncio.wait_for(loop.create_connection(
            lambda: ClientH2(True, log, stream_window=options.get("stream_window", 1 << 20)), host, port, ssl=context,
            server_hostname=sni), options.get("timeout", 10))
        session.alpn = session.transport.get_extra_info("ssl_object").selected_alpn_protocol()
        return session

    def request(self, authority, user=None, extra=(), fields=None, end=False):
        """Opens a CONNECT; user is (name, password) or None. fields replaces the whole header section."""
        if fields is None:
            fields = [(b":method", b"CONNECT"), (b":authority", authority.encode()), (b"user-agent", USER_AGENT)]
            if user:
                fields.append((b"proxy-authorization", basic(*user)))
            fields += list(extra)
        return self.session.open(fields, end)

    async def connect(self, authority, user=None, timeout=10, **more):
        """(status, headers as a dict of text, stream)."""
        stream = self.request(authority, user, **more)
        headers = await asyncio.wait_for(stream.wait_headers(), timeout)
        fields = {k.decode("latin-1"): v.decode("latin-1") for k, v in headers}
        return int(fields.pop(":status")), fields, stream

    async def close(self):
        if self.keeper is not None:
            self.session.close(ErrorCode.H3_NO_ERROR)
            await self.keeper.__aexit__(None, None, None)
        else:
            self.session.close()
            await asyncio.wait([self.session.closed], timeout=2)


# ---- judging ----------------------------------------------------------------------------------------------------
def pattern(n):
    block = hashlib.sha256(b"adit").digest() * 2048
    return (block * (n // len(block) + 1))[:n]


class Targets:
    """Loopback servers for the judge: echo, answer after EOF, EOF first, resetting, and a closed port."""

    async def start(self):
        self.servers = []
        self.got_after_eof = asyncio.get_running_loop().create_future()
        for name, handler in (("echo", self.echo), ("late", self.late), ("early", self.early), ("rst", self.rst)):
            server = await asyncio.start_server(handler, "127.0.0.1", 0)
            self.servers.append(server)
            setattr(self, name, server.sockets[0].getsockname()[1])
        closed = socket.socket()
        closed.bind(("127.0.0.1", 0))
        self.closed_socket = closed      # bound but not listening: refused, and nobody else gets it
        self.closed = closed.getsockname()[1]

    async def echo(self, reader, writer):
        try:
            while True:
                data = await reader.read(65536)
                if not data:
                    break
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    async def late(self, reader, writer):
        """Reads to EOF, then answers length and digest."""
        digest, n = hashlib.sha256(), 0
        while True:
            data = await reader.read(65536)
            if not data:
                break
            digest.update(data)
            n += len(data)
        writer.write(f"{n} {digest.hexdigest()}".encode())
        writer.close()

    async def early(self, reader, writer):
        """Sends its EOF first and then reads on."""
        writer.write(b"first")
        writer.write_eof()
        data = await reader.read(-1)
        if not self.got_after_eof.done():
            self.got_after_eof.set_result(data)
        writer.close()

    async def rst(self, reader, writer):
        await reader.read(1)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()


class Judge:
    def __init__(self, args, user):
        self.args = args
        self.user = user
        self.number = 0
        self.failed = 0

    def report(self, ok, name, why=""):
        self.number += 1
        self.failed += not ok
        print(f"{'ok' if ok else 'not ok'} {self.number} - {self.args.proto}: {name}{' # ' + why if why else ''}",
              flush=True)

    async def check(self, name, coroutine, seconds=60):
        try:
            result = await asyncio.wait_for(coroutine, seconds)
            self.report(True, name, str(result) if result else "")
        except (AssertionError, StreamReset, OSError, asyncio.TimeoutError) as error:
            self.report(False, name, f"{type(error).__name__}: {error}")

    async def run(self):
        self.targets = Targets()
        await self.targets.start()
        self.client = await Client.open(self.args.proto, self.args.server, self.args.ca, self.args.sni)
        await self.check("echo", self.echo())
        await self.check("missing credentials", self.no_credentials())
        await self.check("wrong credentials", self.wrong_credentials())
        await self.check("refused target", self.refused())
        if self.args.trusttunnel:
            await self.check("_check is 200", self.health())
        await self.check("data before the answer", self.early_data())
        await self.check("client ends first", self.client_first())
        await self.check("target ends first", self.target_first())
        await self.check("target resets", self.target_resets())
        await self.check(f"{self.args.mib} MiB there and back", self.bulk(self.args.mib << 20), 300)
        await self.check("a stream that nobody reads leaves the others alone", self.stuck_reader())
        await self.check(f"{self.args.streams} streams at once", self.many(self.args.streams))
        await self.client.close()
        print(f"1..{self.number}")
        return 1 if self.failed else 0

    async def open(self, port, timeout=10):
        status, fields, stream = await self.client.connect(f"127.0.0.1:{port}", self.user, timeout)
        assert status == 200, f"status {status} {fields}"
        return stream

    async def echo(self):
        stream = await self.open(self.targets.echo)
        await stream.write(b"hello")
        assert await stream.read_exactly(5) == b"hello"
        stream.finish()
        assert await stream.read() == b""

    async def no_credentials(self):
        if self.user is None:
            return "no credentials are asked for"
        status, fields, _ = await self.client.connect(f"127.0.0.1:{self.targets.echo}")
        assert status == 407, f"status {status}"
        return f"407 {fields}"

    async def wrong_credentials(self):
        if self.user is None:
            return "no credentials are asked for"
        status, _, _ = await self.client.connect(f"127.0.0.1:{self.targets.echo}", (self.user[0], "wrong"))
        assert status == 407, f"status {status}"
        await self.echo()
        return None

    async def refused(self):
        status, fields, _ = await self.client.connect(f"127.0.0.1:{self.targets.closed}", self.user)
        assert status >= 500, f"status {status}"
        if self.args.trusttunnel:
            assert status == 502 and fields.get("x-warning", "").startswith("300"), f"{status} {fields}"
        return f"{status} {fields}"

    async def health(self):
        status, _, _ = await self.client.connect("_check", self.user)
        assert status == 200, f"status {status}"

    async def early_data(self):
        stream = self.client.request(f"127.0.0.1:{self.targets.echo}", self.user)
        await stream.write(b"early")
        headers = await stream.wait_headers()
        assert headers[0] == (b":status", b"200"), headers
        assert await stream.read_exactly(5) == b"early"
        stream.finish()

    async def client_first(self):
        stream = await self.open(self.targets.late)
        data = pattern(300000)
        await stream.write(data)
        stream.finish()
        got = (await stream.read_all()).decode()
        assert got == f"{len(data)} {hashlib.sha256(data).hexdigest()}", got

    async def target_first(self):
        stream = await self.open(self.targets.early)
        assert await stream.read_all() == b"first"
        await stream.write(b"still here")
        stream.finish()
        got = await asyncio.wait_for(self.targets.got_after_eof, 10)
        assert got == b"still here", got

    async def target_resets(self):
        stream = await self.open(self.targets.rst)
        await stream.write(b"x")
        try:
            data = await stream.read_all()
            return f"clean end after {len(data)} bytes"
        except StreamReset as reset:
            return str(reset)

    async def bulk(self, n):
        stream = await self.open(self.targets.echo)
        block = pattern(1 << 20)
        sent, got = hashlib.sha256(), hashlib.sha256()

        async def send():
            left = n
            while left:
                piece = block[:min(left, len(block))]
                sent.update(piece)
                await stream.write(piece)
                left -= len(piece)
            stream.finish()

        async def receive():
            total = 0
            while True:
                data = await stream.read()
                if not data:
                    return total
                got.update(data)
                total += len(data)

        start = asyncio.get_running_loop().time()
        _, total = await asyncio.gather(send(), receive())
        seconds = asyncio.get_running_loop().time() - start
        assert total == n and sent.digest() == got.digest(), f"{total} of {n}"
        return f"{n / 1048576 / seconds:.1f} MiB/s"

    async def stuck_reader(self):
        stuck = await self.open(self.targets.echo)
        writing = asyncio.create_task(stuck.write(pattern(16 << 20)))
        await asyncio.sleep(0.5)
        await self.echo()
        await self.client_first()
        writing.cancel()
        stuck.reset()

    async def many(self, n):
        async def one(i):
            stream = await self.open(self.targets.echo, 30)
            data = pattern(20000 + i)
            await stream.write(data)
            stream.finish()
            got = await stream.read_all()
            assert got == data, f"{len(got)} of {len(data)}"

        await asyncio.gather(*(one(i) for i in range(n)))


async def run_connect(args, user):
    client = await Client.open(args.proto, args.server, args.ca, args.sni)
    try:
        status, fields, _ = await client.connect(args.authority, user)
        print(json.dumps({"alpn": client.session.alpn, "status": status, "headers": fields}))
    finally:
        await client.close()


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--h2", dest="proto", action="store_const", const="h2", default="h2")
    parser.add_argument("--h3", dest="proto", action="store_const", const="h3")
    parser.add_argument("--server", required=True)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--sni", required=True)
    parser.add_argument("--user")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("connect").add_argument("authority")
    judge = commands.add_parser("judge")
    judge.add_argument("--mib", type=int, default=16)
    judge.add_argument("--streams", type=int, default=100)
    judge.add_argument("--trusttunnel", action="store_true", help="also expect _check and x-warning")
    args = parser.parse_args(argv)
    user = tuple(args.user.partition(":")[::2]) if args.user else None
    if args.command == "connect":
        asyncio.run(run_connect(args, user))
        return 0
    return asyncio.run(Judge(args, user).run())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
