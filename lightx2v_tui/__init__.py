"""A keyboard-driven terminal app that finds, chooses and runs Wan / LightX2V video models."""

__version__ = "0.1.0"
