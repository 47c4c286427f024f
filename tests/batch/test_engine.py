"""How a cluster's processors are shared among actors; what needs Ray itself is in tests/fleet."""

import pytest

from cascadezoo.batch.engine import _share
from cascadezoo.errors import MissingResource, UsageError


@pytest.mark.parametrize(
    ("nodes", "device", "actors", "share"),
    [
        ([(16, 8)], None, None, (8, 1, 1)),
        ([(16, 8)], "cuda", 12, (12, 1, 0.5)),  # no GPU has room for two actors of 8/12
        ([(16, 1), (8, 2)], None, None, (3, 1, 1)),
        ([(16, 8)], None, 3, (3, 1, 1)),
        ([(16, 8)], "cpu", None, (8, 2, 0)),
        ([(1, 0)], None, None, (1, 1, 0)),
        ([(2, 0)], None, 2, (2, 1, 0)),
        ([(9, 0)], None, 2, (2, 4, 0)),
        ([(3, 0), (3, 0)], None, None, (2, 3, 0)),  # a third actor of two would be on no machine
        ([(3, 0), (3, 0)], None, 3, (3, 1, 0)),
    ],
)
def test_what_each_actor_gets(nodes, device, actors, share) -> None:
    assert _share([{"CPU": cpus, "GPU": gpus} for cpus, gpus in nodes], device, actors) == share


def test_more_than_there_is() -> None:
    with pytest.raises(UsageError, match=r"3 actors on 2 CPUs: give at most one for each \(--actors\)"):
        _share([{"CPU": 2.0}], None, 3)
    with pytest.raises(MissingResource, match="the Ray cluster has no GPU"):
        _share([{"CPU": 2.0}], "cuda", None)
