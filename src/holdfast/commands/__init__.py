"""Hooks that are commands, and which of those that a directory brings may run.

hook     JSON in on standard input, one decision out on standard output
process  a foreign process: what it is told, what it says within bounds, and its certain end
brought  hooks that a directory brings with it, and everything they consist of
trust    what of it a user trusts to run
"""
