"""One module per screen, a `.tcss` beside it; screens are imported when they are first shown."""
