"""An image at an address of the web, within the limits of files (``image_files``) and of servers (``pace``)."""

from cascadezoo.hub import transport
from cascadezoo.image_files import most_bytes


def fetch_image(url: str) -> bytes:
    """The bytes of an image file at an http(s) address, for ``Detector.predict``.

    Redirects are followed within https; proxies, certificates and netrc are those of the environment.  Fetch no address
    that a stranger may choose: this process asks whatever it can reach.

    Raises:
        Offline: the network is switched off by ``HF_HUB_OFFLINE`` or ``CASCADEZOO_OFFLINE``.
        DownloadFailed: the server refuses, breaks off, is too slow, or sends more bytes than an image may have.
        UnsafeRedirect: it leads from https to http, or on and on.
    """
    return transport.fetch_bytes(url, most_bytes())
