"""Messages come back as they went; anything else is told from them."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rudder.agent.space import Space
from rudder.agent.worker.protocol import (
    VERSION,
    Answer,
    Ask,
    Failed,
    Hello,
    Message,
    State,
    from_line,
    to_line,
)
from rudder.errors import FormatError
from rudder.plan import PRIORS, Plan

costs = st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False, allow_infinity=False), max_size=3)
spaces = st.builds(
    Space,
    default=st.builds(Plan, depth=st.integers(1, 64)),
    priors=st.lists(st.sampled_from(PRIORS), min_size=1, unique=True).map(tuple),
    scores=st.booleans(),
    shares=st.booleans(),
)
messages = st.one_of(
    st.builds(Hello, st.integers(), st.text()),
    st.builds(
        Ask,
        st.integers(),
        # Any lines, and the evidence.
        st.text().map(lambda text: f"{text}\n{Plan()} | st:1"),
        spaces,
        st.floats(0, 1e6),
        st.text(),
    ),
    st.builds(Answer, st.integers(), st.text(), costs),
    st.builds(Failed, st.integers(), st.text(), costs),
    st.builds(State, st.sampled_from(["starting", "ready", "restarting", "refused"]), st.text()),
)


@settings(deadline=None)
@given(messages)
def test_a_message_is_one_line_and_comes_back(message: Message) -> None:
    line = to_line(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert from_line(line) == message


ASK = Ask(1, f"{Plan()} | st:1", Space(), 100.0)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "order"},
        {"kind": ["ask"]},
        {"id": "1"},
        {"id": True},
        {"evidence": "v1 w=4"},
        {"evidence": None},
        {"evidence": f"{Plan()} | st:1\nno plan"},
        {"job": None},
        {"space": {}},
        {"space": {"default": "v2", "priors": ["vip"], "scores": False, "shares": False}},
        {"space": {"default": str(Plan()), "priors": [], "scores": False, "shares": False}},
        {"space": {"default": str(Plan()), "priors": ["luck"], "scores": False, "shares": False}},
        {"space": {"default": str(Plan()), "priors": ["vip"], "scores": 1, "shares": False}},
        {"deadline_ms": "soon"},
        {"deadline_ms": float("nan")},
        {"deadline_ms": float("inf")},
        {"deadline_ms": -float("inf")},
        {"deadline_ms": 1e300},
        {"deadline_ms": 10**400},
        {"more": 1},
    ],
)
def test_an_ask_that_is_not_quite_one_is_refused(change: dict[str, object]) -> None:
    values = {**json.loads(to_line(ASK)), **change}
    with pytest.raises(FormatError):
        from_line(json.dumps(values).encode())


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"plan: v1 w=4",
        b"\xff\xfe",
        b'{"kind":"answer","id":1}',
        b'{"kind":"answer","id":1,"plan":"x","cost":{"a":"b"}}',
        b'{"kind":"answer","id":1,"plan":"x","cost":{"a":NaN}}',
        b'{"kind":"answer","id":1,"plan":"x","cost":{"a":-Infinity}}',
        b'{"kind":"failed","id":1,"reason":"x","cost":{"a":1e999}}',
        b'{"kind":"failed","id":1,"reason":"x","cost":{"a":1' + b"0" * 400 + b"}}",
        b'{"kind":"state","state":"happy"}',
        b"[" * 100_000,
        to_line(Hello(VERSION))[:-3],
    ],
)
def test_garbage_is_refused(line: bytes) -> None:
    with pytest.raises(FormatError):
        from_line(line)


@settings(deadline=None)
@given(st.binary())
def test_no_bytes_raise_anything_else(line: bytes) -> None:
    with contextlib.suppress(FormatError):
        from_line(line)
