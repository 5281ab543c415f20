"""The turn: one input brought to rest.

decide   what is owed next: every rule, in one table, pure
loop     ask `decide`, do it, until it says wait or stop
input    what can be accepted, and the beginning of a turn
tell     what somebody outside the turn says: an input, an answer, what became of a call
admit    whether that (still) makes sense, and the fact of it
reason   ask the model
watch    a message while it is being written: timed, shown, kept from being lost
prompt   what the model is sent next
reply    what it answered, as the log holds it
blobs    bytes of images and documents, into the log and out to the model
repair   make any transcript valid for a provider, pure
retry    when a failed model call is due again
act      decide which of the calls it asked for may run
asks     questions a person must answer first
lanes    run them: claim, dispatch, outcome
claim    the fact that a call is about to run
call     one call from its arguments to its result
transaction   what a tool did in the log's database, committed with the outcome
gate     hooks and policies before something happens
finish   the one terminal event
"""
