#!/usr/bin/env python3
"""A scripted TrustTunnel endpoint for tests: HTTP/2 over TLS and HTTP/3 on one loopback port.

    pyendpoint.py --listen 127.0.0.1:0 --cert FILE --key FILE --user NAME:PASSWORD [--no-h2] [--no-h3] [--retry]
                  [--strict] [--stream-window N] [--conn-window N] [--fault NAME[=VALUE]]...

The first line on stdout is `ready PORT`; every further line is a JSON object: an event. Lines on stdin change it while
it runs (if stdin is a pipe): `fault NAME[=VALUE]`, `clear NAME`, `drop [h2|h3]` (end sessions without GOAWAY), `goaway`; each is answered by
the event "control". A breach of the protocol by the client is the event "violation" (--strict also ends the session).

Names below `test` are answered without DNS: `hang.test` is never answered, `warn-302.test` gives 502 with that x-warning,
`status-418.test` that status, `rst.test` a reset, `eof.test` 200 and the end, `silent.test` 200 and nothing more; every
other one is 127.0.0.1, as is localhost. All that is not on loopback fails like an unknown name.

Faults (those marked * are understood by the C endpoint too):
  *udp-drop *udp-drop-after=MS *stall-after=MS *goaway-after=N *status=CODE *x-warning=CODE *slow-accept=MS (before a
  request is looked at) *no-alpn *refuse-stream=N (so many next requests) *instant-200 (before dialling, as one known
  listener does), slow-tcp=MS (before TLS),
  deaf deaf-h2 deaf-h3 (nothing is answered any more, nor accepted), check=STATUS|hang (the answer to _check),
  connect-hang (every CONNECT but _check), close-after=N (EOF after N requests), session-cap=N (further sessions end
  after their first request), dead-man=MS (no new stream for so long ends the session), rst-flood (enforce the limit on
  cancelled requests), h3-fin=ignore-bare|kill (two deployed behaviours of half-close), deny-private (310/311),
  retry-after=S (with status), drop-sni (TLS dropped without an alert), early-fin=N (end the answer after N bytes).
"""
import argparse
import asyncio
import errno
import functools
import ipaddress
import os
import socket
import ssl
import stat
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from aioquic.asyncio.server import QuicServer                           # noqa: E402
from aioquic.quic.configuration import QuicConfiguration                # noqa: E402

from clienthello import peek_client_hello                               # noqa: E402
from h2io import H2Session                                              # noqa: E402
from h3io import H3Session                                              # noqa: E402
from streamio import (CANCEL, H3_CODES, REFUSED, EventLog, StreamReset, basic, header,  # noqa: E402
                      split_authority)

PSEUDO_HOSTS = ("_check", "_udp2", "_icmp")
RST_FLOOD_LIMIT = 20
ENHANCE_YOUR_CALM = 11
H3_EXCESSIVE_LOAD = 0x107
SESSION_DENIED = 0x42
CHUNK = 65536


class Endpoint:
    """Options, faults and counters of the process."""

    def __init__(self, args, log):
        self.args = args
        self.log = log
        self.faults = {}
        for text in args.fault:
            self.set_fault(text)
        self.users = [tuple(u.partition(":")[::2]) for u in args.user]
        self.credentials = {basic(name, password): name for name, password in self.users}
        self.requests = 0
        self.session_ids = 0
        self.sessions = set()
        self.udp_first = None

    def set_fault(self, text):
        name, _, value = text.partition("=")
        self.faults[name] = value or "1"

    def fault(self, name):
        return self.faults.get(name)

    def number(self, name):
        value = self.faults.get(name)
        return None if value is None else int(value)

    def is_deaf(self, proto):
        return "deaf" in self.faults or f"deaf-{proto}" in self.faults

    def violation(self, session, what, **more):
        self.log("violation", session=session.number, proto=session.proto, what=what, **more)
        if self.args.strict:
            session.punish()

    def control(self, line):
        verb, _, rest = line.strip().partition(" ")
        if verb == "fault":
            self.set_fault(rest)
        elif verb == "clear":
            self.faults.pop(rest, None)
        elif verb == "drop":
            for session in list(self.sessions):
                if not rest or session.proto == rest:
                    session.vanish()
        elif verb == "goaway":
            for session in list(self.sessions):
                session.goaway(session.last_request)
        for session in self.sessions:
            session.deaf = session.deaf_for_good or self.is_deaf(session.proto)
        self.log("control", line=line.strip())


