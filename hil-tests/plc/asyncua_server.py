"""An OPC UA server by asyncua for the rig. What it holds is in `asyncua_space.py`, what it writes
down and how it breaks in `asyncua_hooks.py`.

One JSON line is printed once it serves: `{"port": N}`. Commands come over the Unix socket
`--control`, a JSON object a line, and each is answered by one:

    {"do": "interval", "ms": 100}                   how often the counters are written; 0 stops
    {"do": "tick", "count": 1}                      writes them now
    {"do": "put", "node": "a0", "value": 3, "code": "UncertainLastUsableValue"}
    {"do": "burst", "node": "a0", "values": [1, 2]} all at once, for queues to overflow
    {"do": "huge", "bytes": 100000}                 the length of `Huge`
    {"do": "silent", "on": true}                    accepts, reads, and answers nothing
    {"do": "abort"}                                 resets every connection
    {"do": "swallow", "count": 1, "forget": false}  loses notifications on their way
    {"do": "forget", "what": "sessions" | "subscriptions"}
    {"do": "room", "sessions": 9}                   how many it takes from now on
    {"do": "state"}                                 what it holds now
"""

import argparse
import asyncio
import json
import logging
import socket
import struct
import sys

from asyncua import Server, ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.permission_rules import User, UserRole
from asyncua_hooks import Faults, Log, digest, install
from asyncua_space import Space
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from pathlib import Path

POLICIES = {
    "none": ua.SecurityPolicyType.NoSecurity,
    "basic256sha256-sign": ua.SecurityPolicyType.Basic256Sha256_Sign,
    "basic256sha256": ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
    "aes128-sha256-rsaoaep-sign": ua.SecurityPolicyType.Aes128Sha256RsaOaep_Sign,
    "aes128-sha256-rsaoaep": ua.SecurityPolicyType.Aes128Sha256RsaOaep_SignAndEncrypt,
    "aes256-sha256-rsapss-sign": ua.SecurityPolicyType.Aes256Sha256RsaPss_Sign,
    "aes256-sha256-rsapss": ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
}
TOKENS = {
    "anonymous": ua.AnonymousIdentityToken,
    "password": ua.UserNameIdentityToken,
    "certificate": ua.X509IdentityToken,
}


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--control", help="the socket for commands")
    parser.add_argument("--log", required=True)
    parser.add_argument("--items", type=int, default=100, help="how many counters")
    parser.add_argument("--interval", type=int, default=100, help="milliseconds between two writes")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the number of the write before the first")
    parser.add_argument("--shift-namespaces", type=int, default=0, help="others before ours")
    parser.add_argument("--policies", default="none", help=", ".join(POLICIES))
    parser.add_argument("--tokens", default="anonymous", help=", ".join(TOKENS))
    parser.add_argument("--user", action="append", default=[], help="NAME:PASSWORD")
    parser.add_argument("--user-certs", help="a folder of certificates that are users")
    parser.add_argument("--clients", help="a folder of certificates of trusted clients; all when left out")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--uri", default="urn:tidegate:rig:server", help="the application's")
    parser.add_argument("--advertise", help="the URL that endpoints name, in place of the one dialled")
    parser.add_argument("--limit", type=int, default=0, help="operations in a request")
    parser.add_argument("--max-sessions", type=int, default=0)
    parser.add_argument("--no-subscriptions", action="store_true")
    parser.add_argument("--sessions-end-with-connections", action="store_true", help="but not their subscriptions")
    parser.add_argument("--silent-after-transfer", action="store_true")
    parser.add_argument("--min-sampling", type=float, default=0)
    parser.add_argument("--max-queue", type=int, default=0)
    return parser.parse_args()


class Users:
    """Who may come in, and as whom."""

    def __init__(self, told):
        self.passwords = dict(one.split(":", 1) for one in told.user)
        self.certificates = digests(told.user_certs) if told.user_certs else set()

    def get_user(self, _iserver, username=None, password=None, certificate=None):
        if username is not None:
            known = self.passwords.get(username) == password
        elif self.presented is not None:
            known = digest(self.presented) in self.certificates
        else:
            known = True
        return User(role=UserRole.User, name=username) if known else None

    presented = None


def digests(folder: str) -> "set[str]":
    found = set()
    for place in Path(folder).iterdir():
        data = place.read_bytes()
        if b"BEGIN CERTIFICATE" in data:
            read = x509.load_pem_x509_certificate(data)
        elif place.suffix == ".der":
            read = x509.load_der_x509_certificate(data)
        else:
            continue
        found.add(digest(read.public_bytes(serialization.Encoding.DER)))
    return found


