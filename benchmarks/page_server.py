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


class Page(asyncio.Protocol):
    """Answers one request with the page, after the delay.

    A protocol and no stream, which would take three times as much of the cores that
    the work which is measured needs.
    """

    def __init__(self, answer: bytes, delay_s: float) -> None:
        self._answer = answer
        self._delay_s = delay_s
        self._request = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take note of the way back."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer once the request is complete."""
        self._request += data
        if self._request.endswith(b"\r\n\r\n"):
            asyncio.get_running_loop().call_later(self._delay_s, self._reply)

    def _reply(self) -> None:
        self._transport.write(self._answer)
        self._transport.close()


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
    server = await asyncio.get_running_loop().create_server(
        lambda: Page(head + body, delay_s), "127.0.0.1", backlog=BACKLOG
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1])))
