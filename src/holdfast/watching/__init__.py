"""Watching: everything that happens in some sessions, from any point on, without a gap. `holdfast.follow` follows one.

filters       what to watch, and up to where somebody did
gallery       where those who watch a runtime's sessions sit
readings      how a subscription reads on, from the logs and then live
subscription  what `runtime.subscribe` gives
"""
