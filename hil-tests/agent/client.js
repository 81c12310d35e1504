// An agent's side: the official client of the Model Context Protocol.
//
// client.js stdio PROGRAM ARGUMENT…    starts the server and talks to it over its standard streams
// client.js http URL                   talks to one that runs
//
// Reads one call per line from stdin, {"tool": NAME, "arguments": {…}}, and writes one line each:
// first what the server is and its tools, then {"is_error", "structured", "text"} for each call.
"use strict";

const { createRequire } = require("node:module");
const path = require("node:path");
const readline = require("node:readline");

const from = createRequire(path.join(process.env.TIDEGATE_AGENT, "package.json"));
const { Client } = from("@modelcontextprotocol/sdk/client/index.js");
const { StdioClientTransport } = from("@modelcontextprotocol/sdk/client/stdio.js");
const { StreamableHTTPClientTransport } = from("@modelcontextprotocol/sdk/client/streamableHttp.js");

function say(line) {
  process.stdout.write(JSON.stringify(line) + "\n");
}

async function main([how, target, ...rest]) {
  const transport =
    how === "http"
      ? new StreamableHTTPClientTransport(new URL(target))
      : new StdioClientTransport({ command: target, args: rest, env: process.env, stderr: "inherit" });
  const client = new Client({ name: "rig", version: "1" });
  await client.connect(transport);
  const { tools } = await client.listTools();
  say({ server: client.getServerVersion(), instructions: client.getInstructions(), tools });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { tool, arguments: wish } = JSON.parse(line);
    try {
      const { isError, structuredContent, content } = await client.callTool({ name: tool, arguments: wish });
      const text = content.map((part) => part.text).join("\n");
      say({ is_error: Boolean(isError), structured: structuredContent, text });
    } catch (error) {
      say({ is_error: true, refused: String(error.message) });
    }
  }
  await client.close();
}

main(process.argv.slice(2)).catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
