"""A TLS-terminating proxy: speaks TLS to whoever connects, under a certificate of its own, and TLS to
what lies behind, as nobody in particular. What a company's inspecting firewall does.

tls_terminator.py CERT KEY HOST:PORT prints the address that it listens on, and serves until it is
killed.
"""

import asyncio
import ssl
import sys


async def relay(reader, writer):
    try:
        while data := await reader.read(16384):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def main(cert, key, upstream):
    host, port = upstream.rsplit(":", 1)
    near = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    near.load_cert_chain(cert, key)
    far = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    far.check_hostname = False
    far.verify_mode = ssl.CERT_NONE

    async def serve(reader, writer):
        try:
            there, back = await asyncio.open_connection(host, int(port), ssl=far)
        except OSError:
            writer.close()
            return
        await asyncio.gather(relay(reader, back), relay(there, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=near)
    print("%s:%d" % server.sockets[0].getsockname()[:2], flush=True)
    async with server:
        await server.serve_forever()


asyncio.run(main(*sys.argv[1:4]))
