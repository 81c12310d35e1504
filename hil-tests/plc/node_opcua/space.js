"use strict";
// What the rig's OPC UA servers hold, as node-opcua builds it: the same as `asyncua_space.py`, which
// says what every value must be.

const { opcua } = require("./opcua.js");
const { DataType, VariantArrayType, StatusCodes, Variant } = opcua;

const NAMESPACE = "urn:tidegate:rig";
const STRIDE = 100000;
const BLOCK = 100;
const FIRST_OF_LINES = 90000;

const SCALARS = {
    Boolean: [DataType.Boolean, true],
    SByte: [DataType.SByte, -128],
    Byte: [DataType.Byte, 255],
    Int16: [DataType.Int16, -32768],
    UInt16: [DataType.UInt16, 65535],
    Int32: [DataType.Int32, -2147483648],
    UInt32: [DataType.UInt32, 4294967295],
    Int64: [DataType.Int64, [0x80000000, 0]],
    UInt64: [DataType.UInt64, [0xffffffff, 0xffffffff]],
    Float: [DataType.Float, 1.5],
    Double: [DataType.Double, 2.25],
    String: [DataType.String, "Grüße, 東京"],
    DateTime: [DataType.DateTime, new Date("2026-03-29T01:30:15.123Z")],
    Guid: [DataType.Guid, "72962B91-FA75-4AE6-8D28-B404DC7DAF63"],
    ByteString: [DataType.ByteString, Buffer.from([0, 1, 2, 253, 254, 255])],
    LocalizedText: [DataType.LocalizedText, { text: "Läuft", locale: "de" }],
    QualifiedName: [DataType.QualifiedName, { name: "Name", namespaceIndex: 0 }],
    NodeId: [DataType.NodeId, opcua.resolveNodeId("i=85")],
    StatusCode: [DataType.StatusCode, StatusCodes.BadOutOfService],
    NaN: [DataType.Double, NaN],
    Infinity: [DataType.Double, Infinity],
};
const ARRAYS = {
    BooleanArray: [DataType.Boolean, [true, false, true]],
    Int32Array: [DataType.Int32, [-1, 0, 1, 2147483647]],
    UInt64Array: [DataType.UInt64, [[0, 1], [0x200000, 1], [0xffffffff, 0xffffffff]]],
    DoubleArray: [DataType.Double, [1.5, NaN, -2.5]],
    StringArray: [DataType.String, ["a", "", "ü"]],
    EmptyArray: [DataType.Int32, []],
};

class Space {
    constructor(server, items) {
        this.addressSpace = server.engine.addressSpace;
        this.items = items;
        this.k = 0;
        this.counters = [];
        this.nodes = new Map();
        this.own = this.addressSpace.getNamespace(NAMESPACE);
        this.index = this.own.index;
    }

    object(parent, name) {
        const browseName = name.split(".").pop();
        return this.own.addObject({ componentOf: parent, browseName, nodeId: `s=${name}` });
    }

    variable(parent, name, dataType, value, more = {}) {
        const browseName = name.split(".").pop();
        const node = this.own.addVariable({
            componentOf: parent, browseName, nodeId: `s=${name}`, dataType, minimumSamplingInterval: 50, ...more,
        });
        const shape = more.shape ?? { arrayType: VariantArrayType.Scalar };
        node.setValueFromSource(new Variant({ dataType: more.variant ?? dataType, value, ...shape }));
        this.nodes.set(name, node);
        return node;
    }

    counter(parent, name, number) {
        const node = this.variable(parent, name, DataType.Double, number);
        this.counters.push([number, node]);
        return node;
    }

    build() {
        const plant = this.own.addObject({
            organizedBy: this.addressSpace.rootFolder.objects, browseName: "Plant", nodeId: "s=Plant",
        });
        const counters = this.object(plant, "Counters");
        let block;
        for (let number = 0; number < this.items; number++) {
            if (number % BLOCK === 0) block = this.object(counters, `Counters.B${number / BLOCK}`);
            this.counter(block, `c${number}`, number);
        }
        this.buildLines(plant);
        this.buildValues(plant);
        this.buildStructures(plant);
        this.buildRest(plant);
    }

    buildLines(plant) {
        const folder = this.object(plant, "Lines");
        let number = FIRST_OF_LINES;
        for (let line = 1; line <= 2; line++) {
            const ofLine = this.object(folder, `Lines.L${line}`);
            for (let press = 1; press <= 3; press++) {
                const path = `Lines.L${line}.Press${press}`;
                const ofPress = this.object(ofLine, path);
                for (const name of ["Speed", "Torque", "Temperature"]) this.counter(ofPress, `${path}.${name}`, number++);
            }
        }
        // A way back to the top: whoever follows it for ever never ends.
        this.object(folder, "Lines.Back").addReference({ referenceType: "Organizes", nodeId: folder.nodeId });
        const twins = this.object(plant, "Twins");
        for (const which of ["a", "b"]) {
            this.variable(twins, `Twins.${which}`, DataType.Int32, 1, { browseName: "Twin" });
        }
    }

