#!/usr/bin/env python3
"""Writes decode.json: how values travel and what tags make of them. Encoded by Python's struct and
judged by its own numbers and texts, by nothing of ours.

A vector without "value" has none. Keys that are left out have their defaults: order abcd, scale 1,
offset 0, no range, no states, quality good.
"""
import json
import pathlib
import struct

KINDS = {
    "int16": (">h", [0, -1, 32767, -32768, 0x1234]),
    "uint16": (">H", [0, 65535, 0x1234]),
    "int32": (">i", [-1, 2147483647, -2147483648, 0x12345678]),
    "uint32": (">I", [4294967295, 0x12345678, 65536]),
    "int64": (">q", [-1, 9223372036854775807, -9223372036854775808, 0x0123456789ABCDEF]),
    "uint64": (">Q", [18446744073709551615, 0x0123456789ABCDEF, 2**53 + 1]),
    "float32": (">f", [0.0, -1.5, 123.456, 3.4028234663852886e38, 1e-45]),
    "float64": (">d", [-2.5, 3.141592653589793, 1.7976931348623157e308, 5e-324]),
    # Decimal digits are packed as the hexadecimal number that looks the same.
    "bcd16": (">H", [0, 9999, 1234]),
    "bcd32": (">I", [99999999, 12345678]),
    "bcd64": (">Q", [9999999999999999, 1234567890123456]),
}
ORDERS = {
    # One permutation per order and width, written out by hand.
    2: {"abcd": "AB", "cdab": "AB", "badc": "BA", "dcba": "BA"},
    4: {"abcd": "ABCD", "cdab": "CDAB", "badc": "BADC", "dcba": "DCBA"},
    8: {"abcd": "ABCDEFGH", "cdab": "GHEFCDAB", "badc": "BADCFEHG", "dcba": "HGFEDCBA"},
}

vectors = []


def add(kind, order, wire, value, quality=None, **tag):
    vector = {"type": kind, "order": order, "wire": wire.hex(), **tag}
    # Integers as text, so that no JSON reader rounds them; floats as the hex of their bits.
    if value is not None:
        vector["value"] = value if isinstance(value, str) else str(value)
    if quality is not None:
        vector["quality"] = quality
    vectors.append(vector)


def single(number):
    return struct.pack(">f", number).hex()


def double(number):
    return struct.pack(">d", number).hex()


def travel(big, order):
    return bytes(big["ABCDEFGH".index(letter)] for letter in ORDERS[len(big)][order])


# Every type in every order.
for kind, (form, values) in KINDS.items():
    for value in values:
        big = struct.pack(form, int(str(value), 16) if kind.startswith("bcd") else value)
        for order in ORDERS[len(big)]:
            text = big.hex() if kind.startswith("float") else value
            add(kind, order, travel(big, order), text)

# Bits are counted in the register after its bytes were put in order.
for bit in (0, 7, 8, 15):
    for order in ("abcd", "cdab", "badc", "dcba"):
        for register in (1 << bit, 0xFFFF ^ (1 << bit)):
            value = "true" if register >> bit & 1 else "false"
            add("bool", order, travel(struct.pack(">H", register), order), value, bit=bit)

