"""Drivers: each speaks one model protocol.

    sim                  a scripted model for tests and demonstrations; no network
    openai_chat          Chat Completions: OpenAI and every server compatible with it

What the wire drivers share, or are made of:

    transport            the HTTP client: a POST bounded in time and size, keys and addresses
    sse                  server-sent events out of bytes
    failures             statuses, error objects and garbage, as `DriverError`
    openai_chat_wire     the protocol's structs
    openai_chat_reply    chunks or a body, put together into a `Reply`

Nothing is imported here: the registry loads a driver's file when a model asks for it.
"""
