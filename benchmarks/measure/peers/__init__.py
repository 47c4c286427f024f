"""The same network in other programs, beside ours: ``python -m cascadezoo.benchmarks.measure.peers`` (``__main__.py``).

``contender.py`` says what is compared; ``ours.py`` and, for each peer, a file of its name make it, and ``runtimes.py``
what runs exported files; ``latency.py`` times whole networks in turn, ``features.py`` backbone and neck alone,
``memory.py`` and ``training.py`` what their names say.
"""
