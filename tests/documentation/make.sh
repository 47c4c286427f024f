#!/usr/bin/env bash
# In place of make: its targets are there, and their commands can be told.
set -euo pipefail
exec /usr/bin/env -u MAKEFLAGS "$(command -v -p make)" --dry-run --directory "$CLONE" "$@" > /dev/null
