"""A Modbus device that breaks in every known way, and whose every register holds its own address.

So whatever value arrives under another address, shows. A coil or discrete input holds
`(address ^ address >> 3) & 1`. Nothing of Modbus is taken from a library: bytes are put together
here, right or wrong.

It speaks MBAP (`--framing tcp`) on a TCP port, and RTU (`--framing rtu`) on a TCP port or, with
`--pty LINK`, on a pseudo-terminal that LINK leads to. A unit answers requests in the order in which
they came, as a slave does; an answer that comes late goes to whatever connection is open by then,
as through a serial server.

One JSON line is printed once it serves: `{"port": N}` or `{"pty": "/dev/pts/N"}`. Commands come
one a line on the Unix socket `--control`; each is answered with a line that is `ok`, or says what
is wrong:

    fault NAME [ARGUMENT…]       every unit behaves like this from now on
    fault@UNIT NAME [ARGUMENT…]  this unit does, whatever the others do
    drop                         closes every connection
    refuse, listen               stops and starts listening on the same port
    unplug, plug                 takes the pseudo-terminal away; makes a new one under the link

Everything goes into the log `--log`, one JSON object a line: `t` (nanoseconds since 1970),
`event` (`request`, `answer`, `connect`, `close`, `broken`), the bytes in hexadecimal as `raw`, and
for requests what they ask, how many are unanswered on this connection (`outstanding`, this one
included) and how many connections are open (`connections`).
"""

import argparse
import asyncio
import itertools
import json
import os
import pty
import socket
import struct
import time
import tty


def crc(data: bytes) -> bytes:
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return struct.pack("<H", value)


def bit(address: int) -> int:
    return (address ^ address >> 3) & 1


