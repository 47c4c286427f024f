#!/usr/bin/env bash
# In place of pip: what is installed is this project, an extra of it, or a package that pyproject.toml names.
set -euo pipefail
[ "$1" = install ] || exit 2
shift
for word in "$@"; do
    case $word in
    -* | . | *.whl) ;;
    ".["*"]") for extra in $(tr '[],' '   ' <<< "${word#.}"); do grep -q "^$extra = " "$CLONE/pyproject.toml"; done ;;
    *) grep -Eq "[\"\[]${word%%[<>=[]*}[]\">=\[]" "$CLONE/pyproject.toml" ;;
    esac
done
