"""Ledgers: where plans, attempts, suppressions and events are kept."""
