#!/bin/sh
# Puts the benchmark tutorial's files into ./medperf_tutorial. Same as: medperf tutorial setup benchmark
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || exit 1
exec sh "$here/../scripts/medperf" tutorial setup benchmark "$@"
