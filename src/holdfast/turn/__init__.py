"""The turn: one input brought to rest.

decide   what is owed next: every rule, in one table, pure
step     what that can be
loop     ask `decide`, do it, until it says wait or stop
input    what can be accepted, and the beginning of a turn
document     what it runs under is in the store before it begins
tell     what somebody outside the turn says: an input, an answer, what became of a call
admit    whether that (still) makes sense, and the fact of it
enter    whether it may begin or ask its model, and what the model is told of each input
reason   ask the model
hear     what the model says, as guards let it through
screen   what they let through of a message while it is being written
overhear    functions that guard a stream are asked before more is shown
guards   they look at a message, at what tools are given, and at what they give
speech   what a message says, and its calls as guards let them through
withhold    a reply passes them, or other words are recorded in its place
told     the facts of what it answered
fit      hold that to the shape that was asked for
watch    a message while it is being written: timed, shown, kept from being lost
prompt   what the model is sent next
reply    what it answered, as the log holds it
blobs    bytes of images and documents, into the log and out to the model
compact  replace the transcript's beginning, for the model, by a summary
summarise   ask a model for it
abridge  what of a transcript is summarised, and in which words, pure
repair   make any transcript valid for a provider, pure
retry    when a failed model call is due again
act      decide which of the calls it asked for may run
asks     questions a person must answer first
bell     wakes those who wait for an answer while calls run
consult  put an open ask to the approver of the application
crew     the calls of a batch while some wait for an answer
permit   what becomes of a call that was asked about
saying   from what somebody says of an ask to the fact of it
lanes    run them: claim, dispatch, outcome
claim    the fact that a call is about to run
call     one call from its arguments to its result
passing  what goes into tools and comes out of them, as hooks and guards let it
till     payments that a tool asks for
transaction   what a tool did in the log's database, committed with the outcome
gate     hooks before and after something happens
policies   policies, rules and the taint rule before it does
meter    budgets and rates of a model call: reserved before it, settled after
booking  set aside, settle, and say what is in the way
measure  what such a call uses
floor    the tokens that it took at least, whatever its provider says
lost     what one used that was cut off with its process
allowance    what budgets and rates say to it
afford   which calls they let run
repetition   whether a model goes round in circles
finish   the one terminal event
after    the hooks that are owed then
deliver  hand finished output to its sinks
"""
