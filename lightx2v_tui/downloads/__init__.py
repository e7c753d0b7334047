"""From a repository to files: what it holds, what of it is wanted, and fetching it."""
