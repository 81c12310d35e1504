"""An OPC UA server that breaks in every way that a client can be hurt by.

Nothing is taken from a library: bytes are put together here, right or wrong. Security is None.
Without a fault it is a small honest server, whose sessions end with their connection: `--items`
variables `nsu=urn:tidegate:hostile;s=vK` below Objects, each a Double that holds `K * 1000000 + T`,
where T counts the publishing turns.

One JSON line is printed once it serves: `{"port": N}`. Commands come over the Unix socket
`--control`, a JSON object a line, and each is answered by one:

    {"do": "fault", "name": NAME, "at": STAGE, "count": N}
    {"do": "reset"}     resets every connection
    {"do": "state"}     connections so far and now, requests of each stage, broken answers

STAGE is where it breaks: `accept`, `hello`, `open`, `endpoints`, `create-session`, `activate`,
`read`, `browse`, `browse-next`, `subscribe`, `items`, `publish`, or `any`, the default. Only the next
N answers break; all when left out. NAME is one of

    none              it is honest again
    silent            nothing is answered, the connection stays
    close, reset      the connection is closed, or reset
    garbage           random bytes in place of the answer
    trickle           the answer comes a byte a second
    half              half of the answer, and nothing more
    oversize-chunk    a chunk that claims two gigabytes, and goes on and on
    endless-chunks    intermediate chunks without an end
    empty-chunks      the same, with nothing in them
    tiny-chunk        a chunk that claims to be shorter than its own header
    abort-chunk       the message is aborted
    wrong-sequence    the sequence number goes back
    wrong-request     the answer to a request that nobody made
    wrong-channel     the answer of another secure channel
    wrong-token       the answer under another security token
    wrong-answer      the answer of another service
    huge-array        an array that claims two billion elements
    negative-array    an array that claims minus two elements
    huge-string       a string that claims two gigabytes
    deep-diagnostics  thousands of diagnostic infos inside each other, in the header of the answer
    deep-variant      thousands of values inside each other
    deep-extension    thousands of extension objects inside each other, in the header of the answer
    huge-matrix       an array whose dimensions multiply to more than it holds
    few-results       one result less than was asked for
    no-results        none
    many-results      a thousand more
    absurd            every revised number is absurd: NaN, infinity, nothing, the largest
    endless           browsing goes on without an end; publishing never waits
    cycle             every node has itself as its child
    strangers         notifications for items that nobody has
    service-fault     each request fails with a status that does not exist
    tiny-buffers      the greeting offers buffers of nothing
"""

import argparse
import asyncio
import collections
import json
import os
import random
import socket
import struct
import time

NAMESPACE = "urn:tidegate:hostile"
URI = "urn:tidegate:hostile:server"
POLICY_NONE = "http://opcfoundation.org/UA/SecurityPolicy#None"
DEPTH = 20_000
MOST = 0x7FFFFFFF
GOOD, BAD_NODE, BAD_ATTRIBUTE = 0, 0x80340000, 0x80350000
BAD_SERVICE, BAD_SESSION, BAD_SUBSCRIPTION = 0x800B0000, 0x80250000, 0x80280000

# The numbers of the binary encodings: request, response, stage.
SERVICES = {
    428: (431, "endpoints"),
    446: (449, "open"),
    461: (464, "create-session"),
    467: (470, "activate"),
    473: (476, "close-session"),
    527: (530, "browse"),
    533: (536, "browse-next"),
    631: (634, "read"),
    751: (754, "items"),
    781: (784, "delete-items"),
    787: (790, "subscribe"),
    826: (829, "publish"),
    832: (835, "republish"),
    841: (844, "transfer"),
    847: (850, "delete-subscriptions"),
}


# What is wrong with the connection, whatever it carries.
TRANSPORT = {"silent", "close", "reset", "garbage", "trickle", "half"}


