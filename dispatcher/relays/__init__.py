"""Relays: whoever a letter is handed over to (RFC 5321, RFC 6409)."""
