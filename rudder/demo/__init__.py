"""`rudder demo`: one DistDGL job, run twice on this machine, without and with Rudder, and told side by side.

settings.py  what may be chosen           parts.py   the graph, its partitions, and their cache
job.py       runs both variants           train.py   the script that the processes of both run
meter.py     what a trainer counts        report.py  both outcomes as JSON and as a table
"""
