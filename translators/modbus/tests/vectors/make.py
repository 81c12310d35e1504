#!/usr/bin/env python3
"""Writes decode.json: how values travel, encoded by Python's struct and by nothing of ours."""
import json
import pathlib
import struct

KINDS = {
    "int16": (">h", [0, 1, -1, 32767, -32768, 0x1234]),
    "uint16": (">H", [0, 1, 65535, 0x1234]),
    "int32": (">i", [0, -1, 2147483647, -2147483648, 0x12345678]),
    "uint32": (">I", [1, 4294967295, 0x12345678, 65536]),
    "int64": (">q", [-1, 9223372036854775807, -9223372036854775808, 0x0123456789ABCDEF]),
    "uint64": (">Q", [1, 18446744073709551615, 0x0123456789ABCDEF, 2**53 + 1]),
    "float32": (">f", [0.0, 1.0, -1.5, 123.456, 3.4028234663852886e38, 1e-45]),
    "float64": (">d", [0.0, -2.5, 3.141592653589793, 1.7976931348623157e308, 5e-324]),
}
ORDERS = {
    # One permutation per order and width, written out by hand.
    2: {"abcd": "AB", "cdab": "AB", "badc": "BA", "dcba": "BA"},
    4: {"abcd": "ABCD", "cdab": "CDAB", "badc": "BADC", "dcba": "DCBA"},
    8: {"abcd": "ABCDEFGH", "cdab": "GHEFCDAB", "badc": "BADCFEHG", "dcba": "HGFEDCBA"},
}

vectors = []
for kind, (form, values) in KINDS.items():
    for value in values:
        big = struct.pack(form, value)
        for order, letters in ORDERS[len(big)].items():
            wire = bytes(big["ABCDEFGH".index(letter)] for letter in letters)
            # Integers as text, so that no JSON reader rounds them; floats as the hex of their bits.
            text = big.hex() if kind.startswith("float") else str(value)
            vectors.append({"type": kind, "order": order, "wire": wire.hex(), "value": text})

out = pathlib.Path(__file__).with_name("decode.json")
out.write_text("[\n" + ",\n".join("  " + json.dumps(v) for v in vectors) + "\n]\n")
