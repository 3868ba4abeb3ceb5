"""Feature servers: each offers the rows of one partition over UCX to peers that prove to belong to the job.

    frames, handshake   the door's wire: bytes in, messages or typed refusals out; no sockets
    reception           the server's half of a conversation at the door, without sockets
    door                sockets, limits and deadlines around it
    feature_server      what the door opens: sessions and tables of a `UcxServer`
    process             the feature server of one host as a process
    places              where the servers listen
    client, connector   the trainer's side: one conversation; all servers of a job, and their return

docs/door.md describes the protocol.
"""
