"""Two threads of one trainer call DGL at once: right with `dgl_rpc.install()`, wrong without."""

from __future__ import annotations

import pytest

TWO = ("--local", "2", "--part-config")

pytest.importorskip("torch")


def test_serialized_threads_get_their_own_answers(launcher, ring_parts, workers):
    script = str(workers / "rpc_threads.py")
    code, output = launcher.run(*TWO, ring_parts, "--", script, "1200", "serialized")
    assert code == 0, output
    assert output.count("1200 rounds right") == 2
    assert output.count("python ran while a call waited") == 1


def test_stock_threads_do_not(launcher, ring_parts, workers):
    # Shows that the test above can fail: it takes a few of the rounds until an answer goes astray.
    code, output = launcher.run(*TWO, ring_parts, "--", str(workers / "rpc_threads.py"), "1200", "stock")
    assert code != 0, output