class ServerSession:
    """What both transports' sessions have in common in the endpoint's role."""

    def start(self, endpoint):
        endpoint.session_ids += 1
        self.endpoint = endpoint
        self.number = endpoint.session_ids
        self.request_count = 0
        self.cancelled = 0
        self.last_request = 0
        self.deaf_for_good = False
        self.tasks = set()
        self.timers = []
        self.dead_man = None

    def session_up(self, **fields):
        self.endpoint.sessions.add(self)
        self.endpoint.log("session", session=self.number, proto=self.proto, **fields)
        stall = self.endpoint.number("stall-after")
        if stall is not None:
            self.timers.append(asyncio.get_running_loop().call_later(stall / 1000, self.stall))
        self.arm_dead_man()

    def stall(self):
        self.endpoint.log("stalled", session=self.number)
        self.deaf = self.deaf_for_good = True

    def arm_dead_man(self):
        after = self.endpoint.number("dead-man")
        if after is not None:
            if self.dead_man is not None:
                self.dead_man.cancel()
            self.dead_man = asyncio.get_running_loop().call_later(after / 1000, self.vanish)

    def session_down(self, reason):
        if self not in self.endpoint.sessions:
            return
        self.endpoint.sessions.discard(self)
        for timer in self.timers + ([self.dead_man] if self.dead_man else []):
            timer.cancel()
        self.endpoint.log("session-end", session=self.number, proto=self.proto, reason=reason)

    def on_request(self, stream, ended):
        self.request_count += 1
        self.last_request = max(self.last_request, stream.sid)
        self.endpoint.requests += 1
        self.arm_dead_man()
        task = asyncio.get_running_loop().create_task(serve(self.endpoint, self, stream, ended))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        limit = self.endpoint.number("goaway-after")
        if limit is not None and self.request_count == limit:
            self.endpoint.log("goaway-sent", session=self.number, last=stream.sid)
            self.goaway(stream.sid)
        limit = self.endpoint.number("close-after")
        if limit is not None and self.request_count == limit:
            asyncio.get_running_loop().call_later(0.05, self.vanish)
        cap = self.endpoint.number("session-cap")
        if cap is not None and self.number > cap:
            asyncio.get_running_loop().call_soon(self.vanish)

    def on_client_reset(self, stream, code):
        self.endpoint.log("reset", session=self.number, stream=stream.sid, proto=self.proto, code=code,
                          answered=stream.answered)
        if not stream.answered:
            self.cancelled += 1
            if self.cancelled == RST_FLOOD_LIMIT + 1:
                self.endpoint.violation(self, "rst-flood")
                if self.endpoint.fault("rst-flood"):
                    self.goaway(self.last_request, ENHANCE_YOUR_CALM if self.proto == "h2" else H3_EXCESSIVE_LOAD)
                    self.vanish()
        # One deployed endpoint ignores a bare RESET_STREAM on HTTP/3, and its target's socket leaks.
        return False if self.proto == "h3" and self.endpoint.fault("h3-fin") == "ignore-bare" else None

    def judge_early_fin(self, stream, how):
        """An abort is a FIN too, with a STOP_SENDING that may come in another packet."""
        if not getattr(stream, "given_up", False):
            self.endpoint.violation(self, "fin-before-answer", stream=stream.sid, how=how)

    def on_client_fin(self, stream, how="end-stream"):
        self.endpoint.log("half-close", session=self.number, stream=stream.sid, proto=self.proto, how=how,
                          answered=stream.answered)
        if self.proto != "h3":
            return None
        if not stream.answered:
            asyncio.get_running_loop().call_later(0.1, self.judge_early_fin, stream, how)
        if how == "bare-fin":
            self.endpoint.violation(self, "bare-fin", stream=stream.sid)
        mode = self.endpoint.fault("h3-fin")
        if mode == "kill":
            stream.finish()
            stream.stop_reading()
            stream.feed_dead(StreamReset(None, "killed by its FIN"))
            return False
        return False if mode == "ignore-bare" and how == "bare-fin" else None


