#!/bin/sh
# Tool: GNU sed 4.9 (Debian's 4.9-1+deb12u1)
# Expected: of several files, one that cannot be read is passed over, as one that cannot be opened is:
#   sed says so, goes on with the next, and ends with a status that is not 0.
# Seen: a file that opens and then fails to be read ends all of it; those behind it are not looked at.
#   So `sed ... /proc/[0-9]*/stat` misses processes whenever one ends between the two.
# Output: of `sed -n p FIRST second`, where second holds one line
#   missing: status 2, line
#   a directory: status 4, nothing

set -u
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 2' HUP INT TERM
chmod 755 "$work" && cd "$work" || exit 2
{ apt-get download -q sed=4.9-1+deb12u1 && dpkg -x sed_*.deb root; } >said 2>&1 || {
    cat said
    exit 2
}

mkdir directory
echo line >second
show() { # NAME FIRST
    got=$(root/bin/sed -n p "$2" second 2>/dev/null)
    echo "$1: status $?, ${got:-nothing}"
}
{
    show missing nowhere
    show "a directory" directory
} | tee seen
[ "$(cat seen)" = "missing: status 2, line
a directory: status 4, nothing" ]
