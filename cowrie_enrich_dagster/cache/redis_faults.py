"""Why Redis failed, in our own words."""

from __future__ import annotations

import redis

_REASONS: tuple[tuple[type[BaseException], str], ...] = (  # the first that fits
    (redis.AuthenticationError, "it refused our credentials"),
    (redis.exceptions.AuthorizationError, "it refused our credentials"),
    (redis.exceptions.NoPermissionError, "our user lacks a permission"),
    (redis.BusyLoadingError, "it is still loading its data"),
    (redis.TimeoutError, "it does not answer in time"),
    (redis.ConnectionError, "no connection"),
    (redis.exceptions.OutOfMemoryError, "it is out of memory and evicts nothing"),
    (redis.ReadOnlyError, "it is a read-only replica"),
)


class NotRedis(Exception):
    """The answer is none that Redis gives to this command."""


def reason(error: BaseException) -> str:
    """Why, in our own words: the server's may quote what we sent it, such as a password."""
    if not isinstance(error, (redis.RedisError, OSError)) or isinstance(error, redis.InvalidResponse):
        return "what answers there is not Redis"
    return next((words for kind, words in _REASONS if isinstance(error, kind)), type(error).__name__)