class ServerH2(ServerSession, H2Session):
    def __init__(self, endpoint, hello):
        args = endpoint.args
        H2Session.__init__(self, False, endpoint.log, args.stream_window, args.conn_window, args.max_streams)
        self.start(endpoint)
        self.hello = hello

    def on_up(self):
        tls = self.transport.get_extra_info("ssl_object")
        self.session_up(alpn=tls.selected_alpn_protocol(), sni=self.hello.get("sni"),
                        offered=self.hello.get("alpn"), tls=tls.version(), cipher=tls.cipher()[0])
        self.deaf = self.endpoint.is_deaf("h2")
        if not self.hello.get("sni"):
            self.endpoint.violation(self, "no-sni")
        if any(a.startswith("h3") for a in self.hello.get("alpn") or ()):
            self.endpoint.violation(self, "h3-alpn-on-tcp")

    def on_settings(self, event):
        self.log("settings", session=self.number,
                 settings={int(k): v.new_value for k, v in event.changed_settings.items()})

    def on_down(self, reason):
        self.session_down(reason)

    def punish(self):
        self.goaway(self.last_request, 1)
        self.close()

    def vanish(self):
        self.close()


class ServerH3(ServerSession, H3Session):
    def __init__(self, quic, stream_handler=None, endpoint=None):
        H3Session.__init__(self, quic, stream_handler, client=False, log=endpoint.log)
        self.start(endpoint)
        limit = quic._local_max_streams_bidi
        limit.value = limit.sent = endpoint.args.max_streams

    def on_up(self):
        self.session_up(alpn=self.alpn, sni=self._quic.tls.client_server_name_seen)
        self.deaf = self.endpoint.is_deaf("h3")
        if not self._quic.tls.client_server_name_seen:
            self.endpoint.violation(self, "no-sni")

    def on_client_stop(self, stream, code):
        stream.given_up = True
        self.endpoint.log("stop-sending", session=self.number, stream=stream.sid, code=code, answered=stream.answered,
                          finished=stream.finished)
        if stream.eof:
            stream.feed_dead(StreamReset(code, "stopped"))

    def on_down(self, code, reason):
        # Whoever closed with it: an error of RFC 9114 or RFC 9204.
        if 0x101 <= code <= 0x110 or 0x200 <= code <= 0x202:
            self.log("protocol-error", proto="h3", what=f"code={code:#x} {reason}")
        self.session_down(f"code={code:#x} {reason}")

    def punish(self):
        self.close(H3_CODES["protocol"], "violation")

    def vanish(self):
        self.close(SESSION_DENIED, "")


# ---- one request ------------------------------------------------------------------------------------------------
def check_request(endpoint, session, stream):
    """Reports breaches and returns (host, port) or None when the request must be refused as malformed."""
    fields = stream.headers
    names = [k for k, _ in fields]
    good = True
    for name in names:
        if name != name.lower():
            endpoint.violation(session, "upper-case-name", name=name.decode("latin-1"))
            good = False
    for pseudo in (b":scheme", b":path", b":protocol"):
        if pseudo in names:
            endpoint.violation(session, "pseudo-header-on-connect", name=pseudo.decode())
            good = False
    for name in (b"x-ping", b"connection", b"transfer-encoding", b"proxy-connection", b"host"):
        if name in names:
            endpoint.violation(session, "forbidden-header", name=name.decode())
    if header(fields, b"sec-fetch-mode") == b"navigate":
        endpoint.violation(session, "forbidden-header", name="sec-fetch-mode")
    if names[:2] != [b":method", b":authority"] and good:
        endpoint.violation(session, "pseudo-header-order", names=[n.decode("latin-1") for n in names])
    if header(fields, b":method") != b"CONNECT":
        endpoint.violation(session, "method", method=header(fields, b":method", b"").decode("latin-1"))
        good = False
    text = header(fields, b":authority", b"").decode("latin-1")
    try:
        host, port = split_authority(text)
    except ValueError as error:
        endpoint.violation(session, "authority", authority=text, why=str(error))
        return None
    if host in PSEUDO_HOSTS:
        if port is not None:
            endpoint.violation(session, "pseudo-host-with-port", authority=text)
    elif port is None or port == 0:
        endpoint.violation(session, "no-port", authority=text)
        return None
    return (host, port) if good else None


def check_credentials(endpoint, session, stream):
    value = header(stream.headers, b"proxy-authorization")
    if value is None:
        return "missing"
    if value in endpoint.credentials:
        return "ok"
    if not value.startswith(b"Basic ") or len(value[6:]) % 4:
        endpoint.violation(session, "credentials-form")
    return "bad"


def answer(stream, status, extra=(), end=True):
    headers = [(b":status", str(status).encode())]
    headers += [(k.encode(), v.encode()) for k, v in extra]
    stream.send_headers(headers, end=end)


