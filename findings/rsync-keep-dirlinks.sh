#!/bin/sh
# Tool: rsync 3.5.0 (Debian's 3.5.0+ds1-0+deb12u1) beside 3.2.7 (3.2.7-1+deb12u6)
# Expected: a security update of rsync keeps what --keep-dirlinks is for: a symlink to a directory at
#   the receiver stands for that directory, wherever it leads.
# Seen: since the update of Debian 12, a symlink that leads out of the target ends with status 23 and
#   "Too many levels of symbolic links", of which there is one. A symlink within the target works.
# Output: `rsync -aK tree/ to/`, where tree has data/new and to/data is a symlink
#   3.2.7, data -> ../big: status 0, big has new old
#   3.2.7, data -> real: status 0, real has new
#   3.5.0, data -> ../big: status 23, big has old
#   3.5.0, data -> real: status 0, real has new

set -u
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 2' HUP INT TERM
chmod 755 "$work" && cd "$work" || exit 2
for version in 3.2.7-1+deb12u6 3.5.0+ds1-0+deb12u1; do
    { apt-get download -q rsync=$version && dpkg -x "rsync_${version}_"*.deb "${version%%[-+]*}"; } \
        >said 2>&1 || {
        cat said
        exit 2
    }
done

mkdir -p tree/data
touch tree/data/new
# shellcheck disable=SC2012 # plain names
words() { LC_ALL=C ls "$1" | tr '\n' ' ' | sed 's/ $//'; }
send() { # VERSION LINK DIRECTORY
    rm -rf to big
    mkdir to to/real big
    touch big/old
    ln -s "$2" to/data
    "$1/usr/bin/rsync" -aK tree/ to/ 2>/dev/null
    echo "$1, data -> $2: status $?, ${3##*/} has $(words "$3")"
}
for version in 3.2.7 3.5.0; do
    send "$version" ../big big
    send "$version" real to/real
done | tee seen
[ "$(cat seen)" = "3.2.7, data -> ../big: status 0, big has new old
3.2.7, data -> real: status 0, real has new
3.5.0, data -> ../big: status 23, big has old
3.5.0, data -> real: status 0, real has new" ]
