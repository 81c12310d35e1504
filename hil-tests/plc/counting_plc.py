"""A Modbus TCP server whose registers count, so that loss, repetition and order show in the values.

Holding registers, big-endian:
    100..103  uint64   the counter: every read that covers register 100 gets the next value
    104..105  uint32   three times the counter, modulo 2^32
    106       uint16   tenths of a second since the start, modulo 2^16
    107..108  float32  a sine over time
    1000..1123         noise, new with every read

Each value of the counter is written to the history file, with the wall-clock time, before it is
answered: one JSON object a line. The bound port is printed once, then the server serves.
"""

import argparse
import asyncio
import json
import math
import os
import struct
import time

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

FIRST = 100
REGISTERS = 9
NOISE = 1000
NOISE_REGISTERS = 124


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--next", type=int, default=1, help="the first value to be served")
    parser.add_argument("--history", required=True)
    arguments = parser.parse_args()

    history = open(arguments.history, "a", encoding="ascii", buffering=1)
    begun = time.monotonic()
    counter = arguments.next - 1

    async def count(function, start, address, length, registers, written):
        nonlocal counter
        if written is None and start <= address and address >= NOISE:
            at = address - start
            registers[at : at + length] = struct.unpack(f">{length}H", os.urandom(2 * length))
            return None
        if written is not None or not address <= FIRST < address + length:
            return None
        counter += 1
        elapsed = time.monotonic() - begun
        content = struct.pack(
            ">QIHf",
            counter,
            counter * 3 % 2**32,
            int(elapsed * 10) % 2**16,
            math.sin(elapsed),
        )
        at = FIRST - start
        registers[at : at + REGISTERS] = struct.unpack(f">{REGISTERS}H", content)
        history.write(json.dumps({"n": counter, "t": time.time_ns()}) + "\n")
        return None

    block = SimData(FIRST, values=[0] * REGISTERS, datatype=DataType.REGISTERS)
    noise = SimData(NOISE, values=[0] * NOISE_REGISTERS, datatype=DataType.REGISTERS)
    server = ModbusTcpServer(
        SimDevice(1, simdata=[block, noise], action=count), address=("127.0.0.1", arguments.port)
    )
    await server.serve_forever(background=True)
    print(server.transport.sockets[0].getsockname()[1], flush=True)
    await server.serving


asyncio.run(main())
