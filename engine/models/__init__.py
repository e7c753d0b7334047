"""The networks, one file each; every `forward` is readable alone."""
