"""Whether the network may be touched at all.  The environment is read at call time."""

import os

from cascadezoo.errors import Offline

_SWITCHES = ("HF_HUB_OFFLINE", "CASCADEZOO_OFFLINE")
_ON = frozenset({"1", "true", "yes", "on"})


def is_offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` or ``CASCADEZOO_OFFLINE`` is 1, true, yes or on, in any case of letters."""
    return any(os.environ.get(name, "").strip().lower() in _ON for name in _SWITCHES)


def refuse_if_offline(what: str) -> None:
    """Raise Offline where the network is switched off; ``what`` would have been fetched."""
    if is_offline():
        named = next(name for name in _SWITCHES if os.environ.get(name, "").strip().lower() in _ON)
        raise Offline(
            f"{what} is not on this machine, and {named} forbids the network: unset it, or fetch it elsewhere"
        )
