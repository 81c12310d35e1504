"use strict";
// An OPC UA server by node-opcua for the rig. What it holds is in `space.js`.
//
// One JSON line is printed once it serves: `{"port": N}`. Options and commands are those of
// `asyncua_server.py`, less what only that one can do.

const fs = require("fs");
const net = require("net");
const os = require("os");
const path = require("path");
const { parseArgs } = require("util");
const { opcua, say } = require("./opcua.js");
const { Space } = require("./space.js");

const { values: told } = parseArgs({
    options: {
        port: { type: "string", default: "0" },
        control: { type: "string" },
        log: { type: "string" },
        items: { type: "string", default: "100" },
        interval: { type: "string", default: "100" },
        from: { type: "string", default: "0" },
        "shift-namespaces": { type: "string", default: "0" },
        policies: { type: "string", default: "none" },
        tokens: { type: "string", default: "anonymous" },
        user: { type: "string", multiple: true, default: [] },
        "user-certs": { type: "string" },
        clients: { type: "string" },
        cert: { type: "string" },
        key: { type: "string" },
        uri: { type: "string", default: "urn:tidegate:rig:server" },
        advertise: { type: "string" },
        limit: { type: "string", default: "0" },
        "max-sessions": { type: "string", default: "100" },
    },
});

const POLICIES = {
    "none": ["None", "None"],
    "basic256sha256-sign": ["Basic256Sha256", "Sign"],
    "basic256sha256": ["Basic256Sha256", "SignAndEncrypt"],
    "aes128-sha256-rsaoaep-sign": ["Aes128_Sha256_RsaOaep", "Sign"],
    "aes128-sha256-rsaoaep": ["Aes128_Sha256_RsaOaep", "SignAndEncrypt"],
    "aes256-sha256-rsapss-sign": ["Aes256_Sha256_RsaPss", "Sign"],
    "aes256-sha256-rsapss": ["Aes256_Sha256_RsaPss", "SignAndEncrypt"],
};

const file = fs.openSync(told.log ?? "/dev/null", "a");
function log(event, what = {}) {
    const t = Date.now() * 1e6;
    fs.writeSync(file, JSON.stringify({ t, event, ...what }) + "\n");
}

/** A folder of certificates as node-opcua keeps them, that trusts these and nobody else. */
async function trusting(folder, trusted, everybody) {
    const manager = new opcua.OPCUACertificateManager({
        rootFolder: folder, automaticallyAcceptUnknownCertificate: everybody, disableFileWatchers: true,
    });
    await manager.initialize();
    for (const name of trusted ? fs.readdirSync(trusted) : []) {
        if (!/\.(pem|der)$/.test(name)) continue;
        const data = fs.readFileSync(path.join(trusted, name));
        if (name.endsWith(".pem") && !data.includes("BEGIN CERTIFICATE")) continue;
        const der = /-----BEGIN CERTIFICATE-----([^-]*)/.exec(data)?.[1];
        await manager.trustCertificate(der ? Buffer.from(der, "base64") : data);
    }
    return manager;
}

/** Namespaces that come before ours. */
function others(count, folder) {
    return Array.from({ length: count }, (_, number) => {
        const uri = `urn:tidegate:rig:other-${number}`;
        const place = path.join(folder, `other-${number}.xml`);
        fs.writeFileSync(place, `<?xml version="1.0" encoding="utf-8"?>
<UANodeSet xmlns="http://opcfoundation.org/UA/2011/03/UANodeSet.xsd"><NamespaceUris><Uri>${uri}</Uri></NamespaceUris>
<Models><Model ModelUri="${uri}" Version="1.0.0" PublicationDate="2026-11-01T00:00:00Z"/></Models></UANodeSet>`);
        return place;
    });
}

function watch(server) {
    const activations = new Map();
    server.on("newChannel", (channel) => log("connect", { peer: `${channel.remoteAddress}:${channel.remotePort}` }));
    server.on("closeChannel", () => log("disconnect"));
    server.on("openSecureChannelFailure", () => log("untrusted"));
    server.on("create_session", (session) => log("session", {
        id: session.nodeId.toString(), name: session.sessionName, uri: session.clientDescription?.applicationUri,
        timeout: session.sessionTimeout,
    }));
    server.on("session_closed", (session) => log("close", { id: session.nodeId.toString() }));
    server.on("request", (request) => {
        const name = request.schema.name.replace(/Request$/, "");
        if (name === "Write") log("write", { nodes: request.nodesToWrite.map((one) => one.nodeId.toString()) });
        else if (name === "Call") log("call", { methods: request.methodsToCall.map((one) => one.methodId.toString()) });
        else if (name !== "Publish") log("service", { name });
        if (name === "Read") log("read", { nodes: request.nodesToRead.length, max_age: request.maxAge });
        if (name === "CreateMonitoredItems") {
            const asked = request.itemsToCreate.map((one) => one.requestedParameters);
            log("items", {
                subscription: request.subscriptionId, count: asked.length,
                sampling: [...new Set(asked.map((one) => one.samplingInterval))],
                queue: [...new Set(asked.map((one) => one.queueSize))],
                discard_oldest: [...new Set(asked.map((one) => one.discardOldest))],
            });
        }
        if (name === "CreateSubscription") log("subscription", {
            interval: request.requestedPublishingInterval, keep_alive: request.requestedMaxKeepAliveCount,
            lifetime: request.requestedLifetimeCount,
        });
        if (name === "TransferSubscriptions") log("transfer", { ids: Array.from(request.subscriptionIds) });
        if (name === "ActivateSession") {
            const token = request.userIdentityToken;
            const who = { user: token?.userName ?? null, token: token?.schema?.name ?? "AnonymousIdentityToken" };
            activations.set(request.requestHeader.requestHandle, who);
        }
    });
    server.on("response", (response) => {
        const who = activations.get(response.responseHeader.requestHandle);
        const result = response.responseHeader.serviceResult;
        if (who && (response.schema.name === "ActivateSessionResponse" || response.schema.name === "ServiceFault")) {
            activations.delete(response.responseHeader.requestHandle);
            log("activate", { ok: result.isGood(), why: result.name, ...who });
        } else if (result.name === "BadTooManyOperations") {
            log("too-many", {});
        }
    });
}

