# shellcheck shell=sh
# What patterns name on a node; gridops/transfers/fetch/remote.py sends it and reads the answer.
#
#   BASE PATTERN ...     pairs: a directory (absolute, ~/..., or below the home), a pattern below it
#
# The answer is fields that end in NUL: for each pair `b` and the directory's physical path (or `-`
# where there is no such directory), then what it matches, relative to that:
#   m NAME     as it is; a slash at its end: a symlink to a directory that the pattern names outright
#   c NAME     a symlink to a file that the pattern names outright
# and `.` when all has been said. Names may hold any byte, so a line is no unit here.

set -u
LC_ALL=C
export LC_ALL
unset CDPATH
IFS='' # an expanded pattern is one word before its wildcards are

expand() { # sets dir: the directory $1, a leading tilde spelled out
    # shellcheck disable=SC2088 # the tilde is text here
    case $1 in
    '' | '~') dir=$HOME ;;
    '~/'*) dir=$HOME/${1#??} ;;
    /*) dir=$1 ;;
    *) dir=$HOME/$1 ;;
    esac
}

# Functions that call themselves keep what they need in their arguments: sh has no other locals.

below() { # PREFIX PATTERN: what PATTERN matches in the directory PREFIX (empty, or with a slash)
    case $2 in
    */*) segment "$1" "${2%%/*}" "${2#*/}" ;;
    *) segment "$1" "$2" '' ;;
    esac
}

segment() { # PREFIX SEGMENT REST
    case $2 in
    '**') deep "$1" "$3" ;;
    *[*?[]*)
        entry "$1$2" "$3" wild # a name may hold such characters
        # shellcheck disable=SC2086 # the pattern is to be expanded
        for found in "$1"$2; do
            case ${found##*/} in . | ..) continue ;; esac
            [ "$found" = "$1$2" ] || entry "$found" "$3" wild
        done
        ;;
    *) entry "$1$2" "$3" plain ;;
    esac
}

entry() { # NAME REST wild|plain: REST below NAME, or NAME itself where there is none
    if [ -n "$2" ]; then
        [ ! -d "$1" ] || below "$1/" "$2"
    elif [ "$3" = wild ] || [ ! -L "$1" ] || [ ! -e "$1" ]; then
        if [ -e "$1" ] || [ -L "$1" ]; then printf 'm%s\0' "$1"; fi
    elif [ -d "$1" ]; then
        printf 'm%s/\0' "$1"
    else
        printf 'c%s\0' "$1"
    fi
}

deep() { # PREFIX REST: REST in PREFIX and in every directory below it
    below "$1" "$2"
    for found in "$1"*/; do
        [ ! -d "$found" ] || [ -L "${found%/}" ] || deep "$found" "$2"
    done
}

while [ $# -gt 1 ]; do
    (
        expand "$1"
        if cd -P -- "$dir" 2>/dev/null; then
            printf 'b%s\0' "$PWD"
            below '' "$2"
        else
            printf 'b-\0'
        fi
    )
    shift 2
done
printf '.\0'
