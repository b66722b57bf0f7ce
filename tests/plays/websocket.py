"""A WebSocket server (RFC 6455) with the standard library alone: echoes text, answers pings."""
import base64, hashlib, socketserver, struct, sys

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Conversation(socketserver.StreamRequestHandler):
    def handle(self):
        while line := self.rfile.readline():
            fields = {}
            while (field := self.rfile.readline().strip()):
                name, value = field.split(b":", 1)
                fields[name.strip().lower()] = value.strip()
            if b"sec-websocket-key" not in fields:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                continue
            assert fields[b"upgrade"].lower() == b"websocket", fields
            assert fields[b"connection"].lower() == b"upgrade", fields
            assert fields[b"sec-websocket-version"] == b"13", fields
            digest = hashlib.sha1(fields[b"sec-websocket-key"] + GUID).digest()
            self.wfile.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Accept: "
                + base64.b64encode(digest) + b"\r\n\r\n")
            return self.frames()

    def frames(self):
        while head := self.rfile.read(2):
            opcode, length = head[0] & 15, head[1] & 127
            if length == 126:
                length, = struct.unpack(">H", self.rfile.read(2))
            mask = self.rfile.read(4)
            body = bytes(it ^ mask[at % 4] for at, it in enumerate(self.rfile.read(length)))
            kind = {9: 10}.get(opcode, opcode)
            size = bytes([length]) if length < 126 else b"\x7e" + struct.pack(">H", length)
            self.wfile.write(bytes([0x80 | kind]) + size + body)
            if opcode == 8:
                return


socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(("127.0.0.1", int(sys.argv[1])), Conversation).serve_forever()
