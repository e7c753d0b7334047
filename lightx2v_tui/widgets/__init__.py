"""Reusable widgets: data comes down to them, messages go up."""
