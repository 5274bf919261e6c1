# shellcheck shell=sh disable=SC2034 # trouble and remedy are for whoever asks
# Who else may write to a place on this machine: their files would run as us. Scripts that trust what
# they find in a directory begin with this; `stat -c` is coreutils' and BusyBox's.

# Whether the directory $1 (absolute, without symlinks) and the entries of it that follow belong to us
# and are writable by us alone, and whether nobody else can put another in its place: what it lies in
# belongs to us or root, and whoever else may write there has only his own (a sticky directory).
# Sets trouble, in words, and remedy.
ours_alone() { check_places $# "$@"; }

# The same, of what the directory $1 and those above it mean for a new one in it.
safe_to_make_in() { check_places 0 "$1"; }

check_places() { # HOW_MANY are to be ours alone, PATH...
    trouble='' remedy='' our_uid='' own_places=$1
    shift
    above=$1
    while [ -n "$above" ] && [ "$above" != / ]; do
        above=${above%/*}
        set -- "$@" "${above:-/}"
    done
    # The owner of /proc/self/ is who we are.
    places=$(stat -c %u:%g:%a -- /proc/self/ "$@" 2>/dev/null) || {
        trouble="nobody can tell whose $1 is" remedy="there must be a stat, and a /proc"
        return 1
    }
    for place in $places; do
        if [ -z "$our_uid" ]; then
            our_uid=${place%%:*}
            continue
        fi
        is_safe "$place" "$1" || return
        own_places=$((own_places - 1))
        shift
    done
}

is_safe() { # UID:GID:MODE PATH
    case $own_places:${1%%:*} in
    *":$our_uid") ;;
    0:0 | -*:0 | 0:65534 | -*:65534) ;; # root, also as a user namespace shows the one outside
    *)
        trouble="$2 belongs to $(stat -c %U -- "$2")"
        remedy="move remote_root to a directory of yours"
        return 1
        ;;
    esac
    place_mode=${1##*:} place_group=${1#*:} place_group=${place_group%:*}
    case $own_places:$place_mode in 0:[1357]??? | -*:[1357]???) return 0 ;; esac
    case $place_mode in
    *[2367]) writers="others" ;;
    *[2367]?)
        ! is_own_group "$place_group" "$2" || return 0
        writers="the group $(stat -c %G -- "$2")"
        ;;
    *) return 0 ;;
    esac
    trouble="$2 can be written by $writers"
    remedy="there: \`chmod go-w $2\`"
    [ "$own_places" -gt 0 ] || remedy="move remote_root, or make that sticky there: \`chmod +t $2\`"
    return 1
}

# Whether the group $1, which may write to $2, is nobody but us: root's, or one that has our name and no
# further member, as Debian, Ubuntu and Red Hat give every user. (An access list shows as a plus sign.)
is_own_group() {
    case $(ls -ld -- "$2") in ??????????+*) return 1 ;; esac
    [ "$1" != 0 ] || return 0
    [ "$1" = "$(id -g)" ] && our_name=$(id -un) && [ "$(id -gn)" = "$our_name" ] || return
    group_members=$(getent group "$our_name" 2>/dev/null || grep "^$our_name:" /etc/group)
    case ${group_members##*:} in '' | "$our_name") ;; *) return 1 ;; esac
}
