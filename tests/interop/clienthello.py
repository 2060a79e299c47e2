"""Reads SNI and the offered ALPN names from a TLS ClientHello that is still in the socket's receive buffer."""
import asyncio
import socket

PEEK_MAX = 16384
PEEK_SECONDS = 3


def parse_client_hello(data):
    """{"sni": str|None, "alpn": [str]} of the hello at the start of data; None when more bytes are needed;
    {} when it is not a ClientHello."""
    body = b""
    while True:      # the handshake message may be split over records
        if len(data) < 5:
            return None if not body or data else {}
        if data[0] != 0x16:
            return {}
        size = int.from_bytes(data[3:5], "big")
        if len(data) < 5 + size:
            return None
        body += data[5:5 + size]
        data = data[5 + size:]
        if len(body) >= 4:
            if body[0] != 1:
                return {}
            total = 4 + int.from_bytes(body[1:4], "big")
            if len(body) >= total:
                return parse_body(body[4:total])


def parse_body(b):
    try:
        at = 34
        at += 1 + b[at]
        at += 2 + int.from_bytes(b[at:at + 2], "big")
        at += 1 + b[at]
        end = at + 2 + int.from_bytes(b[at:at + 2], "big")
        at += 2
        found = {"sni": None, "alpn": [], "size": len(b)}
        while at + 4 <= min(end, len(b)):
            kind = int.from_bytes(b[at:at + 2], "big")
            size = int.from_bytes(b[at + 2:at + 4], "big")
            value = b[at + 4:at + 4 + size]
            at += 4 + size
            if kind == 0 and len(value) > 5:
                found["sni"] = value[5:5 + int.from_bytes(value[3:5], "big")].decode("latin-1")
            elif kind == 16:
                names, value = [], value[2:]
                while value:
                    names.append(value[1:1 + value[0]].decode("latin-1"))
                    value = value[1 + value[0]:]
                found["alpn"] = names
        return found
    except IndexError:
        return {}


async def peek_client_hello(sock):
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PEEK_SECONDS
    while loop.time() < deadline:
        try:
            data = sock.recv(PEEK_MAX, socket.MSG_PEEK)
            if not data:
                raise ConnectionError("closed before a ClientHello")
            hello = parse_client_hello(data)
            if hello is not None:
                return hello
        except BlockingIOError:
            pass
        await asyncio.sleep(0.002)
    return {}
