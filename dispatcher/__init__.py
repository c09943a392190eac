"""dispatcher sends a campaign's letters: every recipient gets the right letter once, and you can prove it."""

__version__ = "0.1.0"
