"""The `holdfast` command. It uses the public names, as any other program would.

app        the command: its list of commands, and how an error ends it
run        one turn
chat       a conversation
speaking   the commands that say something to a session:
answer     approve, deny and answer
asks       what waits for an answer in any session
resolve    what became of a call in doubt
steer      steer and cancel: the turn under way, whoever is at work on it
looking    the commands that look at sessions and change nothing:
sessions   what is in the database, and the files of a session
log        show and events: what happened, as a timeline and as it was recorded
inspect    the next request
explain    explain and diff: which layer set what, and what has changed
under      what a turn ran under
policy     policy test: rules tried on what happened
trust      whether the hooks that a directory brings may run
budget     what may be used, and how much more
upkeep     the commands for those who look after a database:
agents     agents that are out of use
worker     worker and recover: go on with what is owed
fsck       everything in a database, looked through
survey     what of that any store can tell
transfer   export, import and backup
foreign    export in another system's format
doctor     versions, health, providers

compose    from flags to a session
given      agents of a program, given by flags
agentfile  agents in Markdown files
rulefile   rules in TOML and JSON files
place      the database, and a session by its short name
watch      a turn until it rests, and Ctrl-C
view       what a turn looks like while it runs
timeline   what happened, as data (pure)
page       a timeline on the terminal
record     an answer recorded without running anything
text       words made safe and short
echo       a simulated model for trying things without a key
confirm    the capability behind --ask
"""

import sys

try:
    from holdfast.cli.app import holdfast as main
except ModuleNotFoundError as error:
    if error.name != "click":
        raise
    sys.exit("the command line needs 'click'; install it with: pip install 'holdfast[cli]'")

__all__ = ["main"]