class Request:
    """What was asked, in either framing."""

    def __init__(self, raw: bytes, head: bytes, unit: int, pdu: bytes):
        self.raw, self.head, self.unit, self.pdu = raw, head, unit, pdu
        self.function = pdu[0]
        reads = self.function in (1, 2, 3, 4) and len(pdu) == 5
        self.start, self.count = struct.unpack(">HH", pdu[1:]) if reads else (0, 0)

    def body(self, shift: int = 0) -> bytes:
        """The bytes of the right answer, or of what stands `shift` addresses further."""
        addresses = range(self.start + shift, self.start + shift + self.count)
        if self.function > 2:
            return b"".join(struct.pack(">H", address & 0xFFFF) for address in addresses)
        value = bytearray((self.count + 7) // 8)
        for at, address in enumerate(addresses):
            value[at // 8] |= bit(address) << at % 8
        return bytes(value)

    def answer(self) -> bytes:
        """The right answer's PDU."""
        if self.function == 0x2B and self.pdu[1:3] == b"\x0e\x01":
            parts = [b"Tidegate", b"fault plc", b"1.0"]
            objects = b"".join(
                bytes([at, len(part)]) + part for at, part in enumerate(parts)
            )
            return b"\x2b\x0e\x01\x01\x00\x00" + bytes([len(parts)]) + objects
        if self.function not in (1, 2, 3, 4):
            return bytes([self.function | 0x80, 1])
        most = 2000 if self.function <= 2 else 125
        if not 1 <= self.count <= most:
            return bytes([self.function | 0x80, 3])
        if self.start + self.count > 0x10000:
            return bytes([self.function | 0x80, 2])
        return with_count(self.function, self.body())


def with_count(function: int, body: bytes) -> bytes:
    return bytes([function, len(body) & 0xFF]) + body


class Mbap:
    """Modbus TCP."""

    name = "tcp"

    @staticmethod
    def take(buffer: bytearray) -> "Request | None":
        if len(buffer) < 8:
            return None
        length = int.from_bytes(buffer[4:6], "big")
        if len(buffer) < 6 + length:
            return None
        raw = bytes(buffer[: 6 + length])
        del buffer[: 6 + length]
        return Request(raw, raw[:4], raw[6], raw[7:])

    @staticmethod
    def frame(request: Request, pdu: bytes, unit: "int | None" = None) -> bytes:
        unit = request.unit if unit is None else unit
        return request.head + struct.pack(">HB", len(pdu) + 1, unit & 0xFF) + pdu


class Rtu:
    """Modbus RTU. Only what a reading client sends is understood."""

    name = "rtu"

    @staticmethod
    def take(buffer: bytearray) -> "Request | None":
        while len(buffer) >= 2:
            length = 7 if buffer[1] == 0x2B else 8
            if len(buffer) < length:
                return None
            raw = bytes(buffer[:length])
            if crc(raw[:-2]) == raw[-2:]:
                del buffer[:length]
                return Request(raw, b"", raw[0], raw[1:-2])
            del buffer[0]
        return None

    @staticmethod
    def frame(request: Request, pdu: bytes, unit: "int | None" = None) -> bytes:
        unit = request.unit if unit is None else unit
        body = bytes([unit & 0xFF]) + pdu
        return body + crc(body)


class Connection:
    """A TCP connection, or the pseudo-terminal as long as it is plugged in."""

    numbers = itertools.count(1)

    def __init__(self, device: "Device", write, close, reset):
        self.number = next(self.numbers)
        self.device, self._write, self._close, self._reset = device, write, close, reset
        self.buffer = bytearray()
        self.outstanding = 0
        self.open = True
        self.ending = False
        device.connections.append(self)
        device.note("connect", connection=self.number, connections=len(device.connections))

    def write(self, raw: bytes) -> None:
        if self.open and raw:
            self._write(raw)

    def close(self, reset: bool = False) -> None:
        if self.open:
            (self._reset if reset else self._close)()
            self.gone()

    def gone(self) -> None:
        if self.open:
            self.open = False
            self.device.connections.remove(self)
            self.device.note("close", connection=self.number)

    def received(self, data: bytes) -> None:
        self.buffer += data
        while request := self.device.framing.take(self.buffer):
            self.outstanding += 1
            self.device.requested(self, request)


class Port(asyncio.Protocol):
    """One TCP connection."""

    def __init__(self, device: "Device"):
        self.device = device
        self.connection = None

    def connection_made(self, transport) -> None:
        def reset() -> None:
            linger = struct.pack("ii", 1, 0)
            transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, linger
            )
            transport.abort()

        self.transport = transport
        self.connection = Connection(self.device, transport.write, transport.close, reset)
        if len(self.device.connections) > self.device.cap:
            self.connection.close()
            return
        name, *_ = self.device.fault_of(None)
        if name == "close-at-once":
            self.connection.close()
        elif name == "flood":
            asyncio.ensure_future(self.flood())

    async def flood(self) -> None:
        """Garbage as fast as it is taken, without being asked."""
        block = bytes((at * 37 + 11) & 0xFF for at in range(4096))
        while self.connection.open and self.device.fault_of(None)[0] == "flood":
            if self.transport.get_write_buffer_size() < 1 << 20:
                self.connection.write(block)
            await asyncio.sleep(0)

    def data_received(self, data: bytes) -> None:
        self.connection.received(data)

    def connection_lost(self, _why) -> None:
        self.connection.gone()


class Device:
    """All units behind one port, and the faults that they have."""

    def __init__(self, arguments: argparse.Namespace):
        self.framing = Rtu if arguments.framing == "rtu" else Mbap
        self.log = open(arguments.log, "a", encoding="ascii", buffering=1)
        self.units = units_of(arguments.units)
        self.cap = arguments.cap
        self.response = arguments.response_ms / 1000
        self.character = 11 / arguments.baud if arguments.baud else 0.0
        self.link = arguments.pty
        self.faults = {None: ["none"]}
        self.connections: "list[Connection]" = []
        self.previous: "dict[int, bytes]" = {}
        self.kept: "dict[int, bytes]" = {}
        self.seen = itertools.count()
        self.waiting: "dict[int, asyncio.Queue]" = {}
        self.port = 0
        self.server = None
        self.terminal = None

    def note(self, event: str, **what) -> None:
        self.log.write(json.dumps({"t": time.time_ns(), "event": event, **what}) + "\n")

    def fault_of(self, unit: "int | None") -> "list[str]":
        return self.faults.get(unit, self.faults[None])

    def requested(self, connection: Connection, request: Request) -> None:
        fault = self.fault_of(request.unit)
        self.note(
            "request",
            connection=connection.number,
            unit=request.unit,
            function=request.function,
            start=request.start,
            count=request.count,
            outstanding=connection.outstanding,
            connections=len(self.connections),
            fault=" ".join(fault),
            raw=request.raw.hex(),
        )
        if request.unit not in self.units:
            connection.outstanding -= 1
            return
        if request.unit not in self.waiting:
            self.waiting[request.unit] = asyncio.Queue()
            asyncio.ensure_future(self.answer_in_order(self.waiting[request.unit]))
        self.waiting[request.unit].put_nowait((time.monotonic(), connection, request, fault))

    async def answer_in_order(self, waiting: asyncio.Queue) -> None:
        while True:
            came, connection, request, fault = await waiting.get()
            try:
                await self.answer(came, connection, request, fault)
            except Exception as error:  # What is wrong here must not look like a silent device.
                self.note("broken", why=repr(error))
                os._exit(70)
            # A request is unanswered until its answer was sent, or never will be.
            connection.outstanding -= 1

    async def answer(self, came, connection, request, fault) -> None:
        line = self.character * len(request.raw)
        await asyncio.sleep(max(0.0, came + self.response + line - time.monotonic()))
        name, *given = fault
        act = getattr(self, "do_" + name.replace("-", "_"))
        framed = self.framing.frame(request, request.answer())
        raw = await act(connection, request, framed, came, *given)
        if raw is not None:
            if not connection.open and self.connections:
                connection = self.connections[-1]
            await self.carry(connection, raw)
        self.previous[request.unit] = framed

    async def carry(self, connection: Connection, raw: bytes) -> None:
        """Sends what the line carries, as fast as it does."""
        began, sent = time.monotonic(), 0
        if self.character:
            while sent < len(raw):
                await asyncio.sleep(max(0.01, self.character))
                arrived = int((time.monotonic() - began) / self.character)
                connection.write(raw[sent:arrived])
                sent = max(sent, arrived)
            self.note("answer", connection=connection.number, raw=raw.hex())
        else:
            self.send(connection, raw)

    def send(self, connection: Connection, raw: bytes) -> None:
        if connection.open and raw and not connection.ending:
            self.note("answer", connection=connection.number, raw=raw.hex())
            connection.write(raw)

    # What each fault makes of the right answer; None when it has sent what there is itself.

    async def do_none(self, _connection, _request, right, _came):
        return right

    async def do_silent(self, *_):
        return None

    do_flood = do_silent
    do_chatter = do_silent
    do_close_at_once = do_silent

    async def do_lie(self, _connection, request, _right, _came):
        """A whole answer with values from elsewhere: nobody can tell, but whoever knows them."""
        return self.framing.frame(request, with_count(request.function, request.body(1)))

    async def do_late(self, _connection, _request, right, came, seconds):
        """So many seconds after it was asked, on whatever connection is open by then."""
        await asyncio.sleep(max(0.0, came + float(seconds) - time.monotonic()))
        return right

    async def do_late_some(self, connection, request, right, came, seconds, each="3"):
        """Every third answer is late, the others are not."""
        late = next(self.seen) % int(each) == 0
        return await self.do_late(connection, request, right, came, seconds if late else "0")

    async def do_slow(self, connection, request, right, came, seconds):
        """Takes so long and answers in time, if the client waits."""
        await asyncio.sleep(max(0.0, came + float(seconds) - time.monotonic()))
        return right if connection.open else None

    async def do_one_behind(self, _connection, request, right, _came):
        """Always the answer to the request before."""
        kept = self.kept.get(request.unit)
        self.kept[request.unit] = right
        return kept

    async def do_previous_first(self, _connection, request, right, _came):
        return self.previous.get(request.unit, b"") + right

    async def do_twice(self, _connection, _request, right, _came):
        return right + right

    async def do_unasked(self, _connection, request, right, _came):
        """Another answer of the same shape before the right one; with MBAP, of another request."""
        other = Request(request.raw, request.head, request.unit, request.pdu)
        if request.head:
            other.head = bytes([request.head[0] ^ 0x40]) + request.head[1:]
        pdu = with_count(request.function, request.body(1))
        return self.framing.frame(other, pdu) + right

    async def do_wrong_transaction(self, _connection, _request, right, _came):
        return bytes([right[0] ^ 0x40]) + right[1:]

    async def do_wrong_protocol(self, _connection, _request, right, _came):
        return right[:3] + b"\x01" + right[4:]

    async def do_length_zero(self, _connection, _request, right, _came):
        return right[:4] + b"\x00\x00" + right[6:]

    async def do_length_two(self, _connection, _request, right, _came):
        return right[:4] + b"\x00\x02" + right[6:]

    async def do_length_huge(self, _connection, _request, right, _came):
        return right[:4] + b"\xff\xff" + right[6:]

    async def do_wrong_unit(self, _connection, request, _right, _came):
        return self.framing.frame(request, request.answer(), request.unit + 1)

    async def do_wrong_function(self, _connection, request, _right, _came):
        return self.framing.frame(request, b"\x55" + request.answer()[1:])

    async def do_other_table(self, _connection, request, _right, _came):
        other = 3 - request.function if request.function <= 2 else 7 - request.function
        return self.framing.frame(request, bytes([other]) + request.answer()[1:])

    async def do_short(self, _connection, request, _right, _came):
        return self.framing.frame(request, with_count(request.function, request.body()[:-2]))

    async def do_long(self, _connection, request, _right, _came):
        body = request.body() + b"\x00\x09"
        return self.framing.frame(request, with_count(request.function, body))

    async def do_shifted(self, _connection, request, _right, _came):
        """One register missing in front and one too many behind a wrong count."""
        body = request.body(1) + b"\x00\x09"
        return self.framing.frame(request, with_count(request.function, body))

    def with_wrong_count(self, request: Request, by: int) -> bytes:
        body = request.body()
        return self.framing.frame(request, bytes([request.function, (len(body) + by) & 0xFF]) + body)

    async def do_count_beyond(self, _connection, request, _right, _came):
        return self.with_wrong_count(request, 2)

    async def do_count_below(self, _connection, request, _right, _came):
        return self.with_wrong_count(request, -2)

    async def do_count_odd(self, _connection, request, _right, _came):
        return self.with_wrong_count(request, -1)

    async def do_empty(self, _connection, request, _right, _came):
        return self.framing.frame(request, bytes([request.function, 0]))

    async def do_oversize(self, _connection, request, _right, _came):
        body = bytes(at & 0xFF for at in range(255))
        return self.framing.frame(request, bytes([request.function, 255]) + body)

    async def do_garbage(self, _connection, _request, _right, _came):
        return bytes((at * 37 + 11) & 0xFF for at in range(255))

    async def do_byte_a_second(self, connection, request, right, _came):
        """Until the next request comes."""
        for byte in right:
            self.send(connection, bytes([byte]))
            await asyncio.sleep(1)
            if not connection.open or not self.waiting[request.unit].empty():
                break
        return None

    async def do_close_after(self, connection, _request, right, _came, count):
        self.send(connection, right[: int(count)])
        # What other units have to say comes behind a piece of a frame on no line.
        connection.ending = True
        await asyncio.sleep(0.01)
        self.hang_up(connection)

    async def do_reset(self, connection, *_):
        self.hang_up(connection, reset=True)

    def hang_up(self, connection: Connection, reset: bool = False) -> None:
        """A pseudo-terminal is unplugged for that, and plugged in again."""
        if not connection.open:
            return
        if connection is self.terminal:
            self.unplug()
            self.plug()
        else:
            connection.close(reset)

    async def do_exception(self, _connection, request, _right, _came, code):
        return self.framing.frame(request, bytes([request.function | 0x80, int(code, 0)]))

    async def do_exception_storm(self, connection, request, right, came):
        codes = (1, 2, 3, 4, 5, 6, 7, 8, 0x0A, 0x0B, 0, 0x42, 0xFF)
        code = codes[next(self.seen) % len(codes)]
        return await self.do_exception(connection, request, right, came, str(code))

    async def do_exception_of_other(self, _connection, request, _right, _came):
        return self.framing.frame(request, bytes([0x80 | request.function ^ 1, 2]))

    async def do_busy_some(self, connection, request, right, came):
        """Every second request is refused with exception 6: ask again."""
        if next(self.seen) % 2 == 0:
            return await self.do_exception(connection, request, right, came, "6")
        return right

    async def do_hole(self, connection, request, right, came, address):
        """Whatever touches this address is refused with exception 2."""
        if request.start <= int(address) < request.start + request.count:
            return await self.do_exception(connection, request, right, came, "2")
        return right

    async def do_at_most(self, connection, request, right, came, most):
        """Whatever asks for more is refused with exception 3."""
        if request.count > int(most):
            return await self.do_exception(connection, request, right, came, "3")
        return right

    async def do_echo(self, _connection, request, right, _came):
        return request.raw + right

    async def do_noise_before(self, _connection, _request, right, _came):
        return b"\x00\xff\x81\x00" + right

    async def do_noise_after(self, _connection, _request, right, _came):
        return right + b"\xff\x00\x7e"

    async def do_noise_inside(self, _connection, _request, right, _came):
        middle = len(right) // 2
        return right[:middle] + b"\xff" + right[middle:]

    async def do_flipped(self, _connection, _request, right, _came):
        """A bit of a value is wrong, the check sum that of the right value."""
        at = len(right) - 3 if self.framing is Rtu else len(right) - 1
        return right[:at] + bytes([right[at] ^ 0x10]) + right[at + 1 :]

    async def do_wrong_crc(self, _connection, _request, right, _came):
        return right[:-1] + bytes([right[-1] ^ 0xFF])

    async def do_other_unit_first(self, _connection, request, right, _came):
        """Another unit's answer to somebody else, then the right one."""
        pdu = with_count(request.function, request.body(1))
        return self.framing.frame(request, pdu, request.unit + 1) + right

    async def do_truncated(self, _connection, _request, right, _came):
        return right[: len(right) // 2]

    async def do_split(self, connection, _request, right, _came, seconds="0.02"):
        """The right answer in two pieces: no fault, as long as the client waits."""
        middle = len(right) // 2
        self.send(connection, right[:middle])
        await asyncio.sleep(float(seconds))
        return right[middle:] if connection.open else None

    # The port.

    async def listen(self) -> None:
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: Port(self), "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    def plug(self) -> str:
        master, slave = pty.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        loop = asyncio.get_running_loop()

        def close() -> None:
            loop.remove_reader(master)
            os.close(slave)
            os.close(master)

        def write(raw: bytes) -> None:
            try:
                os.write(master, raw)
            except BlockingIOError:
                # Nobody reads: what a line carries then is lost.
                pass

        connection = Connection(self, write, close, close)

        def readable() -> None:
            connection.received(os.read(master, 4096))

        loop.add_reader(master, readable)
        name = os.ttyname(slave)
        fresh = self.link + ".fresh"
        os.symlink(name, fresh)
        os.rename(fresh, self.link)
        self.terminal = connection
        return name

    def unplug(self) -> None:
        os.unlink(self.link)
        self.terminal.close()

    # Commands.

    async def chatter(self) -> None:
        """Somebody else speaks on the line all the time, as long as that is the fault."""
        while self.fault_of(None)[0] == "chatter":
            for connection in list(self.connections):
                connection.write(b"\x55")
            await asyncio.sleep(0.003)

    async def command(self, line: str) -> str:
        word, *given = line.split()
        word, _, unit = word.partition("@")
        if word == "fault":
            if not hasattr(self, "do_" + given[0].replace("-", "_")):
                return f"fault {given[0]} is not known"
            if unit:
                self.faults[int(unit)] = given
            else:
                self.faults = {None: given}
                self.kept.clear()
                if given[0] == "chatter":
                    asyncio.ensure_future(self.chatter())
        elif word == "drop":
            for connection in list(self.connections):
                connection.close()
        elif word == "refuse":
            self.server.close()
            for connection in list(self.connections):
                connection.close()
        elif word == "listen":
            await self.listen()
        elif word == "unplug":
            self.unplug()
        elif word == "plug":
            self.plug()
        else:
            return f"{word} is no command"
        return "ok"

    async def control(self, reader, writer) -> None:
        while line := await reader.readline():
            try:
                said = await self.command(line.decode())
            except Exception as error:  # Whoever asked is told, whatever it is.
                said = f"{line!r}: {error!r}"
            writer.write(said.encode() + b"\n")
        writer.close()


def units_of(text: str) -> "set[int]":
    units = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        units.update(range(int(first), int(last or first) + 1))
    return units


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--framing", choices=["tcp", "rtu"], required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--pty", help="where a link to the pseudo-terminal is made; no TCP port then")
    parser.add_argument("--control", required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--units", default="0-255", help="who is there, such as 1,3-9")
    parser.add_argument("--cap", type=int, default=1000, help="more connections are closed at once")
    parser.add_argument("--response-ms", type=float, default=0, help="how long each answer takes")
    parser.add_argument("--baud", type=int, help="how long the line takes for what it carries")
    parser.add_argument("--fault", default="none", help="from the start")
    arguments = parser.parse_args()

    device = Device(arguments)
    device.faults = {None: arguments.fault.split()}
    device.port = arguments.port
    await asyncio.start_unix_server(device.control, arguments.control)
    if arguments.pty:
        where = {"pty": device.plug()}
    else:
        await device.listen()
        where = {"port": device.port}
    print(json.dumps(where), flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
