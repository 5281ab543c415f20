"""Who moves turns: each engine takes up what is owed, and knows nothing of how a turn is run.

local.py  a worker that claims due sessions of one store, beside any number of others
"""
