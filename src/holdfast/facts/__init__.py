"""The facts of each subject. `holdfast.events` has those of sessions, turns, replies, calls and files, and knows all.

fact        what every fact is made of
answers     what an answer must look like, and whether it does
asks        what somebody is asked, what was answered, and for what else that holds
budgets     money and other things that run out: reserved, settled
compaction  what the model is told in place of the beginning of a transcript
deliveries  output that is delivered: owed, begun, settled
drift       a turn met another manifest than the one it was begun under
guards      what a guard decided
hooks       hooks after a turn, and what a hook before it made of an input
policies    what a policy or rule decided
"""
