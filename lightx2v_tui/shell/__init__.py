"""The app part by part: looks, keys, downloads, how it ends, and what it comes back to."""
