"""Sweeping: exactly the job's processes and segments, and those of jobs whose launcher is gone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from rudder.launch import cleanup

WAIT = "import signal; signal.pause()"


@pytest.fixture
def shm(tmp_path, monkeypatch):
    monkeypatch.setattr(cleanup, "SHM", tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    return tmp_path


def _start(job, *args):
    env = {**os.environ, "RUDDER_JOB": job}
    return subprocess.Popen([sys.executable, *args], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_sweep_ends_the_jobs_processes_only(shm):
    job, other = cleanup.new_job_id(), cleanup.new_job_id()
    (shm / f"rudder.{job}.h0.g").touch()
    (shm / f"rudder.{other}.h0.g").touch()
    # A grandchild, too, in a session of its own.
    start = f"subprocess.Popen([sys.executable, '-c', {WAIT!r}], start_new_session=True)"
    code = f"import subprocess, sys; {start}; {WAIT}"
    with _start(job, "-c", code) as mine, _start(other, "-c", WAIT) as others:
        try:
            while len(cleanup.processes(job)) < 2:
                assert mine.poll() is None
            cleanup.sweep(job)
            assert mine.wait() == -9
            assert cleanup.processes(job) == []
            assert others.poll() is None
            assert [path.name for path in shm.iterdir()] == [f"rudder.{other}.h0.g"]
        finally:
            mine.kill()
            others.kill()


def test_guardian_sweeps_when_its_pipe_ends_without_a_word():
    job = cleanup.new_job_id()
    folder = cleanup.folder(job)
    folder.mkdir()
    with _start(job, "-c", WAIT) as process:
        environment = {name: value for name, value in os.environ.items() if name != "RUDDER_JOB"}
        guardian = [sys.executable, "-I", cleanup.__file__, job]
        subprocess.run(guardian, input=b"done", env=environment, check=True)
        assert process.poll() is None
        assert folder.exists()
        subprocess.run(guardian, input=b"", env=environment, check=True)
        assert process.wait() == -9
        assert not folder.exists()


def test_stale_segments_go_and_live_ones_stay(shm):
    with subprocess.Popen([sys.executable, "-c", "pass"]) as ended:
        ended.wait()
    fields = cleanup.new_job_id().split("-")
    names = {
        "own": cleanup.new_job_id(),
        "stale": f"{fields[0]}-{ended.pid}-1-abc",
        "reused pid": f"{fields[0]}-{os.getpid()}-1-abc",
        "another namespace": f"1-{ended.pid}-1-abc",
        "no job": "someone's",
    }
    for job in names.values():
        (shm / f"rudder.{job}.h0.g").touch()
        cleanup.folder(job).mkdir(parents=True)
    cleanup.sweep_stale()
    stay = {names["own"], names["another namespace"], names["no job"]}
    assert {path.name.split(".")[1] for path in shm.glob("rudder.*")} == stay
    assert set((shm / "tmp").iterdir()) == {cleanup.folder(job) for job in stay}


def test_a_tracker_may_finish_its_work_first(tmp_path):
    # multiprocessing's resource tracker, which is in the job, unlinks a killed process's named semaphores.
    code = (
        "import multiprocessing as m, signal\n"
        "lock = m.get_context('spawn').Lock()\n"
        "print(lock._semlock.name, flush=True)\n"
        "signal.pause()\n"
    )
    job = cleanup.new_job_id()
    with _start(job, "-c", code) as process:
        name = process.stdout.readline().decode().strip().lstrip("/")
        path = cleanup.SHM / f"sem.{name}"
        assert path.exists()
        cleanup.sweep(job)
        assert not path.exists()