WARNINGS = {300: "Connection failed", 301: "Host unreachable", 302: "Connection timed out",
            310: "Private network is not allowed", 311: "Loopback is not allowed"}


def answer_warning(stream, code, authority):
    extra = [("x-warning", f"{code} - {WARNINGS.get(code, 'Other')}")]
    if code in (310, 311):
        extra.append(("x-adguard-vpn-error", authority))
    answer(stream, 502, extra)


def warning_of(error):
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)) or getattr(error, "errno", 0) == errno.ETIMEDOUT:
        return 302
    if getattr(error, "errno", 0) in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return 301
    return 300


def denied(endpoint, host):
    if not endpoint.fault("deny-private"):
        return None
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None
    return 311 if ip.is_loopback else 310 if ip.is_private else None


async def serve(endpoint, session, stream, ended):
    try:
        await serve_request(endpoint, session, stream)
    except StreamReset as error:
        endpoint.log("stream-lost", session=session.number, stream=stream.sid, why=str(error))
    except Exception as error:
        endpoint.log("endpoint-bug", what=f"{type(error).__name__}: {error}")
        raise
    finally:
        session.forget(stream)


async def serve_request(endpoint, session, stream):
    auth = check_credentials(endpoint, session, stream)
    authority = header(stream.headers, b":authority", b"").decode("latin-1")
    shown = [[k.decode("latin-1"), "(hidden)" if k == b"proxy-authorization" else v.decode("latin-1")]
             for k, v in stream.headers]
    endpoint.log("request", session=session.number, stream=stream.sid, proto=session.proto, authority=authority,
                 auth=auth, headers=shown)
    where = check_request(endpoint, session, stream)
    if where is None:
        if session.proto == "h3":
            answer(stream, 400)
            session.close(H3_CODES["protocol"], "malformed request")
        else:
            stream.reset("protocol")
        return
    if endpoint.number("refuse-stream"):
        endpoint.set_fault(f"refuse-stream={endpoint.number('refuse-stream') - 1}")
        stream.reset(REFUSED)
        return
    if endpoint.number("slow-accept"):
        await asyncio.sleep(endpoint.number("slow-accept") / 1000)
    host, port = where
    forced = endpoint.number("status")
    if auth != "ok" and not forced:
        forced = 407
    if forced:
        extra = [("proxy-authenticate", 'Basic realm="endpoint"')] if forced == 407 else []
        if endpoint.fault("retry-after"):
            extra.append(("retry-after", endpoint.fault("retry-after")))
        if forced == 502 and endpoint.fault("x-warning"):
            answer_warning(stream, endpoint.number("x-warning"), authority)
        else:
            answer(stream, forced, extra)
        return
    if host in PSEUDO_HOSTS:
        await serve_pseudo(endpoint, stream, host)
        return
    if endpoint.fault("connect-hang"):
        host = "hang.test"
    if endpoint.fault("x-warning"):
        answer_warning(stream, endpoint.number("x-warning"), authority)
    elif denied(endpoint, host):
        answer_warning(stream, denied(endpoint, host), authority)
    elif not await serve_scripted(stream, host, authority):
        await serve_tunnel(endpoint, session, stream, host, port, authority)


async def serve_pseudo(endpoint, stream, host):
    if host == "_check":
        mode = endpoint.fault("check") or "200"
        if mode == "hang":
            await stream.read_all()
        else:
            answer(stream, int(mode))
    elif host == "_icmp":
        answer(stream, 501)
    else:
        answer(stream, 200)      # what a disabled _udp2 looks like: open, then over


async def serve_scripted(stream, host, authority):
    if not host.endswith(".test"):
        return False
    word, _, value = host[:-len(".test")].partition("-")
    if word == "hang":
        await stream.read_all()
    elif word == "warn" and value.isdigit():
        answer_warning(stream, int(value), authority)
    elif word == "status" and value.isdigit():
        answer(stream, int(value))
    elif word == "rst":
        stream.reset(CANCEL)
    elif word == "eof":
        answer(stream, 200)
    elif word == "silent":
        answer(stream, 200, end=False)
        await stream.read_all()
    else:
        return False
    return True


