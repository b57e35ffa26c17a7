"""What a person wants done: one module per use case; the only room that joins client, workspace and runtime."""
