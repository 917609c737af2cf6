"""What the guide needs of aiohttp: a session whose GET doesn't block."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any, Self
from urllib.parse import urlsplit


class ClientSession:
    """Asks the server of the tests."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def get(self, url: str) -> Response:
        """Return what will have been answered when it is entered."""
        return Response(url)


class Response:
    """What the server answers, once it has been entered."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._text = ""

    async def __aenter__(self) -> Self:
        server = urlsplit(os.environ["GUIDE_SERVER"])
        reader, writer = await asyncio.open_connection(server.hostname, server.port)
        writer.write(f"GET {self._url} HTTP/1.0\r\n\r\n".encode())
        await writer.drain()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        self._text = answer.partition(b"\r\n\r\n")[2].decode()
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def text(self) -> str:
        """Return the answer."""
        return self._text

    async def json(self) -> Any:
        """Return the answer as what its JSON stands for."""
        return json.loads(self._text)
