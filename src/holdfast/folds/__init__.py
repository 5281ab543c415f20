"""How the facts of each subject change the state of their session. `holdfast.fold` has the other rules, and asks these.

answers     what was held against an output contract
asks        asks, answers and grants
budgets     what was used by now
compaction  summaries
deliveries  what is still to be delivered
files       the session's files
guards      replies that were withheld
hooks       hooks that are owed after a turn, and what hooks decided
"""
