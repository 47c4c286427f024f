"""The licence of published weights: the publisher's, or one that the user chooses and vouches for."""

import re
from typing import Any

from pydantic import Field

from cascadezoo.errors import LicenseUnstated, UsageError
from cascadezoo.spec.record import Record

UNSTATED, UNKNOWN = "unstated", "unknown"

_SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}")
# identifiers of SPDX's, as its pages spell them, that weights of this kind carry
_PAGES = {
    name.lower(): f"https://spdx.org/licenses/{name}.html"
    for name in (
        *("Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "MPL-2.0", "ISC", "Zlib", "Unlicense", "BSL-1.0"),
        *("GPL-2.0", "GPL-2.0-only", "GPL-2.0-or-later", "GPL-3.0", "GPL-3.0-only", "GPL-3.0-or-later", "LGPL-2.1"),
        *("LGPL-3.0", "AGPL-3.0", "AGPL-3.0-only", "AGPL-3.0-or-later", "EPL-2.0", "EUPL-1.2", "CC0-1.0", "ODbL-1.0"),
        *("CDLA-Permissive-1.0", "CDLA-Permissive-2.0", "CDLA-Sharing-1.0", "AFL-3.0", "Artistic-2.0", "WTFPL"),
    )
}
_CREATIVE_COMMONS = re.compile(r"cc-(by(?:-nc)?(?:-sa|-nd)?)-(\d\.\d)")
# names of the Hub's own, which have no page
_OF_THE_HUB = frozenset(
    (
        *(UNKNOWN, "other", "openrail", "openrail++", "creativeml-openrail-m", "bigscience-openrail-m", "gpl", "lgpl"),
        *("bigcode-openrail-m", "bigscience-bloom-rail-1.0", "cc", "bsd", "gemma", "llama2", "llama3", "llama3.1"),
        *("llama3.2", "llama3.3", "llama4", "apple-ascl", "apple-amlr", "intel-research", "deepfloyd-if-license"),
    )
)
# identifiers that the Hub knows, as far as weights of this kind carry them; any other is "other" with its name
_ON_THE_HUB = _OF_THE_HUB | frozenset(
    (
        *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "mpl-2.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0"),
        *("cc0-1.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"),
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
        """Its text: at Creative Commons, which asks for it, else at SPDX; None where no page of it is known."""
        name = self.id.lower()
        if found := _CREATIVE_COMMONS.fullmatch(name):
            return f"https://creativecommons.org/licenses/{found[1]}/{found[2]}/"
        return _PAGES.get(name)

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
