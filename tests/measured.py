"""The environment that a benchmark's report names, for tests of the sections that are made of it."""

ENVIRONMENT = {
    "cpu": "a processor",
    "cores": 2,
    "modified": False,
    "torch": None,
    "packages": {},
    "date": "2026-01-02T03:04:05",
}
