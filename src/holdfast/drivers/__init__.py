"""Drivers: each speaks one model protocol.

    sim                  a scripted model for tests and demonstrations; no network
    anthropic            Anthropic Messages
    gemini               Gemini `generateContent`
    openai               OpenAI Responses
    openai_chat          Chat Completions: OpenAI and every server compatible with it

    webhook              no model: a sink that posts output to an address

What the wire drivers share, or are made of:

    remote               what every driver of a server has: address, credential, headers, options
    transport            the HTTP client: a POST bounded in time and size, keys
    address              base URLs, and which hosts are private
    described            a driver in plain data, without secrets, for a manifest's digest
    tools                parameters and arguments of tools, and shapes told in words
    sse                  server-sent events out of bytes
    failures             statuses, error objects and garbage, as `DriverError`
    tokens               counts of tokens, as numbers that can be paid for
    anthropic_wire       the protocol's structs
    anthropic_history    the transcript as turns of content blocks
    anthropic_settings   thinking, tool choice, the shape of the output
    anthropic_schema     schemas as its structured output takes them
    anthropic_reply      events or a body, put together into a `Reply`
    gemini_wire          the protocol's structs
    gemini_contents      messages as contents, by turns
    gemini_schema        schemas as Gemini takes them
    gemini_reply         chunks or a body, put together into a `Reply`
    openai_wire          the protocol's structs
    openai_items         messages as input items
    openai_schema        schemas as strict output takes them
    openai_reply         events or a body, put together into a `Reply`
    openai_chat_wire     the protocol's structs
    openai_chat_reply    chunks or a body, put together into a `Reply`

Nothing is imported here: the registry loads a driver's file when a model asks for it.
"""
