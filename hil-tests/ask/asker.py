"""Asks a gateway every question with nats-py, the way its documentation says.

    asker.py URL PREFIX INBOX QUESTIONS

PREFIX is what the operation is appended to, such as `tide.PlantA.gw-line3.q`; INBOX the prefix of
inboxes, empty for the client's own. QUESTIONS is a JSON list of [name, operation, question]; a
question is an object, or a text that is sent as it is. With "credit" in it the answer is collected
part by part, each part granting the next. An operation that begins with `$SRV` is a subject of the
micro-service protocol. Prints one JSON object: name → answer, where "headers" are those of its last
message and "parts" is how many came.
"""

import asyncio
import json
import sys

import nats

PATIENCE = 20


async def whole(client, subject, payload):
    message = await client.request(subject, payload, timeout=PATIENCE)
    answer = json.loads(message.data)
    answer["headers"] = dict(message.headers or {})
    answer["parts"] = 1
    return answer


async def parted(client, prefix, subject, question):
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    await client.publish(subject, json.dumps(question).encode(), reply=inbox)
    rows, parts = [], 0
    while True:
        message = await subscription.next_msg(timeout=PATIENCE)
        part = json.loads(message.data)
        assert part["part"] == parts, f"part {part['part']} after {parts} parts"
        parts += 1
        rows += part.get("rows", [])
        if "summary" in part or "error" in part:
            await subscription.unsubscribe()
            return {**part, "rows": rows, "parts": parts, "headers": dict(message.headers or {})}
        grant = json.dumps({"id": question["id"], "parts": 1}).encode()
        await client.publish(f"{prefix}.credit", grant)


async def main(url, prefix, inbox, questions):
    options = {"inbox_prefix": inbox.encode()} if inbox else {}
    client = await nats.connect(url, allow_reconnect=False, **options)
    answers = {}
    for name, operation, question in json.loads(questions):
        subject = operation if operation.startswith("$SRV") else f"{prefix}.{operation}"
        if isinstance(question, dict) and "credit" in question:
            answers[name] = await parted(client, prefix, subject, question)
        else:
            payload = question if isinstance(question, str) else json.dumps(question)
            answers[name] = await whole(client, subject, payload.encode())
    await client.close()
    print(json.dumps(answers))


asyncio.run(main(*sys.argv[1:]))
