"""The language model of a host, in a process of its own, and the process that watches over it.

    trainers --(unix socket)--> keeper --(socket pair)--> worker: llama.cpp, or a client of a model server

`protocol.py` is what they say; `keeper.py` starts the worker, gives it one ask at a time, ends it when it
hangs and starts it anew; `__main__.py` is the worker, which decides by a walk through the plans (`walk.py`).
Nothing here runs in a trainer but `client.py`, which never waits.
"""
