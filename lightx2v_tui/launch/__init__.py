"""From a model root to a checked job: what can be picked, what is recommended, what will fit."""
