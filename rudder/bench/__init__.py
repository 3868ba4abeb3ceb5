"""What `rudder bench` measures.

settings, result    what to measure; what was found
rows                tables whose every byte follows from a seed
channel, peer       the far side: a process with tables, and whatever serves them
raw_stream, plain   baselines: a TCP stream of as many bytes, a gather from this process's own memory
transports          the near side of each transport
measure             rounds, interleaved; every byte compared
session, client     all of it against given peers, in a process of its own
crowd               several clients of one server at once
gpu                 gathers into GPU memory, beside copies and index_select
run                 processes for the one-machine forms
table, plot         for people
"""