# A nibble above nine, first, last and in the middle.
BAD = "bad(out-of-range)"
for kind, digits in (("bcd16", 4), ("bcd32", 8), ("bcd64", 16)):
    for at in (0, digits // 2, digits - 1):
        nibbles = ["1"] * digits
        nibbles[at] = "abcdef"[at % 6]
        big = bytes.fromhex("".join(nibbles))
        for order in ORDERS[len(big)]:
            add(kind, order, travel(big, order), None, BAD)

# Texts: the bytes of the field, what they say, and whether all of them are text.
MALFORMED = "uncertain(malformed)"
TEXTS = [
    (b"PRESS-01", "PRESS-01", None),
    (b"PRESS 1  \0\0", "PRESS 1", None),
    (b"abc", "abc", None),
    (b"x", "x", None),
    (b"", "", None),
    (b"\0hidden!", "", None),
    (b"one\0two\0", "one", None),
    (b"   pad  ", "   pad", None),
    ("Größe µ≤".encode(), "Größe µ≤", None),
    ("温度計".encode() + b"\0", "温度計", None),
    ("🙂".encode(), "🙂", None),
    ("Größe".encode("latin-1"), "Gr\ufffd\ufffde", MALFORMED),
    ("µ".encode()[:1], "\ufffd", MALFORMED),
    ("tail é".encode()[:-1], "tail \ufffd", MALFORMED),
    (b"4006381333931\r\n", "4006381333931", None),
    (b"a\tb\r\nc", "a b  c", None),
    (b"\x1b[2Jx", "\ufffd[2Jx", MALFORMED),
    (b"\x02code\x03", "\ufffdcode\ufffd", MALFORMED),
    (b"a\x7fb", "a\ufffdb", MALFORMED),
    ("a\x85b".encode(), "a\ufffdb", MALFORMED),
    (b"\xff\xff\xff\xff", "\ufffd\ufffd\ufffd\ufffd", MALFORMED),
]
for field, text, quality in TEXTS:
    if not field:
        field = b"\0\0"
    # What stands behind an odd length is not of the text.
    registers = field + b"!" * (len(field) % 2)
    swapped = b"".join(registers[at + 1 : at + 2] + registers[at : at + 1] for at in range(0, len(registers), 2))
    add("text", "abcd", registers, text, quality, length=len(field))
    add("text", "badc", swapped, text, quality, length=len(field))

# Ranges on scaled numbers. Python compares integers with floats exactly.
OUT = "uncertain(out-of-range)"
INF = float("inf")


def ranged(kind, raw, low, high, clamped, scale=1, offset=0, show=str):
    """Marks, clamps and refuses `raw`; `clamped` is what clamping makes of it, None for no value."""
    form = KINDS[kind][0]
    wire = struct.pack(form, raw)
    number = raw * scale + offset if scale != 1 or offset != 0 else raw
    inside = low <= number <= high and abs(number) != INF
    key = {"min": low, "max": high}
    key = {name: limit for name, limit in key.items() if abs(limit) != INF}
    if scale != 1:
        key["scale"] = scale
    if offset != 0:
        key["offset"] = offset
    add(kind, "abcd", wire, show(number), None if inside else OUT, **key)
    value = show(number) if inside else None if clamped is None else show(clamped)
    quality = None if inside else BAD if clamped is None else OUT
    add(kind, "abcd", wire, value, quality, outside="clamp", **key)
    add(kind, "abcd", wire, show(number) if inside else None, None if inside else BAD, outside="bad", **key)


for raw, clamped in ((-11, -10), (-10, -10), (0, 0), (10, 10), (11, 10)):
    ranged("int16", raw, -10, 10, clamped)
for raw, clamped in ((-11, -10), (10, 10), (11, 10)):
    ranged("int32", raw, -10.5, 10.5, clamped)
for raw, clamped in ((4, 5), (5, 5), (2**64 - 1, 10)):
    ranged("uint64", raw, 5, 10, clamped)
# No whole number in the range; an end that the type cannot hold.
ranged("uint16", 7, 10.2, 10.8, None)
ranged("uint16", 10, 10.2, 10.8, None)
ranged("uint64", 7, 1e30, 2e30, None)
ranged("uint64", 2**64 - 1, 0, 1e30, 2**64 - 1)
# Doubles cannot tell these apart.
ranged("int64", 2**53 + 1, 0, 2**53, 2**53)
ranged("int64", -(2**63), -(2**63) + 1024, 0, -(2**63) + 1024)
# Scaled: the limit as it is, whole or not.
ranged("int16", 100, 0, 9.5, 9.5, scale=0.25, show=double)
ranged("int16", -1, 0, 9.5, 0.0, scale=0.25, offset=-4, show=double)
ranged("uint16", 20, 0, 9.5, 5.0, scale=0.25, show=double)
ranged("float64", 1.5, 2, INF, 2.0, show=double)
ranged("float64", -INF, 2, INF, 2.0, show=double)
ranged("float64", INF, 2, INF, INF, show=double)
ranged("float64", INF, -1, 1, 1.0, show=double)
ranged("float32", 7.25, 0, 7, 7.0, show=single)
ranged("float32", -INF, 0, 7, 0.0, show=single)
# A single's limit is the single nearest to it: 0.1 from the device is not above 0.1 in a file.
tenth = struct.unpack(">f", struct.pack(">f", 0.1))[0]
add("float32", "abcd", struct.pack(">f", tenth), single(tenth), max=0.1)
above = struct.unpack(">f", (int(single(tenth), 16) + 1).to_bytes(4, "big"))[0]
add("float32", "abcd", struct.pack(">f", above), single(tenth), OUT, max=0.1, outside="clamp")

# What is not a number: its bits, or nothing. No range has a say in it.
NAN = "uncertain(not-a-number)"
for kind, bits in (("float32", "7fc00001"), ("float32", "ffc12345"), ("float32", "7f800001"), ("float64", "7ff8000000000001"), ("float64", "fff0000000000001")):
    big = bytes.fromhex(bits)
    for order in ORDERS[len(big)]:
        add(kind, order, travel(big, order), bits, NAN)
    add(kind, "abcd", big, bits, NAN, nan="mark", min=0, max=1, outside="bad")
    add(kind, "abcd", big, None, "bad(not-a-number)", nan="bad", min=0, max=1, outside="clamp")
    # Scaled, any NaN will do.
    add(kind, "abcd", big, "nan", NAN, scale=2)
    add(kind, "abcd", big, None, "bad(not-a-number)", scale=2, nan="bad")
for sign in (INF, -INF):
    add("float32", "abcd", struct.pack(">f", sign), single(sign), OUT, nan="bad")
    add("float64", "abcd", struct.pack(">d", sign), double(sign), OUT)
    add("float32", "abcd", struct.pack(">f", sign), double(-sign), OUT, scale=-2)

# States name the raw integer, whatever scale and range make of it.
NAMES = "0=stopped, 1=running, 3=, -1=fault, 1234=tested"
STATES = {0: "stopped", 1: "running", 3: "", -1: "fault", 1234: "tested"}


def states(kind, raw, quality=None, wire=None, bare=False, **key):
    name = STATES.get(raw)
    if name is None:
        name, quality = str(raw), OUT
    add(kind, "abcd", wire or struct.pack(KINDS[kind][0], raw), None if bare else name, quality, states=NAMES, **key)


for kind, raw in (("int16", -1), ("int16", 0), ("int16", 2), ("uint16", 3), ("uint16", 65535), ("int32", -1), ("int32", -7), ("uint32", 1), ("int64", -1), ("int64", -(2**63)), ("uint64", 1), ("uint64", 2**64 - 1)):
    states(kind, raw)
states("bcd16", 1234, wire=b"\x12\x34")
add("bcd16", "abcd", b"\x12\x3a", None, BAD, states=NAMES)
states("int16", 1, scale=100)
states("int16", 1, OUT, scale=100, max=50)
states("int16", 1, OUT, scale=100, max=50, outside="clamp")
states("int16", 1, BAD, bare=True, scale=100, max=50, outside="bad")
states("int16", 0, scale=100, max=50, outside="bad")
states("int16", 2, scale=100, max=500)
states("bool", 1, wire=b"\x00\x08", bit=3)
states("bool", 0, wire=b"\xff\xf7", bit=3)
add("bool", "abcd", b"\x00\x08", "1", OUT, bit=3, states="0=off")
# Coils and discrete inputs: the wire is the bit.
for raw in (0, 1):
    states("coil", raw, wire=bytes([raw]))
    add("coil", "abcd", bytes([raw]), ("false", "true")[raw])
    add("coil", "abcd", bytes([raw]), ("false", "true")[raw], min=5, max=6, outside="bad", scale=7)

for vector in vectors:
    if vector["order"] == "abcd":
        del vector["order"]
lines = [json.dumps(vector, ensure_ascii=False, separators=(",", ":")) for vector in vectors]
out = pathlib.Path(__file__).with_name("decode.json")
out.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
