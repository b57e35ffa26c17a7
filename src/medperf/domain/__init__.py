"""What is true: entities, digests, state machines, limits, disclosure and errors. Pure: no I/O."""
