"""Torch-free facts that the app and the engine share: nothing here imports torch or numpy."""
