"""How fast Holdfast is, and how much it holds: `make bench`, or `python -m benchmarks --help`.

calculator.py     what is measured: one agent, one tool, and a model that answers at once
workloads.py      W1-W6: a turn, a long session, a stream, parallel calls, a turn on disk, a thousand sessions
cold.py           W7 and what else needs a fresh process: import, first turn, syncs
first_turn.py     the program W7 starts: one turn, or several, and its own cost
figures.py        what comes of a workload: a figure, its repeats, the numbers we mean to keep
process.py        what the system says of this process: memory, input and output, the disk
worker.py         one workload in a process of its own
report.py         the table and the JSON
profiled.py       where the time of a workload goes
side_by_side.py   the same workloads beside other libraries, in one run
peer_holdfast.py  our side of that run
"""
