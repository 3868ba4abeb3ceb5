"""The launcher's agents: one per host, shared by its trainers, gone with the job; jobs go on without.

The model is a server played by the test, so that this needs no llama.cpp.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rudder.plan import Plan


class Model(BaseHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        data = json.dumps({"message": {"content": str(Plan())}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Model) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}#any"
        server.shutdown()
        thread.join()


def test_one_agent_per_host_serves_its_trainers(
    launcher: Any, two_parts: str, workers: Path, tmp_path: Path, address: str
) -> None:
    code, output = launcher.run(
        *("--local", "2", "--part-config", two_parts, "--trainers", "2", "--no-feature-servers"),
        *("--controller", "agent", "--agent-model", address, "--", str(workers / "agent.py"), str(tmp_path)),
    )
    assert code == 0, output
    assert output.count("valid=1 own keeper=None") == 4
    assert "agent ended" not in output
    assert launcher.processes() == []


def test_an_agent_that_ends_is_a_warning_and_no_more(
    launcher: Any, two_parts: str, workers: Path, tmp_path: Path, address: str
) -> None:
    code, output = launcher.run(
        *("--local", "2", "--part-config", two_parts, "--no-feature-servers", "--controller", "agent"),
        *("--agent-model", address, "--", str(workers / "agent.py"), str(tmp_path), "kill"),
    )
    assert code == 0, output
    assert "[host0 agent] rudder: this agent ended by SIGKILL; the last good plan stays" in output
    assert "[host0 trainer0] without an agent: restarting" in output
    assert output.count("valid=1") == 2
    assert launcher.processes() == []
