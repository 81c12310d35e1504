"""A pymodbus server over every transport, whose every register holds its own address.

A coil or discrete input holds `(address ^ address >> 3) & 1`. Addresses end at 9999; reading
9000 + CODE gives that exception. One JSON line is printed once it serves: `{"port": N}`, or
`{"pty": PORT}`. Connections and requests are logged to `--log`, one JSON object a line.
"""

import argparse
import asyncio
import json
import ssl
import time

from pymodbus.constants import ExcCodes
from pymodbus.exceptions import NoSuchIdException
from pymodbus.framer import FramerType
from pymodbus.pdu.device import ModbusDeviceIdentification
from pymodbus.server import ModbusSerialServer, ModbusTcpServer, ModbusTlsServer
from pymodbus.simulator import DataType, SimData, SimDevice

REFUSED = 9000
END = 10000


async def refuse(_function, _start, address, length, _registers, _written):
    for code in ExcCodes:
        if address <= REFUSED + code < address + length:
            return code
    return None


def bit(address: int) -> bool:
    return (address ^ address >> 3) & 1 == 1


def tables(holes: "list[tuple[int, int]]"):
    """Coils, discrete inputs, holding and input registers; holes are in the registers only."""
    bits = [bit(address) for address in range(END)]
    registers, first = [], 0
    for hole, after in sorted(holes) + [(END, END)]:
        values = list(range(first, hole))
        registers.append((first, values))
        first = after
    def both():
        return [SimData(first, values=v, datatype=DataType.REGISTERS) for first, v in registers]
    def flags():
        return [SimData(0, values=bits, datatype=DataType.BITS)]
    return flags(), flags(), both(), both()


def secured(arguments: argparse.Namespace) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(arguments.cert, arguments.key)
    if arguments.tls_1_2:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    if arguments.clients_ca:
        context.load_verify_locations(arguments.clients_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--transport", choices=["tcp", "rtu", "rtu-over-tcp", "tls"], required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--serial", help="the port for RTU")
    parser.add_argument("--units", default="1")
    parser.add_argument("--hole", action="append", default=[], help="FIRST-LAST, not there")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--clients-ca", help="clients must show a certificate that this one signed")
    parser.add_argument("--tls-1-2", action="store_true")
    parser.add_argument("--log", required=True)
    arguments = parser.parse_args()

    log = open(arguments.log, "a", encoding="ascii", buffering=1)
    connections = outstanding = 0

    def note(event, **what):
        log.write(json.dumps({"t": time.time_ns(), "event": event, **what}) + "\n")

    def connected(up):
        nonlocal connections
        connections += 1 if up else -1
        note("connect" if up else "close", connections=connections)

    def passed(sending, pdu):
        nonlocal outstanding
        if sending:
            outstanding -= 1
            return pdu
        outstanding += 1
        note(
            "request",
            unit=pdu.dev_id,
            function=pdu.function_code,
            start=getattr(pdu, "address", 0),
            count=getattr(pdu, "count", 0),
            outstanding=outstanding,
            connections=connections,
        )
        return pdu

    holes = [tuple(map(int, hole.split("-"))) for hole in arguments.hole]
    holes = [(first, last + 1) for first, last in holes]
    identity = ModbusDeviceIdentification(
        info_name={
            "VendorName": "Tidegate",
            "ProductCode": "pymodbus plc",
            "MajorMinorRevision": "1.0",
        }
    )
    units = [int(unit) for unit in arguments.units.split(",")]
    devices = [
        SimDevice(unit, simdata=tables(holes), action=refuse, identity=identity) for unit in units
    ]
    given = {
        "identity": identity,
        "ignore_missing_devices": True,
        "trace_connect": connected,
        "trace_pdu": passed,
    }
    address = ("127.0.0.1", arguments.port)
    if arguments.transport == "rtu":
        server = ModbusSerialServer(devices, port=arguments.serial, baudrate=19200, **given)
    elif arguments.transport == "tls":
        server = ModbusTlsServer(devices, address=address, sslctx=secured(arguments), **given)
    else:
        framer = FramerType.SOCKET if arguments.transport == "tcp" else FramerType.RTU
        server = ModbusTcpServer(devices, address=address, framer=framer, **given)
    # Its simulator takes a unit that is not there for a failure of the device; a line is silent then.
    read = server.context.async_getValues

    async def read_of_those_here(unit, *rest):
        if unit not in units:
            raise NoSuchIdException()
        return await read(unit, *rest)

    server.context.async_getValues = read_of_those_here
    await server.serve_forever(background=True)
    if arguments.transport == "rtu":
        where = {"pty": arguments.serial}
    else:
        where = {"port": server.transport.sockets[0].getsockname()[1]}
    print(json.dumps(where), flush=True)
    await server.serving


asyncio.run(main())
