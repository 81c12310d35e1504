"use strict";
// node-opcua, wherever `cargo xtask setup` put it.
const path = require("path");

const place = process.env.TIDEGATE_NODE_OPCUA;
if (!place) {
    console.error("TIDEGATE_NODE_OPCUA names no directory; run: cargo xtask setup");
    process.exit(2);
}
// What it says of itself is no answer of ours.
console.log = console.error;
const from = require("module").createRequire(path.join(path.resolve(place), "x.js"));
/** One line of JSON to whoever started this. */
function say(what) {
    process.stdout.write(JSON.stringify(what) + "\n");
}

module.exports = { opcua: from("node-opcua"), say };
