"""What a container runs on: interpreters and wheels for the sandbox."""