def is_loopback(host):
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def dial(endpoint, host, port):
    """Only loopback, and no name is looked up: nothing of a test leaves the machine."""
    if host == "localhost" or host.endswith(".test"):
        host = "127.0.0.1"
    if not is_loopback(host):
        raise OSError(errno.ENOENT, "not on loopback")
    return await asyncio.wait_for(asyncio.open_connection(host, port, limit=256 * 1024), endpoint.args.dial_timeout)


async def serve_tunnel(endpoint, session, stream, host, port, authority):
    if endpoint.fault("instant-200"):
        answer(stream, 200, end=False)
    loop = asyncio.get_running_loop()
    dialling = loop.create_task(dial(endpoint, host, port))
    gone = loop.create_task(stream.gone.wait())
    try:
        await asyncio.wait([dialling, gone], return_when=asyncio.FIRST_COMPLETED)
        if not dialling.done():
            raise stream.dead
        reader, writer = dialling.result()
    except (OSError, asyncio.TimeoutError) as error:
        endpoint.log("dial-failed", authority=authority, why=str(error))
        if endpoint.fault("instant-200"):
            stream.finish()
            stream.stop_reading()
        else:
            answer_warning(stream, warning_of(error), authority)
        return
    finally:
        dialling.cancel()
        gone.cancel()
    try:
        if not stream.answered:
            answer(stream, 200, end=False)
        await pump_both(endpoint, session, stream, reader, writer)
    finally:
        writer.transport.abort() if stream.dead else writer.close()
        endpoint.log("end", session=session.number, stream=stream.sid, authority=authority, up=stream.received,
                     down=stream.sent)


async def watch_gone(stream):
    await stream.gone.wait()
    raise stream.dead


async def pump_up(stream, writer):
    while True:
        data = await stream.read()
        if not data:
            if writer.can_write_eof():
                writer.write_eof()
            return
        writer.write(data)
        await writer.drain()


async def pump_down(endpoint, session, stream, reader):
    limit = endpoint.number("early-fin")
    while True:
        try:
            data = await reader.read(CHUNK)
        except ConnectionError:
            endpoint.log("target-reset", session=session.number, stream=stream.sid)
            if session.proto == "h2":
                stream.reset(CANCEL)
            else:
                stream.finish()
                stream.stop_reading()
            raise
        if limit is not None:
            data, limit = data[:limit], limit - len(data[:limit])
        if not data:
            stream.finish()
            return
        await stream.write(data)


