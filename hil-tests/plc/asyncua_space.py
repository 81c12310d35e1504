"""What the rig's OPC UA servers hold, as asyncua builds it; `node_opcua/space.js` builds the same.

Every value says what it must be, so that it is judged by its address alone: counter `cN` holds
`N + k * STRIDE` at the k-th write, and so do the counters below `Lines`. Everything else is
constant until a command changes it.
"""

import datetime
import uuid

from asyncua import ua
from asyncua.common.structures104 import new_enum, new_struct, new_struct_field
from asyncua.server.history import HistoryDict

NAMESPACE = "urn:tidegate:rig"
STRIDE = 100_000
# Counters below one object: either server takes ever longer to make one more.
BLOCK = 100
# The counters below Lines begin here: L1/Press1/Speed is the first.
FIRST_OF_LINES = 90_000
LINES, PRESSES, MEASURED = 2, 3, ["Speed", "Torque", "Temperature"]
MODES = ["Stopped", "Starting", "Running", "Failed"]
MOMENT = datetime.datetime(2026, 3, 29, 1, 30, 15, 123456, tzinfo=datetime.timezone.utc)
T = ua.VariantType

SCALARS = {
    "Boolean": (True, T.Boolean),
    "SByte": (-128, T.SByte),
    "Byte": (255, T.Byte),
    "Int16": (-32768, T.Int16),
    "UInt16": (65535, T.UInt16),
    "Int32": (-2147483648, T.Int32),
    "UInt32": (4294967295, T.UInt32),
    "Int64": (-9223372036854775808, T.Int64),
    "UInt64": (18446744073709551615, T.UInt64),
    "Float": (1.5, T.Float),
    "Double": (2.25, T.Double),
    "String": ("Grüße, 東京", T.String),
    "DateTime": (MOMENT, T.DateTime),
    "Guid": (uuid.UUID("72962b91-fa75-4ae6-8d28-b404dc7daf63"), T.Guid),
    "ByteString": (bytes([0, 1, 2, 253, 254, 255]), T.ByteString),
    "LocalizedText": (ua.LocalizedText("Läuft", "de"), T.LocalizedText),
    "QualifiedName": (ua.QualifiedName("Name", 0), T.QualifiedName),
    "NodeId": (ua.NodeId(85, 0), T.NodeId),
    "StatusCode": (ua.StatusCode(ua.StatusCodes.BadOutOfService), T.StatusCode),
    "NaN": (float("nan"), T.Double),
    "Infinity": (float("inf"), T.Double),
}
ARRAYS = {
    "BooleanArray": ([True, False, True], T.Boolean),
    "Int32Array": ([-1, 0, 1, 2147483647], T.Int32),
    "UInt64Array": ([1, 9007199254740993, 18446744073709551615], T.UInt64),
    "DoubleArray": ([1.5, float("nan"), -2.5], T.Double),
    "StringArray": (["a", "", "ü"], T.String),
    "EmptyArray": ([], T.Int32),
    "Matrix": ([[1, 2, 3], [4, 5, 6]], T.Int32),
}


class History(HistoryDict):
    """Pages of twenty values, with a continuation point after each but the last."""

    PAGE = 20

    async def read_node_history(self, node_id, start, end, nb_values):
        results, rest = await super().read_node_history(node_id, start, end, 0)
        page = min(nb_values or self.PAGE, self.PAGE)
        if len(results) > page:
            rest = results[page].SourceTimestamp
        return results[:page], rest


