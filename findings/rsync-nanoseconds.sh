#!/bin/sh
# Tool: rsync 3.2.7 (Debian's 3.2.7-1+deb12u6); 3.5.0 does the same
# Expected: rsync, which sends times to the nanosecond, also compares them so: a file of another time
#   is another file.
# Seen: of two files of the same size whose times differ within one second, it takes the second for
#   the first: nothing is sent, status 0, the old content stays. `--modify-window=-1` compares all of
#   the time.
# Output: what is there after `one` (at .1 s) and `two` (at .9 s) were sent in turn
#   rsync -a: one
#   rsync -a --modify-window=-1: two
#   its time: .900000000

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
write() { echo "$1" >tree/file && touch -d "2026-01-01 00:00:00$2" tree/file; }
send() { root/usr/bin/rsync -a "$@" tree/ to/; }
{
    write one .1 && send
    write two .9 && send
    echo "rsync -a: $(cat to/file)"
    send --modify-window=-1
    echo "rsync -a --modify-window=-1: $(cat to/file)"
    echo "its time: $(stat -c %y to/file | cut -c 20-29)"
} | tee seen
[ "$(cat seen)" = "rsync -a: one
rsync -a --modify-window=-1: two
its time: .900000000" ]
