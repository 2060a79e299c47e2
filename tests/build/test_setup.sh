#!/bin/sh
# contrib/setup finds the machine's own Debian mirror in whatever form the apt sources have. Prints TAP.
set -u
setup=$(cd "$(dirname "$0")/../.." && pwd)/contrib/setup
scratch=$(mktemp -d) || exit 2
trap 'rm -rf "$scratch"' EXIT
number=0
failed=0

fresh() {
    rm -rf "$scratch/apt"
    mkdir -p "$scratch/apt/sources.list.d"
    echo 'VERSION_CODENAME=bookworm' >"$scratch/os-release"
}

expect() { # NAME EXPECTED
    number=$((number + 1))
    got=$(ADIT_APT_DIR=$scratch/apt ADIT_OS_RELEASE=$scratch/os-release "$setup" --show-backports)
    if [ "$got" = "$2" ]; then
        echo "ok $number - $1"
    else
        echo "not ok $number - $1"
        echo "$got" | sed 's/^/# got: /'
        failed=1
    fi
}

fresh
cat >"$scratch/apt/sources.list.d/debian.sources" <<'EOF'
# the security suite comes first and is not the one
Types: deb
URIs: http://mirror.test/debian-security
Suites: bookworm-security
Components: main
Signed-By: /keys/security.gpg

Types: deb deb-src
# a comment in between
URIs: http://mirror.test/debian/20250520T000000Z
Suites: bookworm bookworm-updates
Components: main contrib
Check-Valid-Until: no
Signed-By: /keys/archive.gpg
EOF
expect 'deb822, with options' 'sources
Types: deb
URIs: http://mirror.test/debian/20250520T000000Z
Suites: bookworm-backports
Components: main
Check-Valid-Until: no
Signed-By: /keys/archive.gpg'

fresh
cat >"$scratch/apt/sources.list.d/a.sources" <<'EOF'
Types: deb
URIs: http://off.test/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb
URIs: http://one.test/debian
 http://two.test/debian
Suites:
 bookworm
 bookworm-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abcd
 -----END PGP PUBLIC KEY BLOCK-----
EOF
expect 'deb822, a disabled entry, folded fields and the key itself' 'sources
Types: deb
URIs: http://one.test/debian
Suites: bookworm-backports
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abcd
 -----END PGP PUBLIC KEY BLOCK-----'

fresh
cat >"$scratch/apt/sources.list" <<'EOF'
# deb http://comment.test/debian bookworm main
deb cdrom:[Debian 12]/ bookworm main
deb-src http://source.test/debian bookworm main
deb http://other.test/packages bookworm stable
deb [ arch=amd64 signed-by=/keys/archive.gpg ] http://mirror.test/debian  bookworm contrib main # the mirror
deb http://second.test/debian bookworm main
EOF
expect 'a one-line entry, with options' 'list
deb [ arch=amd64 signed-by=/keys/archive.gpg ] http://mirror.test/debian bookworm-backports main'

fresh
echo 'deb http://mirror.test/debian/ oldstable main' >"$scratch/apt/sources.list.d/debian.list"
expect 'a suite that is named by its role' 'list
deb http://mirror.test/debian/ bookworm-backports main'

fresh
cat >"$scratch/apt/sources.list" <<'EOF'
deb http://mirror.test/debian trixie main
deb http://mirror.test/debian-security bookworm-security main
deb http://mirror.test/debian bookworm contrib
EOF
expect 'no suitable entry' ''

fresh
cat >"$scratch/apt/sources.list.d/adit-backports.list" <<'EOF'
deb http://mirror.test/debian bookworm main
EOF
expect 'its own file is no source' ''

echo "1..$number"
exit $failed