class Space:
    """The address space, and the writing of its counters."""

    def __init__(self, server, items: int):
        self.server, self.items, self.k = server, items, 0
        self.counters: "list[tuple[int, ua.NodeId]]" = []
        self.history, self.historized = History(), set()
        # What a bad status leaves of a value is null, without its type.
        self.kinds = {}

    def id(self, name: str) -> ua.NodeId:
        return ua.NodeId(name, self.index)

    async def object(self, parent, name: str):
        return await parent.add_object(self.id(name), ua.QualifiedName(name.split(".")[-1], self.index))

    async def variable(self, parent, name: str, value, kind=None, browse=None, datatype=None):
        browse = ua.QualifiedName(browse or name.split(".")[-1], self.index)
        return await parent.add_variable(self.id(name), browse, value, kind, datatype=datatype)

    async def build(self, shift: int) -> None:
        for number in range(shift):
            await self.server.register_namespace(f"urn:tidegate:rig:other-{number}")
        self.index = await self.server.register_namespace(NAMESPACE)
        plant = await self.object(self.server.nodes.objects, "Plant")
        await self._counters(plant)
        await self._lines(plant)
        await self._values(plant)
        await self._structures(plant)
        await self._rest(plant)

    async def _counters(self, plant) -> None:
        folder = await self.object(plant, "Counters")
        for number in range(self.items):
            if number % BLOCK == 0:
                block = await self.object(folder, f"Counters.B{number // BLOCK}")
            await self.variable(block, f"c{number}", float(number), T.Double)
            self.counters.append((number, self.id(f"c{number}")))

    async def _lines(self, plant) -> None:
        folder, number = await self.object(plant, "Lines"), FIRST_OF_LINES
        for line in range(1, LINES + 1):
            of_line = await self.object(folder, f"Lines.L{line}")
            for press in range(1, PRESSES + 1):
                path = f"Lines.L{line}.Press{press}"
                of_press = await self.object(of_line, path)
                for name in MEASURED:
                    await self.variable(of_press, f"{path}.{name}", float(number), T.Double)
                    self.counters.append((number, self.id(f"{path}.{name}")))
                    number += 1
        # A way back to the top: whoever follows it for ever never ends.
        await (await self.object(folder, "Lines.Back")).add_reference(folder, ua.ObjectIds.Organizes)
        # Two of the same name below one object: a browse path that is ambiguous.
        twins = await self.object(plant, "Twins")
        for which in ("a", "b"):
            await self.variable(twins, f"Twins.{which}", 1, T.Int32, browse="Twin")

    async def _values(self, plant) -> None:
        folder = await self.object(plant, "Values")
        for name, (value, kind) in {**SCALARS, **ARRAYS}.items():
            node = await self.variable(folder, name, value, kind)
            if isinstance(value, list):
                rank = 2 if value and isinstance(value[0], list) else 1
                await node.write_value_rank(rank)
        await self.variable(folder, "Empty", None, T.Null, datatype=ua.NodeId(ua.ObjectIds.Double))
        mode = await new_enum(self.server, self.id("ModeType"), ua.QualifiedName("Mode", self.index), MODES)
        await self.variable(folder, "Mode", 2, T.Int32, datatype=mode.nodeid)
        # No status at all is good.
        plain = await self.variable(folder, "NullStatus", 7.0, T.Double)
        await self.server.write_attribute_value(plain.nodeid, ua.DataValue(ua.Variant(7.0, T.Double), None))
        await self.variable(folder, "Huge", bytes(10), T.ByteString)

    async def _structures(self, plant) -> None:
        index, server = self.index, self.server
        field = new_struct_field

        async def struct(name, fields, **options):
            node, _ = await new_struct(server, self.id(f"{name}Type"), ua.QualifiedName(name, index), fields, **options)
            return node

        point = await struct("RigPoint", [field("X", T.Double), field("Y", T.Double)])
        nested = await struct(
            "RigRecipe",
            [
                field("Name", T.String),
                field("At", point),
                field("Steps", T.Int32, array=True),
                field("Path", point, array=True),
            ],
        )
        optional = await struct("RigOptional", [field("Must", T.Int32), field("May", T.Double, optional=True)])
        union = await struct("RigUnion", [field("Number", T.Int32), field("Text", T.String)], is_union=True)
        await server.load_data_type_definitions()
        folder = await self.object(plant, "Structures")

        def of(name, **values):
            made = getattr(ua, name)()
            for key, value in values.items():
                setattr(made, key, value)
            return made

        path = [of("RigPoint", X=1.0, Y=2.0), of("RigPoint", X=3.0, Y=4.0)]
        recipe = of("RigRecipe", Name="A", At=of("RigPoint", X=1.5, Y=-2.5), Steps=[1, 2, 3], Path=path)
        for name, value, datatype in [
            ("Point", of("RigPoint", X=1.5, Y=-2.5), point),
            ("Recipe", recipe, nested),
            ("With", of("RigOptional", Must=1, May=2.5), optional),
            ("Without", of("RigOptional", Must=1), optional),
            ("Union", of("RigUnion", Text="chosen"), union),
            ("Points", path, point),
        ]:
            await self.variable(folder, name, value, T.ExtensionObject, datatype=datatype.nodeid)

    async def _rest(self, plant) -> None:
        analog = await self.object(plant, "Analog")
        a0 = await self.variable(analog, "a0", 50.0, T.Double)
        await a0.add_property(self.id("a0.EURange"), ua.QualifiedName("EURange", 0), ua.Range(0.0, 200.0))
        unit = ua.EUInformation(
            "http://www.opcfoundation.org/UA/units/un/cefact", 4408652, ua.LocalizedText("°C"), ua.LocalizedText("degree Celsius")
        )
        await a0.add_property(self.id("a0.EngineeringUnits"), ua.QualifiedName("EngineeringUnits", 0), unit)
        folder = await self.object(plant, "History")
        self.server.iserver.history_manager.set_storage(self.history)
        for number in (80_000, 80_001):
            node = await self.variable(folder, f"h{number}", float(number), T.Double)
            self.counters.append((number, node.nodeid))
            await node.write_attribute(ua.AttributeIds.Historizing, ua.DataValue(True))
            for attribute in (ua.AttributeIds.AccessLevel, ua.AttributeIds.UserAccessLevel):
                await node.set_attr_bit(attribute, ua.AccessLevel.HistoryRead)
            await self.history.new_historized_node(node.nodeid, None, 20_000)
            self.historized.add(node.nodeid)
        # What nobody of ours may touch.
        commands = await self.object(plant, "Commands")
        setpoint = await self.variable(commands, "Setpoint", 1.0, T.Double)
        await setpoint.set_writable()
        await commands.add_method(self.id("Reset"), ua.QualifiedName("Reset", self.index), lambda _parent: [], [], [])

    async def tick(self) -> datetime.datetime:
        """The next write of every counter, all with the same source time."""
        self.k += 1
        at = datetime.datetime.now(datetime.timezone.utc)
        write, more = self.server.iserver.aspace.write_attribute_value, self.k * STRIDE
        for number, node in self.counters:
            value = ua.DataValue(ua.Variant(float(number + more), T.Double), SourceTimestamp=at, ServerTimestamp=at)
            await write(node, ua.AttributeIds.Value, value)
            if node in self.historized:
                await self.history.save_node_value(node, value)
        return at

    async def put(self, name: str, value, code: "str | None" = None) -> None:
        """A value or status that a scenario wants; what is not told stays."""
        node = self.id(name)
        before = self.server.iserver.aspace.read_attribute_value(node, ua.AttributeIds.Value)
        kind = self.kinds.setdefault(name, before.Value.VariantType)
        kept = before.Value if value is None else ua.Variant(value, kind)
        status = ua.StatusCode(getattr(ua.StatusCodes, code or "Good"))
        at = datetime.datetime.now(datetime.timezone.utc)
        written = ua.DataValue(kept, status, SourceTimestamp=at, ServerTimestamp=at)
        (await self.server.iserver.aspace.write_attribute_value(node, ua.AttributeIds.Value, written)).check()
