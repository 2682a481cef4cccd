"""How the publisher and the client for results reach Redis: by redis-py, which neither installs by itself."""

from __future__ import annotations

from typing import Any, Union


class RedisMissing(ImportError):
    """A URL was given, and redis-py, which connects to it, is not installed."""


def client(server: Union[str, Any]) -> Any:
    """The client for a URL; anything else is taken for a client already, one that answers in bytes."""
    if not isinstance(server, str):
        return server
    try:
        import redis
    except ImportError:
        raise RedisMissing(
            f"connecting to {_shown(server)} needs redis-py, which is not installed here: "
            "`pip install redis`, or give a client of your own in the place of the URL"
        ) from None
    return redis.Redis.from_url(server)


def _shown(url: str) -> str:
    """The URL without user and password."""
    scheme, separator, rest = url.partition("://")
    return scheme + separator + rest.rpartition("@")[2]
