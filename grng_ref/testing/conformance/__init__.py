"""The checker of foreign implementations: adapters, verdicts, diagnosis."""
