"""The turn: one input brought to rest.

decide   what is owed next: every rule, in one table, pure
loop     ask `decide`, do it, until it says wait or stop
input    accept an input or an answer, begin a turn
reason   ask the model
watch    a message while it is being written: timed, shown, kept from being lost
prompt   what the model is sent next, and its reply under our ids
repair   make any transcript valid for a provider, pure
retry    when a failed model call is due again
act      decide which of the calls it asked for may run
asks     questions a person must answer first
lanes    run them: claim, dispatch, outcome
call     one call from its arguments to its result
gate     hooks and policies before something happens
finish   the one terminal event
"""
