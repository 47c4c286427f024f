"""Published figures measured again and judged."""
