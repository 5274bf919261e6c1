# shellcheck shell=sh disable=SC2034,SC2154 # its sisters use these, or set them
# -- directories: whose run uses which, and runs that have one of their own -------------------------
#
# A job runs in the directory that it names, or in jobs/ID/tree where that exists. A lease says the
# first; whoever has the second disturbs nobody.

locate_tree() { # sets where: the directory where the job is to run, as all of them spell it
    expand "$directory"
    where=$dir
    ! cd -P -- "$dir" 2>/dev/null || where=$PWD
    cd "$base/jobs" || exit
}

# Sets users: the other jobs that hold a slot, on any node with this home, and run in $where. One that
# has a directory of its own does not.
find_users() {
    users=''
    for lease in ../locks/*/leases/*; do
        other=${lease##*.}
        if [ "$other" = "$id" ] || [ -L "$other/exit" ] || [ -d "$other/tree" ]; then continue; fi
        { read -r _ && IFS= read -r words; } 2>/dev/null <"$lease" || continue
        if [ "$words" = "$where" ] && may_run "$lease"; then users="$users $other"; fi
    done
}

may_run() { # whether anything of the job with the lease $1 may still run; another node cannot be asked
    case $1 in "$locks"/*) alive "${1##*/}" || has_members "${1##*.}" ;; esac
}

verb_using() { # the jobs that hold a slot and run in the directory that is named on our input
    id='' where=''
    IFS= read -r where
    find_users
    echo "users$users"
    echo "done"
}

verb_users() { # the other jobs that run in the directory of job $1, which holds a slot
    id=$1 users=''
    for lease in "$locks"/leases/*".$id"; do
        { read -r _ && IFS= read -r where; } 2>/dev/null <"$lease" && find_users
    done
    echo "users$users"
    echo "done"
}

take_snapshot() {
    trouble=''
    [ -z "$isolate" ] || [ -d "$id/tree" ] || snapshot || refuse snapshot "snapshot${trouble:+ $trouble}"
}

snapshot() { # the tree as it is now: by reflinks or hard links where these work, else a copy
    expand "$directory"
    [ -d "$dir" ] || [ "$missing" = fail ] || return 0 # the home directory serves, as without a snapshot
    dir=$(cd -- "$dir" && pwd -P) || return
    [ -z "$directory" ] || ours_alone "$dir" || return
    any=$(find "$dir" -type f | head -n 1)
    for how in '-a --reflink=always' -al -a -R; do
        ! has " $how " --reflink=always || cp --reflink=always "$any" "$id/part.file" || continue
        # It takes its name when it is whole: from then on a sync may change what it was taken from.
        # shellcheck disable=SC2086 # options
        cp $how "$dir" "$id/part.tree" && mv "$id/part.tree" "$id/tree" && return
        rm -rf "$id/part.tree"
    done
    return 1
} 2>/dev/null

# A directory of its own for job $1, whose client brings the tree there: with what lies in the shared
# one, where links make that cheap and nobody wants it fresh, else empty. Files that come and go there meanwhile are no trouble.
verb_seed() {
    id=$1
    # shellcheck source=/dev/null
    . "./$id/spec/run"
    settings
    expand "$directory"
    [ -d "$id/tree" ] || seed 2>/dev/null
    echo "seed $([ -d "$id/tree" ] && echo yes)"
    echo "done"
}

seed() {
    remove_tree "$id" part.tree
    marker=$dir/.gridops/marker
    if [ -z "$fresh" ] && [ -f "$marker" ] && dir=$(cd -- "$dir" && pwd -P) && ours_alone "$dir"; then
        if cp --reflink=always "$marker" "$id/part.file"; then
            cp -a --reflink=always "$dir" "$id/part.tree"
        elif ln -f "$marker" "$id/part.file"; then
            cp -al "$dir" "$id/part.tree"
        fi
        rm -f "$id/part.file"
    fi
    mkdir -p "$id/part.tree" && mv "$id/part.tree" "$id/tree"
}

remove_tree() { # of job $1, or what it has as $2; it may have directories that cannot be written to
    set -- "$1/${2:-tree}"
    rm -rf "$1" || { find "$1" -type d -exec chmod u+rwx {} + && rm -rf "$1"; }
} 2>/dev/null
