#!/bin/sh
# Tool: rsync 3.2.7 (Debian's 3.2.7-1+deb12u6); 3.5.0 does the same
# Expected: with --from0, which is for names of any kind, each name of --files-from is a name.
# Seen: one that begins with `#` or `;` is taken for a comment: it is left out without a word, with
#   status 0. `git ls-files -z | rsync --from0 --files-from=-` loses such files. With `./` in front
#   they are sent.
# Output: what arrives of `#notes`, `;draft` and `z`
#   as they are: z, status 0
#   after ./: #notes ;draft z, status 0

set -u
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 2' HUP INT TERM
chmod 755 "$work" && cd "$work" || exit 2
{ apt-get download -q rsync=3.2.7-1+deb12u6 && dpkg -x rsync_*.deb root; } >said 2>&1 || {
    cat said
    exit 2
}

mkdir tree
touch 'tree/#notes' 'tree/;draft' tree/z
sent() { # NAME...: what arrives of them
    rm -rf to
    printf '%s\0' "$@" | root/usr/bin/rsync -a --from0 --files-from=- tree/ to/
    status=$?
    # shellcheck disable=SC2012 # plain names
    echo "$(LC_ALL=C ls to | tr '\n' ' ' | sed 's/ $//'), status $status"
}
{
    echo "as they are: $(sent '#notes' ';draft' z)"
    echo "after ./: $(sent './#notes' './;draft' ./z)"
} | tee seen
[ "$(cat seen)" = "as they are: z, status 0
after ./: #notes ;draft z, status 0" ]
