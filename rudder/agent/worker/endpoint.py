"""Decisions of a model server: Ollama, or anything with an OpenAI-compatible interface.

    http://host:11434            Ollama            POST /api/chat
    http://host:8000/v1          OpenAI-compatible POST /v1/chat/completions
    http://host:8000/v1#name     ... with this model; else the first one that the server lists

A server writes what it likes, so its answer is read strictly: it must hold exactly one plan, in its
canonical text, of those that may be answered. Anything else is refused. RUDDER_AGENT_KEY, where set, is sent
as a bearer token, and goes nowhere else.
"""

from __future__ import annotations

import json
import os
import re
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any
from urllib.parse import urldefrag

from rudder.agent.prompt import plan_of, system_text
from rudder.agent.space import Space
from rudder.agent.worker.decider import UnavailableError, probe
from rudder.agent.worker.protocol import LATE, Ask
from rudder.errors import AgentError, ConfigError
from rudder.plan import KEYS, Plan, written

ENV_KEY = "RUDDER_AGENT_KEY"
# A plan is 60 characters; a server that sends more than this is not answering.
_MOST_BYTES = 1 << 16
_READ_BYTES = 1 << 12
# A plan is some 40 tokens; the rest is room for a word of politeness.
_MOST_TOKENS = 128
# Anything that tries to be a plan: two of them that differ are no answer.
_PLAN_LIKE = re.compile(r"\bv1(?: [a-z]=[^\s`\"'*<>]+)+")


class EndpointDecider:
    """A model behind an address."""

    def __init__(self, address: str, seconds: float) -> None:
        """Find the model and time one decision, within ``seconds``; it need not be a good one.

        Raises UnavailableError where the server may answer later, else AgentError.
        """
        base, self._model = urldefrag(address)
        self._base = base.rstrip("/")
        self._ollama = not self._base.endswith("/v1")
        deadline = time.monotonic() + seconds
        self._model = self._model or self._first_model(deadline)
        begin = time.monotonic()
        self._said(probe(1, 1000 * (deadline - begin)))
        self.report: dict[str, Any] = {
            "model": address,
            "description": f"{self._model} of {'Ollama' if self._ollama else 'an OpenAI-compatible server'}",
            "decision_ms": _milliseconds_since(begin),
        }

    def decide(self, ask: Ask) -> tuple[Plan, dict[str, float]]:
        """Ask the server, read its answer strictly."""
        begin = time.monotonic()
        said, plan = self._said(ask), plan_of(ask.evidence)
        try:
            text = said["message"]["content"] if self._ollama else said["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError) as error:
            raise AgentError(f"{self._base}: its answer has no text ({error!r})") from error
        return read_plan(text, ask.space, plan), {"total_ms": _milliseconds_since(begin)}

    def _said(self, ask: Ask) -> Any:
        """What the server makes of an ask. Raises AgentError."""
        deadline, plan = time.monotonic() + ask.deadline_ms / 1000, plan_of(ask.evidence)
        messages = [
            {"role": "system", "content": system_text(ask.space, ask.job)},
            {"role": "user", "content": f"{ask.evidence}\n\n{allowed_text(ask.space, plan)}"},
        ]
        common = {"model": self._model, "messages": messages, "stream": False}
        if self._ollama:
            path, body = "/api/chat", {**common, "options": {"temperature": 0, "num_predict": _MOST_TOKENS}}
        else:
            path, body = "/chat/completions", {**common, "temperature": 0, "max_tokens": _MOST_TOKENS}
        return self._call(path, body, deadline)

    def _first_model(self, deadline: float) -> str:
        said = self._call("/api/tags" if self._ollama else "/models", None, deadline)
        try:
            listed = said["models"] if self._ollama else said["data"]
            return str(listed[0]["name" if self._ollama else "id"])
        except (KeyError, IndexError, TypeError) as error:
            raise AgentError(
                f"{self._base} lists no model ({error!r}): name one, {self._base}#name"
            ) from error

    def _call(self, path: str, body: dict[str, Any] | None, deadline: float) -> Any:
        """The server's JSON answer. Raises AgentError; unless it refuses us (4xx), UnavailableError."""
        headers = {"Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, headers)
        if os.environ.get(ENV_KEY):
            # Where the server sends us on, the key is not for.
            request.add_unredirected_header("Authorization", f"Bearer {os.environ[ENV_KEY]}")
        try:
            with urllib.request.urlopen(request, timeout=_left(deadline)) as response:
                text = b""
                # A server may send a byte a second for ever: each keeps the socket's own limit from passing.
                while chunk := response.read1(_READ_BYTES):
                    text += chunk
                    _left(deadline)
                    if len(text) > _MOST_BYTES:
                        raise AgentError(f"{self._base} answered more than {_MOST_BYTES} bytes")
            return json.loads(text)
        except urllib.error.HTTPError as error:
            error.close()
            refused = 400 <= error.code < 500
            raise (AgentError if refused else UnavailableError)(f"{self._base}{path}: {error}") from error
        except (OSError, ValueError, HTTPException) as error:  # no connection, no time, no HTTP, no JSON
            raise UnavailableError(f"{self._base}{path}: {error}") from error


def allowed_text(space: Space, plan: Plan) -> str:
    """What may be answered, for a model that nothing else holds to it."""
    # With this prior the choice is widest; which values go together is checked in the answer.
    chosen = {"prior": "frequency"}
    values = [
        f"{key}: {', '.join(map(written, space.choices(plan, name, chosen)))}" for key, name in KEYS.items()
    ]
    return "\n".join(["Answer with one line like the plan above, and nothing else. Values:", *values])


def read_plan(text: Any, space: Space, plan: Plan) -> Plan:
    """The one plan in a model's text. Raises AgentError where there is none, several, or one not allowed."""
    found = set(_PLAN_LIKE.findall(text)) if isinstance(text, str) else set()
    if len(found) != 1:
        raise AgentError(
            f"the model answered {'no plan' if not found else f'{len(found)} plans'}: {text!r:.80}"
        )
    (line,) = found
    try:
        answer = Plan.parse(line)
    except ConfigError as error:
        raise AgentError(f"the model's answer is no plan: {error}") from error
    if not space.allows(plan, answer):
        raise AgentError(f"the model answered {line!r}, which may not follow {str(plan)!r}")
    return answer


def _left(deadline: float) -> float:
    """Seconds left. Raises UnavailableError where there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise UnavailableError(LATE)
    return left


def _milliseconds_since(begin: float) -> float:
    return round(1000 * (time.monotonic() - begin), 3)