async def pump_both(endpoint, session, stream, reader, writer):
    loop = asyncio.get_running_loop()
    up = loop.create_task(pump_up(stream, writer))
    down = loop.create_task(pump_down(endpoint, session, stream, reader))
    gone = loop.create_task(watch_gone(stream))
    both = asyncio.gather(up, down)
    try:
        # Either side may end first and the other goes on; only an error ends both.
        done, _ = await asyncio.wait([both, gone], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    except (OSError, StreamReset) as error:
        endpoint.log("tunnel-broken", session=session.number, stream=stream.sid, why=str(error))
        if isinstance(error, OSError) and not stream.was_reset and not stream.finished:
            stream.reset(CANCEL)
    finally:
        for task in (up, down, both, gone):
            task.cancel()
        await asyncio.gather(up, down, both, gone, return_exceptions=True)


# ---- listening --------------------------------------------------------------------------------------------------
class DroppingQuicServer(QuicServer):
    def __init__(self, endpoint, **options):
        super().__init__(**options)
        self.endpoint = endpoint

    def dropped(self):
        endpoint = self.endpoint
        now = asyncio.get_running_loop().time()
        if endpoint.udp_first is None:
            endpoint.udp_first = now
            endpoint.log("udp", what="first datagram")
        after = endpoint.number("udp-drop-after")
        return (endpoint.fault("udp-drop") or endpoint.is_deaf("h3")
                or (after is not None and now - endpoint.udp_first > after / 1000))

    def datagram_received(self, data, addr):
        if not self.dropped():
            super().datagram_received(data, addr)

    def connection_made(self, transport):
        send = transport.sendto

        class Gate:
            def sendto(gate, data, addr=None):
                if not self.dropped_now():
                    send(data, addr)

            def __getattr__(gate, name):
                return getattr(transport, name)

        super().connection_made(Gate())

    def dropped_now(self):
        return self.endpoint.udp_first is not None and self.dropped()


async def accept_tcp(endpoint, listener, context):
    loop = asyncio.get_running_loop()
    tasks = set()
    while True:
        sock, _ = await loop.sock_accept(listener)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = loop.create_task(incoming(endpoint, sock, context))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def incoming(endpoint, sock, context):
    loop = asyncio.get_running_loop()
    endpoint.log("tcp")
    delay = endpoint.number("slow-tcp")
    if delay:
        await asyncio.sleep(delay / 1000)
    try:
        while endpoint.is_deaf("h2"):
            await asyncio.sleep(0.1)
        hello = await peek_client_hello(sock)
        if endpoint.fault("drop-sni"):
            sock.close()
            return
        await loop.connect_accepted_socket(lambda: ServerH2(endpoint, hello), sock, ssl=context,
                                           ssl_handshake_timeout=10, ssl_shutdown_timeout=1)
    except (OSError, ssl.SSLError, ConnectionError, asyncio.TimeoutError) as error:
        endpoint.log("tls-failed", why=f"{type(error).__name__}: {error}")
        sock.close()


def tls_context(args, endpoint):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(args.cert, args.key)
    if "no-alpn" not in endpoint.faults:
        context.set_alpn_protocols(["h2"])
    return context


class SniQuicConnectionHook:
    """aioquic's server side forgets the client's server name: keep it."""

    @staticmethod
    def install():
        from aioquic import tls

        original = tls.pull_client_hello

        def pull(buf):
            hello = original(buf)
            SniQuicConnectionHook.last = hello.server_name
            return hello

        handle = tls.Context._server_handle_hello

        def server_handle_hello(self, *args, **options):
            result = handle(self, *args, **options)
            self.client_server_name_seen = SniQuicConnectionHook.last
            return result

        tls.pull_client_hello = pull
        tls.Context._server_handle_hello = server_handle_hello
        tls.Context.client_server_name_seen = None

    last = None


def bind_both(host, port):
    """TCP and UDP sockets on one port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(50):
        tcp = socket.socket(family, socket.SOCK_STREAM)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind((host, port))
        udp = socket.socket(family, socket.SOCK_DGRAM)
        try:
            udp.bind((host, tcp.getsockname()[1]))
        except OSError:
            tcp.close()
            udp.close()
            if port:
                raise
            continue
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        tcp.listen(1024)
        tcp.setblocking(False)
        return tcp, udp
    raise OSError("no free port for both TCP and UDP")


async def read_control(endpoint):
    loop = asyncio.get_running_loop()
    if not stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):
        return
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while True:
        line = await reader.readline()
        if not line:
            return
        endpoint.control(line.decode())


async def run(args):
    log = EventLog(sys.stdout)
    endpoint = Endpoint(args, log)
    host, port = split_authority(args.listen)
    tcp, udp = bind_both(host, port or 0)
    tasks = [asyncio.create_task(read_control(endpoint))]
    if args.no_h2:
        tcp_port = tcp.getsockname()[1]
        tcp.close()
    else:
        tcp_port = tcp.getsockname()[1]
        tasks.append(asyncio.create_task(accept_tcp(endpoint, tcp, tls_context(args, endpoint))))
    if args.no_h3:
        udp.close()
    else:
        SniQuicConnectionHook.install()
        quic = QuicConfiguration(is_client=False, alpn_protocols=["h3"], max_data=args.conn_window,
                                 max_stream_data=args.stream_window, idle_timeout=args.idle,
                                 max_datagram_size=1350)
        quic.load_cert_chain(args.cert, args.key)
        create = functools.partial(ServerH3, endpoint=endpoint)
        await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: DroppingQuicServer(endpoint, configuration=quic, create_protocol=create, retry=args.retry), sock=udp)
    print(f"ready {tcp_port}", flush=True)
    await asyncio.gather(*tasks)
    await asyncio.Event().wait()


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--cert", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--user", action="append", default=[])
    parser.add_argument("--no-h2", action="store_true")
    parser.add_argument("--no-h3", action="store_true")
    parser.add_argument("--retry", action="store_true")
    parser.add_argument("--strict", action="store_true")
    parser.add_argument("--fault", action="append", default=[])
    parser.add_argument("--stream-window", type=int, default=131072)
    parser.add_argument("--conn-window", type=int, default=8 << 20)
    parser.add_argument("--max-streams", type=int, default=1000)
    parser.add_argument("--dial-timeout", type=float, default=30)
    parser.add_argument("--idle", type=float, default=600)
    return parser.parse_args(argv)


if __name__ == "__main__":
    try:
        asyncio.run(run(parse(sys.argv[1:])))
    except KeyboardInterrupt:
        pass
