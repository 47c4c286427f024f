"""What a verification found, as records, tables and pages, and the rules by which it is judged."""