def u16(n): return struct.pack("<H", n)
def u32(n): return struct.pack("<I", n & 0xFFFFFFFF)
def i32(n): return struct.pack("<i", n)
def f64(x): return struct.pack("<d", x)
def text(s): return i32(-1) if s is None else i32(len(s.encode())) + s.encode()
def array(parts): return i32(len(parts)) + b"".join(parts)
def numeric(n): return b"\x01\x00" + u16(n)
def wide(n): return b"\x02\x00\x00" + u32(n)
def named(s): return b"\x03" + u16(1) + text(s)
def localized(s): return b"\x02" + text(s)
def now(): return struct.pack("<q", time.time_ns() // 100 + 116444736000000000)


NO_OBJECT = b"\x00\x00\x00"
NO_ARRAY = i32(-1)


class Reader:
    """What a client sent; a client of ours is honest."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        piece = self.data[self.at : self.at + n]
        if len(piece) != n:
            raise ValueError("the request ends too soon")
        self.at += n
        return piece

    def u8(self): return self.take(1)[0]
    def u16(self): return struct.unpack("<H", self.take(2))[0]
    def u32(self): return struct.unpack("<I", self.take(4))[0]
    def f64(self): return struct.unpack("<d", self.take(8))[0]

    def string(self):
        n = struct.unpack("<i", self.take(4))[0]
        return None if n < 0 else self.take(n)

    def array(self, one):
        n = struct.unpack("<i", self.take(4))[0]
        return [one() for _ in range(max(n, 0))]

    def node(self):
        kind = self.u8()
        match kind & 0x3F:
            case 0: id = (0, self.u8())
            case 1: id = (self.u8(), self.u16())
            case 2: id = (self.u16(), self.u32())
            case 3: id = (self.u16(), (self.string() or b"").decode())
            case 4: id = (self.u16(), self.take(16))
            case 5: id = (self.u16(), self.string())
            case _: raise ValueError(f"a node id of kind {kind}")
        if kind & 0x80:
            self.string()
        if kind & 0x40:
            self.u32()
        return id

    def object(self):
        self.node()
        if self.u8():
            self.string()

    def header(self):
        """Returns the request handle."""
        self.node()
        self.take(8)
        handle = self.u32()
        self.u32()
        self.string()
        self.u32()
        self.object()
        return handle

    def to_read(self):
        node, attribute = self.node(), self.u32()
        self.string()
        self.u16()
        self.string()
        return node, attribute


class Fault:
    def __init__(self):
        self.name, self.at, self.left, self.struck = "none", "any", None, 0

    def set(self, name, at="any", count=None):
        self.name, self.at, self.left = name, at, count

    def strikes(self, stage, names=None):
        """Whether it breaks here; counts when it does."""
        if self.name == "none" or self.at not in ("any", stage) or self.left == 0:
            return False
        if names is not None and self.name not in names:
            return False
        if self.left is not None:
            self.left -= 1
        self.struck += 1
        return True


class Server:
    def __init__(self, options):
        self.options, self.fault = options, Fault()
        self.connections, self.open = 0, set()
        self.requests, self.turn, self.ids = collections.Counter(), 0, 100

    def fresh(self):
        self.ids += 1
        return self.ids

    def value(self, node, attribute):
        """A DataValue."""
        def good(variant): return b"\x0d" + variant + now() + now()
        def bad(status): return b"\x02" + u32(status)
        space, id = node
        if space == 0:
            if attribute != 13:
                return bad(BAD_ATTRIBUTE)
            if id == 2255:
                names = array([text("http://opcfoundation.org/UA/"), text(NAMESPACE)])
                return good(b"\x8c" + names)
            if id == 2259:
                return good(b"\x06" + i32(0))
            if id == 2258:
                return good(b"\x0d" + now())
            return bad(BAD_NODE)
        index = self.index(node)
        if index is None:
            return bad(BAD_NODE)
        answers = {
            1: b"\x11" + named(id),
            2: b"\x06" + i32(2),
            3: b"\x14" + u16(1) + text(id),
            4: b"\x15" + localized(id),
            13: b"\x0b" + f64(index * 1e6 + self.turn),
            14: b"\x11" + numeric(11),
            15: b"\x06" + i32(-1),
            17: b"\x03\x01",
            18: b"\x03\x01",
        }
        return good(answers[attribute]) if attribute in answers else bad(BAD_ATTRIBUTE)

    def index(self, node):
        space, id = node
        if space == 1 and isinstance(id, str) and id[:1] == "v" and id[1:].isdigit():
            index = int(id[1:])
            return index if index < self.options.items else None
        return None

    async def connected(self, reader, writer):
        self.connections += 1
        task = asyncio.current_task()
        self.open.add(task)
        connection = Connection(self, reader, writer)
        try:
            await connection.serve()
        except (ConnectionError, asyncio.IncompleteReadError, ValueError, asyncio.CancelledError):
            pass
        finally:
            self.open.discard(task)
            connection.end()

    async def command(self, reader, writer):
        while line := await reader.readline():
            try:
                answer = self.obey(json.loads(line))
            except Exception as error:
                answer = {"error": repr(error)}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()

    def obey(self, command):
        match command["do"]:
            case "fault":
                self.fault.set(command["name"], command.get("at", "any"), command.get("count"))
            case "reset":
                for task in list(self.open):
                    task.cancel()
            case "state":
                return {
                    "ok": True,
                    "connections": self.connections,
                    "open": len(self.open),
                    "requests": dict(self.requests),
                    "broken": self.fault.struck,
                    "turn": self.turn,
                }
            case other:
                return {"error": f"no command {other!r}"}
        return {"ok": True}


class Connection:
    def __init__(self, server, reader, writer):
        self.server, self.reader, self.writer = server, reader, writer
        self.fault, self.sequence = server.fault, 0
        self.channel, self.token = server.fresh(), 1
        self.items, self.asked, self.publisher = {}, collections.deque(), None
        self.session, self.subscription, self.interval, self.notified = False, None, 0.2, 0

    def end(self):
        if self.publisher:
            self.publisher.cancel()
        # A reset: whatever is under way is of no interest any more.
        if raw := self.writer.get_extra_info("socket"):
            try:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            except OSError:
                pass
        self.writer.close()

    async def serve(self):
        if self.fault.strikes("accept", TRANSPORT):
            await self.strike(b"ACKF" + u32(28) + u32(0) + b"\0" * 16)
            # Whatever it asks now, it waits for in vain.
            while await self.reader.read(65536):
                pass
            return
        while True:
            head = await self.reader.readexactly(8)
            body = await self.reader.readexactly(struct.unpack("<I", head[4:])[0] - 8)
            match head[:3]:
                case b"HEL":
                    await self.hello()
                case b"OPN" | b"MSG":
                    await self.message(head[:3], Reader(body))
                case b"CLO":
                    return

    async def hello(self):
        self.server.requests["hello"] += 1
        buffers = (0, 0) if self.fault.strikes("hello", {"tiny-buffers"}) else (65536, 65536)
        body = u32(0) + u32(buffers[0]) + u32(buffers[1]) + u32(0) + u32(0)
        await self.say("hello", b"ACKF" + u32(8 + len(body)) + body)

    async def message(self, kind, request):
        request.u32()
        if kind == b"OPN":
            for _ in range(3):
                request.string()
        else:
            request.u32()
        request.u32()
        id = request.u32()
        _, number = request.node()
        response, stage = SERVICES.get(number, (397, "other"))
        self.server.requests[stage] += 1
        handle = request.header()
        if stage == "publish":
            self.asked.append((id, handle))
            return
        status, body = self.answer(stage, request)
        await self.respond(kind, stage, id, handle, 397 if status else response, status, body)

    async def respond(self, kind, stage, id, handle, response, status, body):
        fault, strikes = self.fault, self.fault.strikes
        diagnostics, more = b"\0", NO_OBJECT
        if strikes(stage, {"deep-diagnostics"}):
            diagnostics = b"\x40" * DEPTH + b"\0"
        elif strikes(stage, {"deep-extension"}):
            # Each holds the next one, as a body of bytes.
            for _ in range(200):
                more = numeric(811) + b"\x01" + i32(len(more)) + more
        elif strikes(stage, {"service-fault"}):
            response, status, body = 397, 0x80FF1234, b""
        elif strikes(stage, {"wrong-answer"}):
            response = 476 if response != 476 else 634
        header = now() + u32(handle) + u32(status) + diagnostics + NO_ARRAY + more
        whole = numeric(response) + header + body
        security = u32(self.channel)
        if strikes(stage, {"wrong-channel"}):
            security = u32(self.channel + 7)
        if kind == b"OPN":
            security += text(POLICY_NONE) + i32(-1) + i32(-1)
        else:
            security += u32(self.token + 9 if strikes(stage, {"wrong-token"}) else self.token)
        self.sequence += 1
        if strikes(stage, {"wrong-sequence"}):
            self.sequence = max(self.sequence - 3, 0)
        if strikes(stage, {"wrong-request"}):
            id += 1000
        rest = security + u32(self.sequence) + u32(id) + whole
        size = {"oversize-chunk": MOST, "tiny-chunk": 7}.get(fault.name, 8 + len(rest))
        if size != 8 + len(rest) and not strikes(stage, {fault.name}):
            size = 8 + len(rest)
        end = b"F"
        if strikes(stage, {"abort-chunk"}):
            end, rest = b"A", security + u32(self.sequence) + u32(id) + u32(0x80010000) + text("x")
            size = 8 + len(rest)
        elif strikes(stage, {"endless-chunks", "empty-chunks"}):
            filler = b"" if fault.name == "empty-chunks" else b"\0" * 8000
            while fault.name in ("endless-chunks", "empty-chunks"):
                rest = security + u32(self.sequence) + u32(id) + filler
                self.writer.write(kind + b"C" + u32(8 + len(rest)) + rest)
                await self.writer.drain()
                self.sequence += 1
            return
        message = kind + end + u32(size) + rest
        if size == MOST:
            self.writer.write(message)
            while fault.name == "oversize-chunk":
                self.writer.write(b"\0" * 65536)
                await self.writer.drain()
            return
        await self.say(stage, message)

    async def say(self, stage, message):
        if self.fault.strikes(stage, TRANSPORT):
            await self.strike(message)
        else:
            self.writer.write(message)
            await self.writer.drain()

    async def strike(self, message):
        match self.fault.name:
            case "silent":
                # It was never said, and what is said next follows what was said before.
                self.sequence = max(self.sequence - 1, 0)
                return
            case "close":
                self.writer.write_eof()
                raise ConnectionError
            case "reset":
                raise ConnectionError
            case "garbage":
                self.writer.write(random.randbytes(max(len(message), 64)))
            case "half":
                self.writer.write(message[: len(message) // 2])
            case "trickle":
                for at in range(len(message)):
                    self.writer.write(message[at : at + 1])
                    await self.writer.drain()
                    await asyncio.sleep(1)
        await self.writer.drain()

    def answer(self, stage, request):
        """The status and the body of an answer."""
        absurd = self.fault.strikes(stage, {"absurd"})
        match stage:
            case "open":
                lifetime = 0 if absurd else 3_600_000
                return GOOD, u32(0) + u32(self.channel) + u32(self.token) + now() + u32(lifetime) + i32(-1)
            case "endpoints":
                return GOOD, self.many(stage, [self.endpoint()])
            case "create-session":
                timeout = random.choice([float("nan"), float("inf"), -1.0, 0.0]) if absurd else 60_000.0
                self.session = True
                ids = wide(self.server.fresh()) + wide(self.server.fresh())
                nonce, signature = i32(32) + os.urandom(32), i32(-1) + i32(-1)
                endpoints = self.many(stage, [self.endpoint()])
                rest = i32(-1) + endpoints + NO_ARRAY + signature + u32(1 if absurd else 0)
                return GOOD, ids + f64(timeout) + nonce + rest
            case "activate" if not self.session:
                return BAD_SESSION, b""
            case "activate":
                return GOOD, i32(32) + os.urandom(32) + NO_ARRAY + NO_ARRAY
            case "read":
                request.f64()
                request.u32()
                values = [self.read(*one) for one in request.array(request.to_read)]
                return GOOD, self.many(stage, values) + NO_ARRAY
            case "browse":
                request.node()
                request.take(8)
                request.u32()
                request.u32()
                results = [self.browse(stage, node) for node in request.array(lambda: self.to_browse(request))]
                return GOOD, self.many(stage, results) + NO_ARRAY
            case "browse-next":
                request.u8()
                results = [self.browse(stage, (0, 85)) for _ in request.array(request.string)]
                return GOOD, self.many(stage, results) + NO_ARRAY
            case "subscribe":
                asked = request.f64()
                self.subscription, self.notified = self.server.fresh(), 0
                self.interval = min(max(asked, 50.0), 1000.0) / 1000
                if not self.publisher:
                    self.publisher = asyncio.create_task(self.publish())
                if absurd:
                    interval = random.choice([float("nan"), float("inf"), -5.0, 0.0, 1e300])
                    counts = random.choice([0, 0xFFFFFFFF])
                    return GOOD, u32(self.subscription) + f64(interval) + u32(counts) + u32(counts)
                return GOOD, u32(self.subscription) + f64(self.interval * 1000) + u32(3000) + u32(10)
            case "items":
                return GOOD, self.create_items(stage, request, absurd)
            case "delete-items" | "delete-subscriptions" | "transfer":
                if stage == "delete-items":
                    request.u32()
                ids = request.array(request.u32)
                if stage == "transfer":
                    return GOOD, array([u32(BAD_SUBSCRIPTION) + NO_ARRAY for _ in ids]) + NO_ARRAY
                for id in ids:
                    self.items.pop(id, None)
                return GOOD, array([u32(GOOD) for _ in ids]) + NO_ARRAY
            case "close-session":
                return GOOD, b""
            case _:
                return BAD_SERVICE, b""

    def many(self, stage, parts):
        """An array, as long as it says or not."""
        if self.fault.strikes(stage, {"huge-array"}):
            return i32(MOST) + b"".join(parts)
        if self.fault.strikes(stage, {"negative-array"}):
            return i32(-2)
        if self.fault.strikes(stage, {"no-results"}):
            return NO_ARRAY
        if parts and self.fault.strikes(stage, {"few-results"}):
            return array(parts[:-1])
        if parts and self.fault.strikes(stage, {"many-results"}):
            return array(parts + [parts[-1]] * 1000)
        return array(parts)

    def read(self, node, attribute):
        return self.twisted("read") or self.server.value(node, attribute)

    def twisted(self, stage):
        """A value that is dangerous to read."""
        if self.fault.strikes(stage, {"deep-variant"}):
            # A DataValue whose Variant holds a DataValue.
            return b"\x01\x17" * DEPTH + b"\0"
        if self.fault.strikes(stage, {"huge-string"}):
            return b"\x01\x0c" + i32(MOST) + b"x"
        if self.fault.strikes(stage, {"huge-array"}):
            return b"\x01\x8b" + i32(MOST) + f64(1.0)
        if self.fault.strikes(stage, {"huge-matrix"}):
            sides = array([i32(65536), i32(65536), i32(65536)])
            return b"\x01\xcb" + array([f64(1.0)]) + sides
        return None

    def endpoint(self):
        url = f"opc.tcp://127.0.0.1:{self.server.options.port}"
        if self.fault.strikes("endpoints", {"huge-string"}):
            return i32(MOST) + b"x"
        application = text(URI) + text("urn:hostile") + localized("hostile") + u32(0)
        application += i32(-1) + i32(-1) + NO_ARRAY
        token = text("anonymous") + u32(0) + i32(-1) * 3
        profile = "http://opcfoundation.org/UA-Profile/Transport/uatcp-uasc-uabinary"
        security = u32(1) + text(POLICY_NONE) + array([token])
        return text(url) + application + i32(-1) + security + text(profile) + b"\0"

    @staticmethod
    def to_browse(request):
        node = request.node()
        request.u32()
        request.node()
        request.u8()
        request.u32()
        request.u32()
        return node

    def browse(self, stage, node):
        def reference(id, name, kind):
            expanded = numeric(58 if kind == 1 else 63)
            return numeric(35) + b"\x01" + id + u16(1) + text(name) + localized(name) + u32(kind) + expanded

        if self.fault.strikes(stage, {"endless"}):
            children = [reference(named(f"x{self.server.fresh()}"), f"x{self.server.ids}", 1) for _ in range(10)]
            return u32(GOOD) + i32(4) + b"more" + array(children)
        if self.fault.strikes(stage, {"cycle"}):
            space, id = node
            itself = named(id) if isinstance(id, str) else b"\x02" + u16(space) + u32(id)
            return u32(GOOD) + i32(-1) + array([reference(itself, "itself", 1)])
        children = []
        if node == (0, 85):
            all = (f"v{index}" for index in range(self.server.options.items))
            children = [reference(named(name), name, 2) for name in all]
        return u32(GOOD) + i32(-1) + self.many(stage, children)

    def create_items(self, stage, request, absurd):
        request.u32()
        request.u32()

        def one():
            node, _ = request.to_read()
            request.u32()
            handle, sampling = request.u32(), request.f64()
            request.object()
            queue = request.u32()
            request.u8()
            if self.server.index(node) is None:
                return u32(BAD_NODE) + u32(0) + f64(0.0) + u32(0) + NO_OBJECT
            id = self.server.fresh()
            self.items[id] = handle, node
            if absurd:
                sampling = random.choice([float("nan"), float("-inf"), 1e300, -7.0])
                queue = random.choice([0, 0xFFFFFFFF])
            return u32(GOOD) + u32(id) + f64(sampling) + u32(queue) + NO_OBJECT

        return self.many(stage, request.array(one)) + NO_ARRAY

    async def publish(self):
        """A turn per publishing interval, as long as there are requests."""
        try:
            while True:
                if not self.fault.strikes("publish", {"endless"}):
                    await asyncio.sleep(self.interval)
                else:
                    await asyncio.sleep(0)
                self.server.turn += 1
                if not self.asked:
                    await asyncio.sleep(0.005)
                    continue
                id, handle = self.asked.popleft()
                self.notified += 1
                body = self.notification()
                await self.respond(b"MSG", "publish", id, handle, 829, GOOD, body)
        except ConnectionError:
            self.end()

    def notification(self):
        items = [
            u32(handle) + (self.twisted("publish") or self.server.value(node, 13))
            for handle, node in self.items.values()
        ]
        if self.fault.strikes("publish", {"strangers"}):
            value = self.server.value((1, "v0"), 13)
            items = [u32(handle) + value for handle in random.sample(range(10**6, 2**32), 50)]
        subscription = self.subscription
        if self.fault.strikes("publish", {"absurd"}):
            self.notified = random.choice([0, 0xFFFFFFFF, self.notified + 100])
            subscription = random.choice([0, subscription, subscription + 1000])
        changes = self.many("publish", items) + NO_ARRAY
        data = numeric(811) + b"\x01" + i32(len(changes)) + changes
        message = u32(self.notified) + now() + array([data])
        return u32(subscription) + array([u32(self.notified)]) + b"\0" + message + NO_ARRAY + NO_ARRAY


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--control", help="the socket for commands")
    parser.add_argument("--log", help="taken and left alone: what it was asked is in its state")
    parser.add_argument("--items", type=int, default=20, help="how many variables")
    options = parser.parse_args()
    server = Server(options)
    listener = await asyncio.start_server(server.connected, "127.0.0.1", options.port)
    options.port = listener.sockets[0].getsockname()[1]
    if options.control:
        await asyncio.start_unix_server(server.command, options.control)
    print(json.dumps({"port": options.port}), flush=True)
    await listener.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
