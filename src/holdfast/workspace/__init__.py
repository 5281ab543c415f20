"""Files that a session's tools may touch, on the log or on a real directory.

paths       the one place where a path is judged: normal form, limits, reserved and protected names
log_files   files that live in the session's log, with blobs for large content
disk_files  files of a real directory, opened segment by segment and never through a link
beneath     the system calls under disk_files: walk, read, replace and remove below a directory
"""