class Commands {
    constructor(server, space) {
        Object.assign(this, { server, space, timer: null });
    }

    every(ms) {
        clearInterval(this.timer);
        this.timer = ms ? setInterval(() => this.tick(), ms) : null;
    }

    tick() {
        const at = this.space.tick();
        log("tick", { k: this.space.k, at: at.getTime() * 1000 });
    }

    obey(told) {
        switch (told.do) {
            case "interval": return this.every(told.ms);
            case "tick":
                for (let n = 0; n < (told.count ?? 1); n++) this.tick();
                return undefined;
            case "put": return this.space.put(told.node, told.value, told.code);
            case "burst": return told.values.forEach((value) => this.space.put(told.node, value));
            case "huge": return this.space.put("Huge", Buffer.alloc(told.bytes));
            case "abort":
                for (const endpoint of this.server.endpoints) {
                    for (const channel of endpoint.getChannels()) channel.transport._socket.resetAndDestroy();
                }
                return undefined;
            case "state": return {
                k: this.space.k,
                sessions: this.server.currentSessionCount,
                subscriptions: this.server.currentSubscriptionCount,
                connections: this.server.currentChannelCount,
            };
            default: throw new Error(`unknown command ${told.do}`);
        }
    }

    listen(place) {
        net.createServer((socket) => {
            let rest = "";
            socket.on("data", (data) => {
                const lines = (rest + data).split("\n");
                rest = lines.pop();
                for (const line of lines) {
                    let answer;
                    try {
                        answer = { ok: true, ...this.obey(JSON.parse(line)) };
                    } catch (error) {
                        answer = { ok: false, why: String(error) };
                    }
                    socket.write(JSON.stringify(answer) + "\n");
                }
            });
            socket.on("error", () => {});
        }).listen(place);
    }
}

async function main() {
    const scratch = fs.mkdtempSync(path.join(os.tmpdir(), "tidegate-node-opcua-"));
    process.on("exit", () => fs.rmSync(scratch, { recursive: true, force: true }));
    const chosen = told.policies.split(",").map((name) => POLICIES[name]);
    const limit = Number(told.limit);
    const limits = ["maxNodesPerRead", "maxNodesPerBrowse", "maxMonitoredItemsPerCall", "maxNodesPerHistoryReadData",
        "maxNodesPerTranslateBrowsePathsToNodeIds", "maxNodesPerRegisterNodes"];
    const users = new Map(told.user.map((one) => one.split(/:(.*)/s)));
    const server = new opcua.OPCUAServer({
        port: Number(told.port),
        host: "127.0.0.1",
        hostname: "127.0.0.1",
        resourcePath: "/rig",
        serverInfo: { applicationUri: told.uri },
        buildInfo: { productName: "Tidegate rig, node-opcua" },
        nodeset_filename: [
            opcua.nodesets.standard, ...others(Number(told["shift-namespaces"]), scratch), path.join(__dirname, "types.xml"),
        ],
        securityPolicies: [...new Set(chosen.map(([policy]) => opcua.SecurityPolicy[policy]))],
        securityModes: [...new Set(chosen.map(([, mode]) => opcua.MessageSecurityMode[mode]))],
        allowAnonymous: told.tokens.split(",").includes("anonymous"),
        userManager: { isValidUser: (name, password) => users.get(name) === password },
        certificateFile: told.cert,
        privateKeyFile: told.key,
        advertisedEndpoints: told.advertise ? [told.advertise] : undefined,
        serverCertificateManager: await trusting(path.join(scratch, "pki"), told.clients, !told.clients),
        userCertificateManager: await trusting(path.join(scratch, "users"), told["user-certs"], false),
        serverCapabilities: {
            maxSessions: Number(told["max-sessions"]),
            operationLimits: limit ? Object.fromEntries(limits.map((name) => [name, limit])) : {},
            maxMonitoredItems: 100000,
            maxMonitoredItemsPerSubscription: 50000,
        },
        maxConnectionsPerEndpoint: 1000,
    });
    await server.initialize();
    const space = new Space(server, Number(told.items));
    space.build();
    space.k = Number(told.from);
    watch(server);
    const commands = new Commands(server, space);
    if (told.control) commands.listen(told.control);
    await server.start();
    const port = server.endpoints[0].port;
    log("serving", { port, index: space.index });
    say({ port });
    commands.every(Number(told.interval));
}

main().catch((error) => {
    console.error(error);
    process.exit(1);
});
