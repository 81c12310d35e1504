"use strict";
// node-opcua's client on the same items as the gateway, for `cargo xtask bench opcua`.
//
//     client.js --url URL --items N [--interval MS] [--per-subscription N] [--queue N]
//               [--warm-up S] (--seconds S | until SIGTERM or the end of its input)
//
// When every item is created it prints `{"ready": true, "items": N}`; at the end what it took after
// the warm-up: `{"items", "received", "seconds", "cpu_seconds", "cpu_ms_per_10k", "rss_bytes"}`.

const fs = require("fs");
const { parseArgs } = require("util");
const { opcua, say } = require("./opcua.js");
const { NAMESPACE } = require("./space.js");

const { values: told } = parseArgs({
    options: {
        url: { type: "string" },
        items: { type: "string" },
        interval: { type: "string", default: "100" },
        "per-subscription": { type: "string", default: "1000" },
        queue: { type: "string", default: "10" },
        seconds: { type: "string" },
        "warm-up": { type: "string", default: "0" },
    },
});

/** CPU of the whole process since it began, and its memory now. */
function cost() {
    const { user, system } = process.cpuUsage();
    const status = fs.readFileSync("/proc/self/status", "ascii");
    return { cpu: (user + system) / 1e6, rss: Number(/VmRSS:\s+(\d+)/.exec(status)[1]) * 1024 };
}

function ended() {
    return new Promise((resolve) => {
        if (told.seconds) setTimeout(resolve, Number(told.seconds) * 1000);
        process.on("SIGTERM", resolve);
        if (!told.seconds) {
            process.stdin.on("end", resolve);
            process.stdin.resume();
        }
    });
}

async function main() {
    const items = Number(told.items);
    const interval = Number(told.interval);
    const each = Number(told["per-subscription"]);
    const client = opcua.OPCUAClient.create({
        endpointMustExist: false, securityMode: opcua.MessageSecurityMode.None,
        securityPolicy: opcua.SecurityPolicy.None, requestedSessionTimeout: 60000,
    });
    await client.connect(told.url);
    const session = await client.createSession();
    const index = (await session.readNamespaceArray()).indexOf(NAMESPACE);
    let received = 0;
    for (let first = 0; first < items; first += each) {
        const subscription = await session.createSubscription2({
            requestedPublishingInterval: interval, requestedLifetimeCount: 600, requestedMaxKeepAliveCount: 20,
            maxNotificationsPerPublish: 0, publishingEnabled: true, priority: 1,
        });
        const wanted = Array.from({ length: Math.min(each, items - first) }, (_, number) => ({
            nodeId: `ns=${index};s=c${first + number}`, attributeId: opcua.AttributeIds.Value,
        }));
        const group = await subscription.monitorItems(
            wanted,
            { samplingInterval: interval, queueSize: Number(told.queue), discardOldest: true },
            opcua.TimestampsToReturn.Both,
        );
        group.on("changed", () => received++);
    }
    say({ ready: true, items });
    await new Promise((resolve) => setTimeout(resolve, Number(told["warm-up"]) * 1000));
    const before = cost();
    const begun = performance.now();
    received = 0;
    await ended();
    const after = cost();
    const seconds = (performance.now() - begun) / 1000;
    const cpu = after.cpu - before.cpu;
    say({
        items, received, seconds, cpu_seconds: cpu, cpu_ms_per_10k: received ? (cpu * 1e7) / received : null,
        rss_bytes: after.rss,
    });
    await Promise.race([client.disconnect(), new Promise((resolve) => setTimeout(resolve, 2000))]);
    process.exit(0);
}

main().catch((error) => {
    console.error(error);
    process.exit(1);
});
