"""Capabilities: named bundles that an agent asks for. The registry imports one when it is named.

files  read, write, edit, list, search and delete the session's workspace files
grep   the search under `files`: a linear-time engine, and a bound for everything else
"""
