"""An HTTP/3 session over asyncio for scripted peers (client or server), on top of the PyPI package aioquic."""
import asyncio

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import FrameType, H3Connection, encode_frame
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic import events as quic_events

from streamio import H3_CODES, Stream, StreamReset

# Bytes that one stream may have queued in the QUIC layer.
WRITE_LIMIT = 512 * 1024
GATHER_SECONDS = 0.0005
EMPTY_DATA = b"\x00\x00"


class H3Session(QuicConnectionProtocol):
    """aioquic returns credit on receipt and writes without bound; here streams have fixed windows and bounded writes."""

    proto = "h3"

    def __init__(self, quic, stream_handler=None, client=False, log=None):
        super().__init__(quic, stream_handler)
        self.client = client
        self.log = log or (lambda *a, **k: None)
        self.http = None
        self.window = quic._local_max_stream_data_bidi_remote
        self.write_limits = quic._write_stream_limits
        quic._write_stream_limits = self.write_stream_limits
        self.streams = {}
        self.blocked = set()
        self.deaf = False
        self.down = asyncio.get_running_loop().create_future()
        self.last_fin = {}       # stream id -> how its FIN came
        self.goaway_last = None

    # ---- hooks of the role ----
    def on_up(self):
        pass

    def on_request(self, stream, ended):
        pass

    def on_client_reset(self, stream, code):
        pass

    def on_client_stop(self, stream, code):
        pass

    def on_client_fin(self, stream, how):
        pass

    def on_down(self, code, reason):
        pass

    # ---- aioquic ----
    def datagram_received(self, data, addr):
        if self.deaf:
            return
        self._quic.receive_datagram(data, addr, now=self._loop.time())
        self._process_events()
        self.transmit_soon()
        self.wake_writers()

    def transmit_soon(self):
        """aioquic walks all streams for every packet that it builds: gather what a moment brings."""
        if self._transmit_task is None:
            self._transmit_task = self._loop.call_later(GATHER_SECONDS, self.transmit)

    def transmit(self):
        if self.deaf:
            self._transmit_task = None
            return
        super().transmit()

    def quic_event_received(self, event):
        if isinstance(event, quic_events.ProtocolNegotiated):
            self.alpn = event.alpn_protocol
            self.http = H3Connection(self._quic)
        elif isinstance(event, quic_events.HandshakeCompleted):
            self.on_up()
        elif isinstance(event, quic_events.StreamDataReceived) and event.end_stream:
            self.last_fin[event.stream_id] = "bare-fin" if not event.data else \
                "empty-data" if event.data.endswith(EMPTY_DATA) else "data"
        elif isinstance(event, quic_events.StreamReset):
            stream = self.streams.get(event.stream_id)
            if stream is not None:
                counts = self.on_client_reset(stream, event.error_code)
                if not stream.eof and counts is not False:
                    stream.feed_dead(StreamReset(event.error_code))
        elif isinstance(event, quic_events.StopSendingReceived):
            stream = self.streams.get(event.stream_id)
            if stream is not None:
                stream.stopped = event.error_code
                self.on_client_stop(stream, event.error_code)
                stream.writable.set()
        elif isinstance(event, quic_events.ConnectionTerminated):
            self.terminated(event)
        if self.http is not None:
            for h3_event in self.http.handle_event(event):
                self.http_event(h3_event)

    def terminated(self, event):
        reason = StreamReset(None, f"session lost: code={event.error_code:#x} {event.reason_phrase}")
        for stream in list(self.streams.values()):
            stream.feed_dead(reason)
        if not self.down.done():
            self.down.set_result((event.error_code, event.reason_phrase))
        self.on_down(event.error_code, event.reason_phrase)

    def http_event(self, event):
        if isinstance(event, HeadersReceived):
            stream = self.streams.get(event.stream_id)
            if stream is None and not self.client:
                if self.goaway_last is not None and event.stream_id > self.goaway_last:
                    return
                stream = Stream(self, event.stream_id)
                self.streams[event.stream_id] = stream
                stream.feed_headers([(bytes(k), bytes(v)) for k, v in event.headers])
                self.on_request(stream, event.stream_ended)
            elif stream is not None:
                stream.feed_headers([(bytes(k), bytes(v)) for k, v in event.headers])
        elif isinstance(event, DataReceived):
            stream = self.streams.get(event.stream_id)
            if stream is not None and event.data:
                stream.feed(event.data, 0)
        else:
            return
        if event.stream_ended and stream is not None and not stream.eof:
            how = self.last_fin.pop(event.stream_id, "data")
            if self.on_client_fin(stream, how) is not False:
                stream.feed_eof()

    def write_stream_limits(self, builder, space, stream):
        """In aioquic's place: a stream's limit follows what its owner has read."""
        quic_stream, stream = stream, self.streams.get(stream.stream_id)
        receiver = quic_stream.receiver
        if stream is not None and quic_stream.max_stream_data_local:
            limit = receiver.starting_offset() - stream.buffered + self.window
            if limit - quic_stream.max_stream_data_local >= self.window // 4:
                quic_stream.max_stream_data_local = limit
        highest, receiver.highest_offset = receiver.highest_offset, 0      # else aioquic doubles the limit
        self.write_limits(builder=builder, space=space, stream=quic_stream)
        receiver.highest_offset = highest

    # ---- what streams ask for ----
    def give_credit(self, stream, n):
        self.transmit_soon()

    def wake_writers(self):
        for stream in self.blocked:
            stream.writable.set()

    def queued(self, sid):
        quic_stream = self._quic._streams.get(sid)
        return 0 if quic_stream is None else quic_stream.sender._buffer_stop - quic_stream.sender._buffer_start

    def open(self, headers, end=False):
        sid = self._quic.get_next_available_stream_id()
        stream = Stream(self, sid)
        self.streams[sid] = stream
        self.http.send_headers(sid, headers, end_stream=end)
        stream.finished = end
        self.transmit_soon()
        return stream

    def send_headers(self, stream, headers, end):
        self.guard(stream, lambda: self.http.send_headers(stream.sid, headers, end_stream=end))
        if end and not stream.eof and not self.client:
            self.stop_reading(stream, 0)
        self.transmit_soon()

    def guard(self, stream, call):
        if stream.dead is not None:
            raise stream.dead
        if stream.stopped is not None:
            raise StreamReset(stream.stopped, "stopped")
        try:
            call()
        except Exception as error:      # aioquic raises its own kinds, asserts and RuntimeError for dead streams
            raise StreamReset(None, f"{type(error).__name__}: {error}") from error

    async def write(self, stream, data):
        view = memoryview(data)
        while view:
            chunk, view = bytes(view[:65536]), view[65536:]
            self.guard(stream, lambda: self.http.send_data(stream.sid, chunk, end_stream=False))
            self.transmit_soon()
            while self.queued(stream.sid) > WRITE_LIMIT:
                if stream.dead is not None:
                    raise stream.dead
                if stream.stopped is not None:
                    raise StreamReset(stream.stopped, "stopped")
                stream.writable.clear()
                self.blocked.add(stream)
                await stream.writable.wait()
                self.blocked.discard(stream)

    def finish(self, stream, bare=False):
        try:
            if bare:
                self._quic.send_stream_data(stream.sid, b"", end_stream=True)
            else:
                self.http.send_data(stream.sid, b"", end_stream=True)
        except Exception:
            return
        self.transmit_soon()

    def reset(self, stream, reason):
        code = H3_CODES.get(reason, reason)
        try:
            self._quic.reset_stream(stream.sid, code)
        except Exception:
            pass
        self.stop_reading(stream, code)

    def stop_reading(self, stream, reason):
        if not stream.eof:
            try:
                self._quic.stop_stream(stream.sid, H3_CODES.get(reason, reason))
            except Exception:
                pass
        self.transmit_soon()

    def forget(self, stream):
        self.streams.pop(stream.sid, None)
        self.last_fin.pop(stream.sid, None)

    def goaway(self, last_stream_id, code=0):
        """RFC 9114 section 5.2: the first request stream that will not be served."""
        self.goaway_last = last_stream_id
        frame = encode_frame(FrameType.GOAWAY, encode_uint_var(last_stream_id + 4))
        self._quic.send_stream_data(self.http._local_control_stream_id, frame)
        self.transmit_soon()

    def close(self, error_code=0x100, reason_phrase=""):
        super().close(error_code=error_code, reason_phrase=reason_phrase)
