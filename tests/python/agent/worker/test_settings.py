"""What a worker is told: defaults, the environment's, and what cannot work."""

from __future__ import annotations

import pytest

from rudder.agent.llm import settings_here
from rudder.agent.worker.settings import CONTEXT, Room, WorkerSettings
from rudder.errors import ConfigError


def test_the_environment_says_what_a_model_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUDDER_AGENT_CONTEXT", "RUDDER_AGENT_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert settings_here("/m.gguf").room == Room(CONTEXT, 1)
    for name, value in Room(512, 2).env().items():
        monkeypatch.setenv(name, value)
    settings = settings_here("/m.gguf")
    assert settings == WorkerSettings("/m.gguf", Room(512, 2))
    assert WorkerSettings.from_json(settings.to_json()) == settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RUDDER_AGENT_CONTEXT", "255"),
        ("RUDDER_AGENT_CONTEXT", "4k"),
        ("RUDDER_AGENT_THREADS", "0"),
        ("RUDDER_AGENT_THREADS", "-1"),
    ],
)
def test_room_that_cannot_work_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=value):
        settings_here("/m.gguf")
