"""Letters on paper: pages, labels and envelopes as PDF, by Typst. Knows nothing of ledgers and campaigns' folders."""
