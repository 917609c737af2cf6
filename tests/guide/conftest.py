"""A block of the guide for each test, by the number in the test's name."""

from __future__ import annotations

import gc
import multiprocessing
import re
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import platformdirs
import pytest
from guide_blocks import MODULES, Guide, make_section, read_blocks


@pytest.fixture(scope="module")
def sections() -> dict[str, ModuleType]:
    """Return the namespaces of sections, as far as they have been used."""
    return {}


@pytest.fixture
def guide(
    request: pytest.FixtureRequest,
    sections: dict[str, ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Guide]:
    """Return the block that a test is about; the test fails if it hasn't run it."""
    found = re.match(r"test_(\d+)_", request.node.name)
    assert found is not None
    block = read_blocks()[int(found[1]) - 1]
    section = sections.setdefault(block.section, make_section(block.section))
    guide = Guide(block, section, tmp_path)
    amorsize = guide.make_amorsize()
    section.__dict__.update({n: getattr(amorsize, n) for n in ("optimize", "execute")})
    monkeypatch.setitem(sys.modules, "amorsize", amorsize)
    monkeypatch.setitem(sys.modules, "__main__", section)
    monkeypatch.syspath_prepend(MODULES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        platformdirs, "user_config_dir", lambda name: str(tmp_path / "config" / name)
    )
    method = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("fork", force=True)
    yield guide
    if "pool" in vars(section):
        # It was ended by its context, and goes when its last process has.
        vars(section).pop("pool").join()
    gc.collect()
    multiprocessing.set_start_method(method, force=True)
    assert guide.n_runs >= 1, "the block was not run"


class _Server(ThreadingHTTPServer):
    """Answers many who ask at once: with a shorter queue they try again a second on."""

    request_queue_size = 128


class _Handler(BaseHTTPRequestHandler):
    """Answers with the path that was asked for, and takes note of it."""

    paths: list[str]

    def do_GET(self) -> None:
        self.paths.append(self.path)
        body = f'{{"path": "{self.path}"}}'.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Start a server, and return the paths that it is asked for."""
    paths: list[str] = []
    handler = type("Handler", (_Handler,), {"paths": paths})
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.01}
        )
        thread.start()
        host, port = server.server_address[:2]
        monkeypatch.setenv("GUIDE_SERVER", f"http://{host}:{port}")
        yield paths
        server.shutdown()
        thread.join()
