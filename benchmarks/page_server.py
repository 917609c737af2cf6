"""A web server that takes its time: prints its port, and serves until it is ended.

It runs in a process of its own, so that it shares no GIL with who asks.
"""

from __future__ import annotations

import asyncio
import json
import sys

#: Connections that may wait to be accepted. Smaller: some of many that ask at once are
#: refused, and ask again a second later.
BACKLOG = 1_024

N_RECORDS = 400


async def main(delay_s: float) -> None:
    """Serve pages, each after a delay."""
    records = [
        {"id": i, "name": f"record {i}", "values": list(range(i, i + 10))}
        for i in range(N_RECORDS)
    ]
    body = json.dumps(records).encode()
    head = (
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(delay_s)
        writer.write(head + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", backlog=BACKLOG)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1])))
