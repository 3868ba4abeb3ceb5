"""The rules of a job, with machines that only say what happened."""

from __future__ import annotations

import signal
import time

from rudder.launch.events import Broken, Exited, Line
from rudder.launch.job import JobRun, StopRequest
from rudder.launch.plan import Process

PLAN = [
    Process("host0 server0", "server", 0, 0, [], {}),
    Process("host0 trainer0", "trainer", 0, 0, [], {}),
    Process("host1 trainer0", "trainer", 1, 1, [], {}),
]


class Machine:
    """Ends what still runs when it is told to, by SIGKILL."""

    def __init__(self, run, events, on_signal=()):
        self.run, self.on_signal, self.signals, self.stopped = run, list(on_signal), [], False
        self.ended = {event.process for event in events if isinstance(event, Exited)}
        for event in events:
            run.emit(event)

    def signal(self, role, number):
        self.signals.append((role, number))
        for event in self.on_signal:
            self.ended.add(event.process)
            self.run.emit(event)

    def stop(self):
        self.stopped = True

    def wait(self, timeout_s=None):
        for name in self.run._processes:
            if name not in self.ended:
                self.run.emit(Exited(name, -9, time.time()))
        return True


def _exited(name, code, **rest):
    return Exited(name, code, time.time(), **rest)


def _finish(events, stop=None, on_signal=(), lines=None):
    run = JobRun(PLAN, lines.append if lines is not None else None, stop)
    machine = Machine(run, events, on_signal)
    return run.finish([machine]), machine


def test_success_when_all_trainers_and_servers_ended():
    lines = []
    line = Line("host0 trainer0", "stdout", "hello")
    result, machine = _finish([line, *(_exited(p.name, 0) for p in PLAN)], lines=lines)
    assert result.ok
    assert machine.stopped
    assert lines == [line]
    assert [status.code for status in result.statuses] == [0, 0, 0]
    result.raise_for_failure()


def test_first_by_its_own_account_is_the_failure():
    now = time.time()
    result, _ = _finish(
        [
            Exited("host0 trainer0", 1, now, now - 1, "Traceback\nConnection closed by peer\n"),
            Exited("host1 trainer0", 3, now, now - 2, "Traceback\nthe cause\n"),
        ]
    )
    assert result.exit_code == 3
    assert result.failed.name == "host1 trainer0"
    assert result.reason.endswith("the cause")
    assert result.statuses[0].stopped
    assert not result.statuses[1].stopped


def test_a_death_without_account_comes_with_its_last_words():
    words = [Line("host0 server0", "stderr", f"word {i}") for i in range(100)]
    result, _ = _finish([*words, _exited("host0 server0", -11)])
    assert result.exit_code == 128 + 11
    assert "killed by SIGSEGV" in result.reason
    assert result.reason.endswith("word 99")
    assert "word 0\n" not in result.reason


def test_a_lost_machine_fails_the_job():
    result, machine = _finish([Broken(1, "lost its agent")])
    assert (result.exit_code, result.reason) == (1, "host1: lost its agent")
    assert machine.stopped


def test_stop_is_forwarded_once_and_codes_after_it_do_not_count():
    stop = StopRequest()
    stop.set(signal.SIGTERM)
    answers = [_exited("host0 trainer0", 1), _exited("host1 trainer0", -15)]
    result, machine = _finish([], stop, answers)
    assert machine.signals == [("trainer", signal.SIGTERM)]
    assert result.exit_code == 143
    assert result.failed is None
    assert result.reason == "stopped by SIGTERM"


SERVED = [*PLAN, Process("host0 feature server", "feature server", 0, 0, [], {})]


def _finish_served(events, lines):
    run = JobRun(SERVED, lines.append, None)
    return run.finish([Machine(run, events)])


def test_a_feature_server_that_dies_is_worth_a_warning_only():
    lines = []
    result = _finish_served(
        [_exited("host0 feature server", -9), *(_exited(process.name, 0) for process in PLAN)], lines
    )
    assert result.ok
    assert [line.process for line in lines] == ["host0 feature server"]
    assert "ended by SIGKILL" in lines[0].text


def test_feature_servers_are_not_waited_for():
    lines = []
    result = _finish_served([_exited(process.name, 0) for process in PLAN], lines)
    assert result.ok
    assert result.seconds < 5
    assert result.statuses[-1].stopped
    assert lines == []  # killed by the launcher, when all was done
