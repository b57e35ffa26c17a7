#!/bin/sh
# Empties the development server's data in this folder, or makes it in a fresh clone. The server may be running.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || exit 1
if [ -e "$here/db.sqlite3" ]; then set -- reset --data "$here" --yes "$@"; else set -- init --data "$here" --development "$@"; fi
exec sh "$here/../scripts/medperf" server "$@"
