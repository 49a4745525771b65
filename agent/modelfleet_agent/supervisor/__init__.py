"""The supervisor: one process that decides, and threads and children that do the work.

    loop       takes events from one queue, one after the other, and looks at the clock
    desk       documents, trust, facts and engines: what is wanted, and who works on it
    keeper     the runtime child: starts it, again and again, and gives up on what kills it
    refresh    trust metadata, in a thread, when it is needed
    voice      reports and telemetry: composed, signed, kept, sent
    status     the file that `modelfleet-agent status` reads

It imports neither numpy nor ONNX Runtime nor tuf, so that it is small for years.
"""
