"""The face for a browser: pages to look at, written to files. No rules, and nothing is sent from here."""
