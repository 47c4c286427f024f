"""The licence of published weights: the publisher's, or one that the user chooses and vouches for."""

import re
from typing import Any

from pydantic import Field

from cascadezoo.errors import LicenseUnstated, UsageError
from cascadezoo.spec.record import Record

UNSTATED, UNKNOWN = "unstated", "unknown"

_SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}")
# identifiers that the Hub knows, as far as weights of this kind carry them; any other is "other" with its name
_ON_THE_HUB = frozenset(
    (
        *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "mpl-2.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0"),
        *("cc0-1.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", UNKNOWN),
    )
)


class WeightsLicense(Record):
    """An SPDX identifier; ``stated``: by the weights' publisher, else the user who publishes them chose it."""

    id: str = Field(pattern=f"^{_SPDX.pattern}$")
    stated: bool

    @property
    def share_alike(self) -> bool:
        """Whether copies and adaptations must be passed on under this same licence."""
        return "-SA-" in self.id.upper()

    @property
    def url(self) -> str | None:
        """Its text: at Creative Commons, else at SPDX; None for the Hub's "unknown"."""
        name = self.id.lower()
        if name == UNKNOWN:
            return None
        if name.startswith("cc-by"):  # the address that these licences ask to be named by
            kind, _, version = name.removeprefix("cc-").rpartition("-")
            return f"https://creativecommons.org/licenses/{kind}/{version}/"
        return f"https://spdx.org/licenses/{self.id}.html"

    def front_matter(self) -> dict[str, Any]:
        """The fields of a model card; the Hub's identifiers are SPDX's in lower case."""
        if self.id.lower() in _ON_THE_HUB:
            return {"license": self.id.lower()}
        return {"license": "other", "license_name": self.id.lower(), "license_link": self.url}


def require_identifier(given: str | None) -> None:
    """Raise UsageError for what cannot be an SPDX identifier."""
    if given is not None and not _SPDX.fullmatch(given):
        raise UsageError(f"{given!r} is no licence identifier: give one of SPDX's, such as Apache-2.0")


def license_of(stated: str | None, given: str | None, entry: str) -> WeightsLicense:
    """The licence to publish under, from what the publisher states ("unstated": nothing; None: the weights are the
    user's own) and what the caller gives.

    Raises LicenseUnstated where neither says any, and UsageError where the caller gives another than the publisher's,
    or either is no SPDX identifier.
    """
    require_identifier(given)
    if stated not in (UNSTATED, None):
        if not _SPDX.fullmatch(stated):
            raise UsageError(
                f"the weights of {entry} state the licence {stated[:60]!r}, which is no identifier of SPDX's: have it "
                "stated as one, such as Apache-2.0, by whoever made the file"
            )
        if given is not None and given.lower() != stated.lower():
            raise UsageError(f"the weights of {entry} are under {stated}, and stay so: leave out --license {given}")
        return WeightsLicense(id=stated, stated=True)
    if given is None and stated is None:
        raise LicenseUnstated(
            f"these weights of {entry} are your own: say with --license ID under which licence they go"
        )
    if given is None:
        raise LicenseUnstated(
            f"the publisher of {entry} licenses its code and states no licence for the weights: find out under which "
            "you may publish them, and say so with --license ID (an SPDX identifier, or unknown)"
        )
    return WeightsLicense(id=given, stated=False)
