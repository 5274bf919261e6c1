#!/bin/sh
# One Debian machine with systemd as its first process, for as long as our standard input is open.
#
# $1 the tree of files it starts from, which stays as it is   $2 an empty directory of its own
# $3 its name                                                 $4 the public key of its users
#
# Wants mounts and a network of its own: `unshare --mount --net debian.sh ...`. What the machine writes
# is kept in memory and outlives its boots; nothing of it, nor of its mounts, network and cgroups is
# left when we have ended.
#
# Words on standard input: "on" boots it, "cut" takes its power away. On standard output: "ready" once,
# "on PID" with the number that its first process has here, at each boot (a reboot too), and "off".

set -eu

disk=$2 name=$3 key=$4
root=$disk/root console=$disk/console
nspawn='' first=''

make_disk() {
    mount -t tmpfs -o mode=755 tmpfs "$disk"
    mkdir "$disk/changes" "$disk/work" "$root"
    mount -t overlay -o "lowerdir=$1,upperdir=$disk/changes,workdir=$disk/work" overlay "$root"
    echo "$name" >"$root/etc/hostname"
    for user in alice bob; do
        mkdir -m 700 "$root/home/$user/.ssh"
        cp "$key" "$root/home/$user/.ssh/authorized_keys"
        chroot "$root" chown -R "$user:" "/home/$user/.ssh"
    done
}

# Two machines in one cgroup would find each other's units there; so each gets its own, in whatever
# hierarchies systemd might look at.
make_cgroups() {
    cgroups=''
    for top in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
        [ -f "$top/cgroup.procs" ] || continue
        mkdir "$top/gridops-$$"
        cgroups="$cgroups $top/gridops-$$"
    done
}

remove_cgroups() {
    for cgroup in $cgroups; do
        find "$cgroup" -depth -type d -exec rmdir {} + || :
    done
}

# Ours is the network that it gets, named so that it may configure devices there. 133 is how nspawn says
# that the machine wants to be booted again.
power_on() {
    status=133
    while [ "$status" = 133 ]; do
        # shellcheck disable=SC2016 # for the inner shell
        SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 sh -c '
            for cgroup in $1; do echo $$ >"$cgroup/cgroup.procs"; done
            shift
            exec "$@"' sh "$cgroups" \
            systemd-nspawn --quiet --register=no --keep-unit --directory="$root" --machine="$name" \
            --network-namespace-path=/proc/self/ns/net --boot </dev/null >>"$console" 2>&1 &
        nspawn=$!
        echo "$nspawn" >"$disk/nspawn"
        status=0
        announce
        wait "$nspawn" || status=$?
    done
    rm "$disk/nspawn"
    echo off
}

# Sets first: the number of its first process.
find_first() {
    first=''
    read -r nspawn <"$disk/nspawn" || return
    read -r first _ <"/proc/$nspawn/task/$nspawn/children" || [ -n "$first" ] # it has no line's end
} 2>/dev/null

announce() { # once systemd runs
    until find_first && [ "$(cat "/proc/$first/comm" 2>/dev/null)" = systemd ]; do
        kill -0 "$nspawn" 2>/dev/null || return 0
        sleep 0.05
    done
    echo "on $first"
}

cut_power() { # all processes of a process table end with its first one
    ! find_first || kill -KILL "$first"
}

make_disk "$1"
make_cgroups
ip link set lo up
echo ready
while read -r word; do
    case $word in
    on) power_on & ;;
    cut) cut_power ;;
    esac
done
cut_power
wait
remove_cgroups