    buildValues(plant) {
        const folder = this.object(plant, "Values");
        for (const [name, [dataType, value]] of Object.entries(SCALARS)) this.variable(folder, name, dataType, value);
        const arrayType = VariantArrayType.Array;
        for (const [name, [dataType, value]] of Object.entries(ARRAYS)) {
            this.variable(folder, name, dataType, value, { valueRank: 1, shape: { arrayType } });
        }
        this.variable(folder, "Matrix", DataType.Int32, new Int32Array([1, 2, 3, 4, 5, 6]), {
            valueRank: 2, arrayDimensions: [2, 3], shape: { arrayType: VariantArrayType.Matrix, dimensions: [2, 3] },
        });
        this.variable(folder, "Mode", this.own.findDataType("Mode").nodeId, 2, { variant: DataType.Int32 });
        this.variable(folder, "NullStatus", DataType.Double, 7);
        this.variable(folder, "Huge", DataType.ByteString, Buffer.alloc(10));
    }

    buildStructures(plant) {
        const folder = this.object(plant, "Structures");
        const type = (name) => this.own.findDataType(name);
        const make = (name, fields) => this.addressSpace.constructExtensionObject(type(name), fields);
        const path = [make("RigPoint", { x: 1, y: 2 }), make("RigPoint", { x: 3, y: 4 })];
        const point = make("RigPoint", { x: 1.5, y: -2.5 });
        const variant = DataType.ExtensionObject;
        for (const [name, of, value, shape] of [
            ["Point", "RigPoint", point],
            ["Recipe", "RigRecipe", make("RigRecipe", { name: "A", at: { x: 1.5, y: -2.5 }, steps: [1, 2, 3], path })],
            ["With", "RigOptional", make("RigOptional", { must: 1, may: 2.5 })],
            ["Without", "RigOptional", make("RigOptional", { must: 1 })],
            ["Union", "RigUnion", make("RigUnion", { text: "chosen" })],
            ["Points", "RigPoint", path, { arrayType: VariantArrayType.Array }],
        ]) {
            this.variable(folder, name, type(of).nodeId, value, { variant, valueRank: shape ? 1 : -1, shape });
        }
    }

    buildRest(plant) {
        const analog = this.object(plant, "Analog");
        const a0 = this.own.addAnalogDataItem({
            componentOf: analog, browseName: "a0", nodeId: "s=a0", dataType: "Double", minimumSamplingInterval: 50,
            engineeringUnitsRange: { low: 0, high: 200 }, engineeringUnits: opcua.standardUnits.degree_celsius,
        });
        a0.setValueFromSource({ dataType: DataType.Double, value: 50 });
        this.nodes.set("a0", a0);
        const folder = this.object(plant, "History");
        for (const number of [80000, 80001]) {
            const node = this.counter(folder, `h${number}`, number);
            this.addressSpace.installHistoricalDataNode(node, { maxOnlineValues: 20000 });
        }
        const commands = this.object(plant, "Commands");
        this.variable(commands, "Setpoint", DataType.Double, 1, {
            accessLevel: "CurrentRead | CurrentWrite", userAccessLevel: "CurrentRead | CurrentWrite",
        });
        const reset = this.own.addMethod(commands, { browseName: "Reset", nodeId: "s=Reset", inputArguments: [], outputArguments: [] });
        reset.bindMethod((_in, _context, callback) => callback(null, { statusCode: StatusCodes.Good, outputArguments: [] }));
    }

    /** The next write of every counter, all with the same source time. */
    tick() {
        this.k += 1;
        const at = new Date();
        const more = this.k * STRIDE;
        for (const [number, node] of this.counters) {
            node.setValueFromSource({ dataType: DataType.Double, value: number + more }, StatusCodes.Good, at);
        }
        return at;
    }

    /** A value or status that a scenario wants; what is not told stays. */
    put(name, value, code) {
        const node = this.nodes.get(name) ?? this.counters.find(([number]) => `c${number}` === name)[1];
        const before = node.readValue().value;
        const kept = value === undefined ? before : new Variant({ dataType: before.dataType, value });
        node.setValueFromSource(kept, StatusCodes[code ?? "Good"], new Date());
    }
}

module.exports = { Space, NAMESPACE };
