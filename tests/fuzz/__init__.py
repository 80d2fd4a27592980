"""Fuzzing of every parser that reads what strangers wrote: `python -m tests.fuzz`."""
