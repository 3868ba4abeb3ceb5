"""FairRLock: re-entrant, in order of arrival, safe against interrupts while waiting."""

from __future__ import annotations

import threading

import pytest

from rudder.integrations.fair_lock import FairRLock


def test_is_reentrant_and_knows_its_depth():
    lock = FairRLock()
    assert lock.depth == 0
    with lock, lock:
        assert lock.depth == 2
    assert lock.depth == 0


def test_only_the_owner_releases():
    lock = FairRLock()
    with pytest.raises(RuntimeError):
        lock.release()
    with lock:
        errors = []

        def release():
            try:
                lock.release()
            except RuntimeError as error:
                errors.append(error)

        thread = threading.Thread(target=release)
        thread.start()
        thread.join()
        assert len(errors) == 1
        assert lock.depth == 1


def test_waiters_are_served_in_order_before_the_releaser_again():
    lock = FairRLock()
    served = []
    lock.acquire()
    threads = []
    for number in range(4):

        def work(number=number):
            with lock:
                served.append(number)

        threads.append(threading.Thread(target=work))
        threads[-1].start()
        while len(lock._waiters) <= number:  # it has asked
            pass
    lock.release()
    with lock:  # asked last
        served.append("releaser")
    for thread in threads:
        thread.join()
    assert served == [0, 1, 2, 3, "releaser"]


def test_excludes_under_contention():
    lock = FairRLock()
    total = [0]

    def add():
        for _ in range(2000):
            with lock, lock:
                before = total[0]
                total[0] = before + 1

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert total[0] == 8000


class _InterruptedError(Exception):
    pass


def test_an_interrupted_waiter_leaves_the_queue(monkeypatch):
    lock = FairRLock()
    held, release = threading.Event(), threading.Event()

    def hold():
        with lock:
            held.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()

    class Gate:
        asked = 0

        def acquire(self):
            self.asked += 1
            if self.asked == 2:  # the wait, not the closing of the gate
                raise _InterruptedError

        def release(self):
            raise AssertionError("nobody waits here")

    monkeypatch.setattr("rudder.integrations.fair_lock.threading.Lock", Gate)
    with pytest.raises(_InterruptedError):
        lock.acquire()
    assert not lock._waiters
    release.set()
    thread.join()
    assert lock._owner is None


def test_reset_frees_it():
    lock = FairRLock()
    lock.acquire()
    lock.reset()
    assert lock.depth == 0
    with lock:
        assert lock.depth == 1
