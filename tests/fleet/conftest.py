"""Tests of ``--engine ray``: collected only where Ray is installed, as ``make test-extras`` has it."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("ray") else ["test_*.py"]
