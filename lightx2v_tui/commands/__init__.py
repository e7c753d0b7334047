"""One module per command: `execute(args)` does it and returns the exit code."""
