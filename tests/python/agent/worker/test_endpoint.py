"""A model behind an address, played by a small HTTP server that answers well, rambles, lies or hangs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from rudder.agent.llm import AgentController
from rudder.agent.space import Space
from rudder.agent.worker.decider import UnavailableError, probe
from rudder.agent.worker.endpoint import ENV_KEY, EndpointDecider, allowed_text, read_plan
from rudder.agent.worker.settings import WorkerSettings, absolute_model
from rudder.errors import AgentError, ConfigError
from rudder.plan import Plan

SAME = str(Plan())
ASK = probe(1, 5000.0)


class Server(ThreadingHTTPServer):
    """Answers every question with `text` (or a fault), and keeps what it was asked."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.text: Any = SAME
        self.fault = ""
        self.seen: list[tuple[str, Any, str | None]] = []
        self.over = threading.Event()
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/elsewhere":
            self.server.seen.append((self.path, None, self.headers["Authorization"]))
            self.send_error(404)
            return
        listed = {"/api/tags": {"models": [{"name": "tiny"}]}, "/v1/models": {"data": [{"id": "small"}]}}
        self._send(json.dumps(listed[self.path]).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        server.seen.append((self.path, body, self.headers["Authorization"]))
        message = {"message": {"role": "assistant", "content": server.text}}
        if server.fault == "hang":
            server.over.wait()
        elif server.fault == "drip":
            self.send_response(200)
            self.end_headers()
            while not server.over.wait(0.02):
                try:
                    self.wfile.write(b" ")
                except OSError:
                    return
        elif server.fault == "long":
            self._send(b"[" + b"1," * 100_000 + b"1]")
        elif server.fault == "not json":
            self._send(SAME.encode())
        elif server.fault == "no text":
            self._send(b"{}")
        elif server.fault == "error":
            self.send_error(500)
        elif server.fault.startswith("status"):
            self.send_error(int(server.fault.split()[1]))
        elif server.fault == "send on":
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{server.server_port}/elsewhere")
            self.end_headers()
        elif server.fault == "hang up":
            self.close_connection = True
        else:
            self._send(
                json.dumps({"choices": [message]} if self.path.startswith("/v1") else message).encode()
            )

    def _send(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.over.set()
        found.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("path", "model"), [("", "tiny"), ("/", "tiny"), ("/v1", "small"), ("/v1#mine", "mine")]
)
def test_ollama_and_openai_are_asked_in_their_own_words(server: Server, path: str, model: str) -> None:
    decider = EndpointDecider(server.address + path, 10.0)
    assert decider.report["decision_ms"] > 0
    assert model in decider.report["description"]
    server.text = str(Plan(depth=3))
    plan, cost = decider.decide(ASK)
    assert plan == Plan(depth=3)
    assert cost["total_ms"] > 0
    asked, body, key = server.seen[-1]
    assert asked == ("/v1/chat/completions" if "v1" in path else "/api/chat")
    assert (body["model"], body["stream"], key) == (model, False, None)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert ASK.evidence in body["messages"][1]["content"]


def test_the_key_goes_along(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENV_KEY, "open")
    EndpointDecider(server.address + "/v1#m", 10.0)
    assert server.seen[-1][2] == "Bearer open"


def test_the_key_does_not_go_where_the_server_sends_us(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENV_KEY, "open")
    decider = EndpointDecider(server.address, 10.0)
    server.fault = "send on"
    with pytest.raises(AgentError):
        decider.decide(ASK)
    assert [key for _, _, key in server.seen] == ["Bearer open", "Bearer open", None]


@pytest.mark.parametrize("address", ["http://me:secret@host:1/v1#m", "https://me@host"])
def test_an_address_with_a_password_is_refused_and_not_repeated(address: str) -> None:
    for take in (WorkerSettings, absolute_model):
        with pytest.raises(ConfigError, match="RUDDER_AGENT_KEY") as caught:
            take(address)
        assert "secret" not in str(caught.value)
    assert absolute_model("http://host/v1#a@b") == "http://host/v1#a@b"


@pytest.mark.parametrize("fault", ["hang", "drip", "long", "not json", "no text", "error", "hang up"])
def test_a_server_s_fault_is_an_error_in_time(server: Server, fault: str) -> None:
    decider = EndpointDecider(server.address, 10.0)
    server.fault = fault
    begin = time.monotonic()
    with pytest.raises(AgentError):
        decider.decide(replace(ASK, deadline_ms=300.0 if fault in ("hang", "drip") else 10_000.0))
    assert time.monotonic() - begin < 9  # not by waiting for it
    server.fault = ""
    assert decider.decide(ASK)[0] == Plan()


@pytest.mark.parametrize("text", ["Sure!", None, str(Plan(depth=16))])
def test_a_model_that_starts_with_no_plan_is_timed_and_asked_again(server: Server, text: Any) -> None:
    server.text = text
    decider = EndpointDecider(server.address, 10.0)
    assert decider.report["decision_ms"] > 0
    server.text = SAME
    assert decider.decide(ASK)[0] == Plan()


@pytest.mark.parametrize(("code", "later"), [(503, True), (500, True), (401, False), (404, False)])
def test_a_server_that_cannot_answer_now_may_later(server: Server, code: int, later: bool) -> None:
    server.fault = f"status {code}"
    with pytest.raises(AgentError, match=str(code)) as caught:
        EndpointDecider(server.address, 10.0)
    assert isinstance(caught.value, UnavailableError) == later


def test_a_server_that_comes_up_later_is_asked_then(caplog: pytest.LogCaptureFixture) -> None:
    with Server() as gone:
        port, address = gone.server_port, gone.address
    agent = AgentController(WorkerSettings(address))
    try:
        while agent.state != "restarting":
            assert agent.state != "refused"
            agent.listen(60.0)
        with Server(port) as up:
            thread = threading.Thread(target=up.serve_forever)
            thread.start()
            while agent.state != "ready":
                assert agent.state != "refused"
                agent.listen(60.0)
            up.shutdown()
            thread.join()
    finally:
        agent.close()
    (warning,) = caplog.messages
    assert "it is started anew" in warning
    assert address in warning


def test_nobody_there_is_an_error() -> None:
    with Server() as gone:
        address = gone.address
    with pytest.raises(AgentError, match="refused"):
        EndpointDecider(address + "/v1#m", 10.0)


@pytest.mark.parametrize(
    "text",
    [
        SAME,
        f"The best plan is:\n\n    {SAME}\n\nI hope that this helps!",
        f"`{SAME}`",
        f"**{SAME}**",
        f'{{"plan": "{SAME}"}}',
        f"{SAME}\n{SAME}",
    ],
)
def test_one_plan_among_words_is_an_answer(text: str) -> None:
    assert read_plan(text, ASK.space, Plan()) == Plan()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yes",
        None,
        7,
        ["v1"],
        "I would widen the window and fetch deeper.",
        f"{SAME} or {Plan(depth=3)}",
        SAME.replace("d=2", "d=02"),
        SAME.replace("d=2", "d=8"),  # not one step away
        SAME.replace("d=2", "d=-1"),
        SAME.replace("p=vip", "p=given"),  # cannot be had here
        SAME.replace(" f=100", ""),
        SAME.replace("v1", "v2"),
        SAME + " x=1",
        SAME.upper(),
    ],
)
def test_anything_else_is_refused(text: Any) -> None:
    with pytest.raises(AgentError):
        read_plan(text, ASK.space, Plan())


def test_a_rambling_model_changes_nothing(server: Server) -> None:
    decider = EndpointDecider(server.address, 10.0)
    server.text = "Prefetching is like sailing. " * 500
    with pytest.raises(AgentError, match="no plan"):
        decider.decide(ASK)


def test_the_question_lists_what_may_be_answered() -> None:
    text = allowed_text(Space(priors=("vip", "frequency")), Plan())
    for line in ("w: 3, 4, 6", "d: 1, 2, 3", "p: vip, frequency", "h: 0, 32, 128, 512", "b: 0, 1", "s: 100"):
        assert line in text.splitlines()
