"""Steps are safe to repeat; a database that restarts or a machine that swaps should not cost a run."""

from dagster import Backoff, Jitter, RetryPolicy

retry = RetryPolicy(max_retries=2, delay=5, backoff=Backoff.EXPONENTIAL, jitter=Jitter.PLUS_MINUS)
