#!/bin/sh
# Tool: cp of GNU coreutils 9.1 (Debian's 9.1-1), on a file system without reflinks (ext4)
# Expected: `cp --reflink=always A B`, where that cannot be done, leaves no B: it fails as a whole.
# Seen: it fails with status 1 and leaves an empty B. So "a reflink, else a hard link" ends with "File
#   exists", and "is B there?" is answered with yes.
# Output:
#   cp --reflink=always A B: status 1, B has 0 bytes
#   ln A B: status 1

set -u
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 2' HUP INT TERM
chmod 755 "$work" && cd "$work" || exit 2
{ apt-get download -q coreutils=9.1-1 && dpkg -x coreutils_*.deb root; } >said 2>&1 || {
    cat said
    exit 2
}
[ "$(stat -f -c %T .)" = ext2/ext3 ] || {
    echo "this needs a temporary directory on ext4"
    exit 2
}

echo content >A
{
    root/bin/cp --reflink=always A B 2>/dev/null
    echo "cp --reflink=always A B: status $?, B has $(stat -c %s B) bytes"
    ln A B 2>/dev/null
    echo "ln A B: status $?"
} | tee seen
[ "$(cat seen)" = "cp --reflink=always A B: status 1, B has 0 bytes
ln A B: status 1" ]
