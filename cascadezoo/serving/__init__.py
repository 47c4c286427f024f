"""A model behind HTTP, as ``cascadezoo serve`` starts it (docs/serving.md).

``batching.py``, ``pools.py`` and ``places.py`` know neither HTTP nor torch; ``received.py`` and ``app.py``
are the routes.
"""
