"""An HTTP/2 session over asyncio for scripted peers (client or server), on top of the PyPI package h2."""
import asyncio

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import hyperframe.frame

from streamio import H2_CODES, Stream, StreamReset

READ_LIMIT = 256 * 1024


class H2Session(asyncio.Protocol):
    """Connection credit goes back on receipt, stream credit when the stream's owner has read the bytes."""

    proto = "h2"

    def __init__(self, client, log, stream_window=131072, conn_window=8 << 20, max_streams=1000,
                 max_frame=16384, max_header_list=65536):
        self.client = client
        self.log = log
        self.stream_window = stream_window
        self.conn_window = conn_window
        self.max_streams = max_streams
        self.max_frame = max_frame
        self.max_header_list = max_header_list
        self.streams = {}
        self.transport = None
        self.can_write = asyncio.Event()
        self.can_write.set()
        self.closed = asyncio.get_running_loop().create_future()
        self.deaf = False
        self.goaway_last = None      # last stream id that we promised to serve
        self.goaway_seen = None      # (error code, last stream id) from the peer
        self.conn_credit = 0
        self.credits = {}
        config = h2.config.H2Configuration(client_side=client, header_encoding=None, validate_inbound_headers=client,
                                           validate_outbound_headers=False, normalize_outbound_headers=False)
        self.conn = h2.connection.H2Connection(config)

    # ---- hooks of the role ----
    def on_up(self):
        pass

    def on_request(self, stream, ended):
        pass

    def on_client_reset(self, stream, code):
        pass

    def on_down(self, reason):
        pass

    # ---- asyncio ----
    def connection_made(self, transport):
        self.transport = transport
        transport.set_write_buffer_limits(high=READ_LIMIT)
        codes = h2.settings.SettingCodes
        values = {
            codes.INITIAL_WINDOW_SIZE: self.stream_window,
            codes.MAX_FRAME_SIZE: self.max_frame,
            codes.MAX_HEADER_LIST_SIZE: self.max_header_list,
        }
        if self.client:
            values[codes.ENABLE_PUSH] = 0
        else:
            values[codes.MAX_CONCURRENT_STREAMS] = self.max_streams
        self.conn.local_settings = h2.settings.Settings(client=self.client, initial_values=values)
        self.conn.max_inbound_frame_size = self.max_frame
        self.conn.initiate_connection()
        if self.conn_window > 65535:
            self.conn.increment_flow_control_window(self.conn_window - 65535)
        self.flush()
        self.on_up()

    def connection_lost(self, exc):
        reason = StreamReset(None, f"session lost: {exc}" if exc else "session closed")
        for stream in list(self.streams.values()):
            stream.feed_dead(reason)
        self.can_write.set()
        if not self.closed.done():
            self.closed.set_result(str(exc) if exc else "eof")
        self.on_down(str(exc) if exc else "eof")

    def pause_writing(self):
        self.can_write.clear()

    def resume_writing(self):
        self.can_write.set()

    def data_received(self, data):
        if self.deaf:
            return
        try:
            events = self.conn.receive_data(data)
        except h2.exceptions.ProtocolError as error:
            self.log("protocol-error", proto="h2", what=f"{type(error).__name__}: {error}")
            self.flush()
            self.transport.close()
            return
        for event in events:
            self.dispatch(event)
        self.flush()

    def dispatch(self, event):
        if isinstance(event, h2.events.DataReceived):
            self.receive_credit(event.flow_controlled_length)
            stream = self.streams.get(event.stream_id)
            if stream is not None:
                stream.feed(event.data, event.flow_controlled_length)
        elif isinstance(event, h2.events.RequestReceived):
            self.new_request(event)
        elif isinstance(event, (h2.events.ResponseReceived, h2.events.TrailersReceived)):
            stream = self.streams.get(event.stream_id)
            if stream is not None:
                stream.feed_headers([(bytes(k), bytes(v)) for k, v in event.headers])
        elif isinstance(event, h2.events.StreamEnded):
            stream = self.streams.get(event.stream_id)
            if stream is not None:
                stream.feed_eof()
                self.on_client_fin(stream)
        elif isinstance(event, h2.events.StreamReset):
            stream = self.streams.get(event.stream_id)
            if stream is not None:
                code = int(event.error_code)
                self.on_client_reset(stream, code)
                stream.feed_dead(StreamReset(code))
        elif isinstance(event, h2.events.WindowUpdated):
            if event.stream_id:
                stream = self.streams.get(event.stream_id)
                if stream is not None:
                    stream.writable.set()
            else:
                self.wake_writers()
        elif isinstance(event, h2.events.RemoteSettingsChanged):
            self.wake_writers()
            self.on_settings(event)
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaway_seen = (int(event.error_code), event.last_stream_id)
            self.log("goaway-received", proto="h2", code=int(event.error_code))
        elif isinstance(event, h2.events.PingReceived):
            self.log("ping", proto="h2")

    def on_client_fin(self, stream):
        pass

    def on_settings(self, event):
        pass

    def new_request(self, event):
        if self.goaway_last is not None and event.stream_id > self.goaway_last:
            return
        stream = Stream(self, event.stream_id)
        self.streams[event.stream_id] = stream
        stream.feed_headers([(bytes(k), bytes(v)) for k, v in event.headers])
        self.on_request(stream, event.stream_ended is not None)

    def wake_writers(self):
        for stream in self.streams.values():
            stream.writable.set()

    # ---- credit ----
    def receive_credit(self, n):
        self.conn_credit += n
        if self.conn_credit * 2 >= max(self.conn_window, 65535):
            n, self.conn_credit = self.conn_credit, 0
            self.conn.increment_flow_control_window(n)

    def give_credit(self, stream, n):
        if not n or stream.eof or stream.dead or stream.was_reset:
            return
        held = self.credits.get(stream.sid, 0) + n
        if held * 2 < self.stream_window and stream.chunks:
            self.credits[stream.sid] = held
            return
        self.credits[stream.sid] = 0
        try:
            self.conn.increment_flow_control_window(held, stream_id=stream.sid)
            self.flush()
        except h2.exceptions.ProtocolError:
            pass

    # ---- what streams ask for ----
    def flush(self):
        if self.transport is None:
            return
        data = self.conn.data_to_send()
        if data and not self.deaf and not self.transport.is_closing():
            self.transport.write(data)

    def open(self, headers, end=False):
        sid = self.conn.get_next_available_stream_id()
        stream = Stream(self, sid)
        self.streams[sid] = stream
        self.conn.send_headers(sid, headers, end_stream=end)
        stream.finished = end
        self.flush()
        return stream

    def send_headers(self, stream, headers, end):
        try:
            self.conn.send_headers(stream.sid, headers, end_stream=end)
            if end and not stream.eof and not self.client:
                # A final answer while the client's side is open: tell it to stop (RFC 9113 section 8.1).
                self.conn.reset_stream(stream.sid, 0)
        except h2.exceptions.ProtocolError as error:
            raise stream.dead or StreamReset(None, str(error)) from error
        self.flush()

    async def write(self, stream, data):
        view = memoryview(data)
        while view:
            if stream.dead is not None:
                raise stream.dead
            if not self.can_write.is_set():
                await self.can_write.wait()
                continue
            try:
                n = min(self.conn.local_flow_control_window(stream.sid), self.conn.max_outbound_frame_size, len(view))
                if n > 0:
                    self.conn.send_data(stream.sid, bytes(view[:n]))
            except h2.exceptions.ProtocolError as error:
                raise stream.dead or StreamReset(None, str(error)) from error
            if n <= 0:
                stream.writable.clear()
                await stream.writable.wait()
                continue
            self.flush()
            view = view[n:]

    def finish(self, stream):
        try:
            self.conn.end_stream(stream.sid)
        except h2.exceptions.ProtocolError:
            return
        self.flush()

    def reset(self, stream, reason):
        try:
            self.conn.reset_stream(stream.sid, H2_CODES.get(reason, reason))
        except h2.exceptions.ProtocolError:
            return
        self.flush()

    def stop_reading(self, stream, reason):
        """HTTP/2 has no half-way stop: only a finished stream is reset with NO_ERROR."""
        if stream.finished and not stream.eof:
            stream.reset(reason)

    def forget(self, stream):
        self.streams.pop(stream.sid, None)
        self.credits.pop(stream.sid, None)

    def goaway(self, last_stream_id, code=0):
        """A graceful GOAWAY; written as a frame because h2's own close forbids all further sending."""
        self.goaway_last = last_stream_id
        self.flush()
        if not self.deaf:
            frame = hyperframe.frame.GoAwayFrame(0, last_stream_id=last_stream_id, error_code=code)
            self.transport.write(frame.serialize())

    def close(self):
        if self.transport is not None:
            self.transport.close()

    def abort(self):
        if self.transport is not None:
            self.transport.abort()

    def max_outbound_streams(self):
        return self.conn.remote_settings.max_concurrent_streams
