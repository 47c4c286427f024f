"""Whether the network may be touched at all.  The environment is read at call time."""

import os

from cascadezoo.errors import Offline

_SWITCHES = ("HF_HUB_OFFLINE", "CASCADEZOO_OFFLINE")
_ON = frozenset({"1", "true", "yes", "on"})


def is_on(name: str) -> bool:
    """Whether an environment variable is 1, true, yes or on, in any case of letters."""
    return os.environ.get(name, "").strip().lower() in _ON


def switch() -> str | None:
    """Which variable forbids the network: ``HF_HUB_OFFLINE`` or ``CASCADEZOO_OFFLINE``, if one does."""
    return next((name for name in _SWITCHES if is_on(name)), None)


def is_offline() -> bool:
    """Whether the network is switched off."""
    return switch() is not None


def refuse_if_offline(what: str) -> None:
    """Raise Offline where the network is switched off; ``what`` would have been fetched."""
    if forbidding := switch():
        raise Offline(
            f"{what} is not on this machine, and {forbidding} forbids the network: unset it, or fetch it elsewhere"
        )
