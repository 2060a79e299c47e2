#!/bin/sh
# Makes configure and the Makefile.in from configure.ac and the Makefile.am.
set -eu
cd "$(dirname "$0")"

missing=
for pair in autoreconf:autoconf automake:automake pkg-config:pkg-config; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
if [ -n "$missing" ]; then
    echo "autogen.sh: missing tools. On Debian, contrib/setup installs all that adit needs, or:" >&2
    echo "    apt-get install$missing" >&2
    exit 1
fi

mkdir -p build-aux
exec autoreconf --install --warnings=all,no-portability "$@"