async def serving(told, log: Log, faults: Faults) -> "tuple[Server, Space]":
    install(told, log, faults)
    server = Server()
    users = server.iserver.user_manager = Users(told)
    verify = server.iserver.verify_x509_token

    def remembered(session, token, signature):
        users.presented = verify(session, token, signature)
        return users.presented

    server.iserver.verify_x509_token = remembered
    await server.init()
    await server.set_application_uri(told.uri)
    server.set_server_name("Tidegate rig, asyncua")
    server.set_endpoint(told.advertise or f"opc.tcp://127.0.0.1:{told.port}/rig")
    if told.advertise:
        server.set_match_discovery_endpoint_url(False)
        server.set_match_discovery_client_ip(False)
    server.socket_address = ("127.0.0.1", told.port)
    server.set_security_policy([POLICIES[one] for one in told.policies.split(",")])
    server.set_identity_tokens([TOKENS[one] for one in told.tokens.split(",")])
    if told.cert:
        await server.load_certificate(told.cert, "pem")
        await server.load_private_key(told.key, format="pem")
    if told.clients:

        async def known(certificate, _description):
            shown = digest(certificate.public_bytes(serialization.Encoding.DER))
            if shown not in digests(told.clients):
                log("untrusted", certificate=shown)
                raise ServiceError(ua.StatusCodes.BadCertificateUntrusted)

        server.iserver.certificate_validator = known
    if told.limit:
        limits = server.get_node(ua.ObjectIds.Server_ServerCapabilities_OperationLimits)
        for limit in await limits.get_properties():
            await limit.write_value(ua.Variant(told.limit, ua.VariantType.UInt32))
    space = Space(server, told.items)
    await space.build(told.shift_namespaces)
    space.k = told.first
    await server.start()
    return server, space


class Commands:
    """What the rig has it do."""

    def __init__(self, server: Server, space: Space, log: Log, faults: Faults, options):
        self.server, self.space, self.log, self.faults = server, space, log, faults
        self.told, self.every = options, options.interval / 1000
        self.changed = asyncio.Event()

    async def write_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            if not self.every:
                await self.changed.wait()
            self.changed.clear()
            due = max(due + self.every, loop.time())
            try:
                await asyncio.wait_for(self.changed.wait(), due - loop.time())
            except TimeoutError:
                await self.tick()

    async def tick(self) -> None:
        at = await self.space.tick()
        self.log("tick", k=self.space.k, at=int(at.timestamp() * 1e6))

    async def obey(self, told: dict):
        do = told["do"]
        if do == "interval":
            self.every = told["ms"] / 1000
            self.changed.set()
        elif do == "tick":
            for _ in range(told.get("count", 1)):
                await self.tick()
        elif do == "put":
            await self.space.put(told["node"], told.get("value"), told.get("code"))
        elif do == "burst":
            for value in told["values"]:
                await self.space.put(told["node"], value)
        elif do == "huge":
            await self.space.put("Huge", bytes(told["bytes"]))
        elif do == "silent":
            self.faults.silent = told["on"]
        elif do == "abort":
            for client in list(self.server.bserver.clients):
                linger = struct.pack("ii", 1, 0)
                client.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                client.transport.abort()
        elif do == "swallow":
            self.faults.swallow, self.faults.forget = told["count"], told.get("forget", False)
        elif do == "forget":
            await self.forget(told["what"])
        elif do == "room":
            self.told.max_sessions = told["sessions"]
        elif do == "state":
            return self.state()
        else:
            raise ValueError(f"unknown command {do}")
        return {}

    async def forget(self, what: str) -> None:
        iserver = self.server.iserver
        if what == "sessions":
            for session in list(iserver._external_sessions.values()):
                await session.close_session(True)
        else:
            service = iserver.subscription_service
            await service.delete_subscriptions([one for one, sub in service.subscriptions.items() if sub.pub_request_callback])

    def state(self) -> dict:
        iserver = self.server.iserver
        ours = [sub for sub in iserver.subscription_service.subscriptions.values() if sub.pub_request_callback]
        return {
            "k": self.space.k,
            "connections": len(self.server.bserver.clients),
            "sessions": len(iserver._external_sessions),
            "subscriptions": len(ours),
            "items": sum(len(sub.monitored_item_srv._monitored_items) for sub in ours),
        }

    async def listen(self, path: str) -> None:
        async def talk(reader, writer):
            while line := await reader.readline():
                try:
                    answer = {"ok": True, **await self.obey(json.loads(line))}
                except Exception as error:
                    answer = {"ok": False, "why": repr(error)}
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
            writer.close()

        await asyncio.start_unix_server(talk, path)


async def main() -> None:
    told = options()
    # Its own warnings are no part of a scenario.
    logging.basicConfig(level=logging.CRITICAL)
    log, faults = Log(told.log), Faults()
    server, space = await serving(told, log, faults)
    commands = Commands(server, space, log, faults, told)
    if told.control:
        await commands.listen(told.control)
    log("serving", port=server.bserver.port, index=space.index)
    print(json.dumps({"port": server.bserver.port}), flush=True)
    await commands.write_for_ever()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
