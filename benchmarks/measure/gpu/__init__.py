"""All that needs a GPU, in one command that makes the most of a short time with one (``make gpu``).

``plan.py`` what the parts are and their shares of the time, ``runner.py`` a process for each, cut where its time is up,
``part.py`` what such a process does, ``report.py`` the file that it writes as it goes; then a file for each part, and
``page.py``, what docs/speed.md says of their reports.
"""
