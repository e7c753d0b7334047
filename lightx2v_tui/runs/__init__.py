"""Runs: the engine thread, the line, run folders, and what outlives a lost connection."""
