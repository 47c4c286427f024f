"""Publishers: their numerics and networks as data.  The only rooms, with ``converters``, where their names appear."""

from cascadezoo.providers import mmdet
from cascadezoo.spec import ModelSpec

SPECS: dict[str, dict[str, ModelSpec]] = {"mmdet": mmdet.SPECS}  # publisher -> architecture -> network
