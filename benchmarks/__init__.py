"""How fast Holdfast is, and how much it holds: `make bench`, or `python -m benchmarks --help`.

calculator.py     what is measured: one agent, one tool, and a model that answers at once
workloads.py      W1-W6: a turn, a long session, a stream, parallel calls, a turn on disk, a thousand sessions
streams.py        W2 again: what a file comes to when answers are streamed slowly
cold.py           W7 and what else needs a fresh process: import, first turn, syncs
first_turn.py     the program W7 starts: one turn, or several, and its own cost
fleet.py          many sessions that share commits, on a file and on Postgres
resumed.py        a long session opened again, turns recovered after a kill, an idle worker
left.py           the programs that those need: one opens a session, one kills itself
figures.py        what comes of a workload: a figure, its repeats, the numbers we mean to keep
timing.py         how work is timed
commits.py        how often SQLite commits
process.py        what the system says of this process: memory, input and output, the disk
worker.py         one workload in a process of its own
report.py         the table and the JSON
profiled.py       where the time of a workload goes
side_by_side.py   the same workloads beside other libraries, in one run
peer_holdfast.py  our side of that run
"""
