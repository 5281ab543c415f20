"""Capabilities: named bundles that an agent asks for. The registry imports one when it is named.

compaction  a summary in place of the beginning of a transcript that has become too long
files  read, write, edit, list, search and delete the session's workspace files
grep   the search under `files`: a linear-time engine, and a bound for everything else
questions  a tool with which the model asks a person, who answers in words
workspace_hooks  the hooks that a directory brings with it, where they are trusted
"""
