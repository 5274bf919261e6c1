# shellcheck shell=sh disable=SC2154 # trust.sh comes before this and sets trouble, remedy
# The node's side of a sync; gridops/transfers/sync/remote.py sends it and reads the answers, which are fields
# that end in NUL, then lines. What went wrong is on stderr, with a status that is not 0.
#
#   prepare ROOT PROJECT ID ORIGIN KEY DRY MAKER TOKEN
#                                                 make or check the directory, which others may not
#                                                 write to (trust.sh comes before this)
#   plan    TARGET ID SIZE PACKED                 what `stage` would delete; changes nothing
#   stage   TARGET ID SIZE PACKED KEY DIGEST DELETE
#                                                 take the new manifest, delete what it has lost
#   clean   TARGET ID KEY                         drop the half-received files of an earlier sync
#   vouch   TARGET ID KEY ORIGIN TOKEN            all files there are those of this origin's tree
#
# TARGET/.gridops/marker              gridops made this directory, so it may delete in it
# TARGET/.gridops/origin              who synced last, and on a second line the token by which that one
#                                     knows that nobody has since; a token begins with its MAKER
# TARGET/.gridops/ID/manifest         what origin ID brought and nobody else brought since: a header
#                                     (tab, digest, "exact" or "more"), then names as in tree.py
# TARGET/.gridops/ID/dirs             the directories that the names of that manifest need
# TARGET/.gridops/ID/kinds            the manifest as it was sent: there a symlink has a tab at its end;
#                                     and symlinks that it has besides, which the tree lost; and where
#                                     those led (after the tab) that the transfer was to replace
# TARGET/.gridops/ID/looked           empty; written before the last look at what is in the tree's way
# TARGET/.gridops/ID/KEY.tmp,partial  rsync's unfinished files, for the node named KEY (several
#                                     nodes may share one directory over the network)

set -u
LC_ALL=C
export LC_ALL
unset CDPATH
umask 077
most=20000 # lines of names in an answer
tab=$(printf '\t')
nl='
'

say() { printf '%s\0' "$@"; }

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

# Sets has to yes or no: is there a program $1?
look_for() { if command -v "$1" >/dev/null 2>&1; then has=yes; else has=no; fi; }

# Does the directory $1 hold nothing (but perhaps our own state)?
is_empty() {
    for entry in "$1"/* "$1"/.[!.]* "$1"/..?*; do
        [ "${entry##*/}" = .gridops ] && continue
        if [ -e "$entry" ] || [ -L "$entry" ]; then return 1; fi
    done
}

is_marked() { [ -f .gridops/marker ] && [ ! -L .gridops ]; }

# Write the line $2 to the file $1, at once or not at all. (cat says why a write fails; printf, a
# builtin of most shells, may not.)
place() { printf '%s\n' "$2" | cat >"$1.$key" && mv -f -- "$1.$key" "$1"; }

# Sets line to the first one of the file $1.
first_line() {
    line=
    [ ! -f "$1" ] || IFS= read -r line <"$1" || :
}

# -- prepare --------------------------------------------------------------------------------------

prepare() {
    root=$1 project=$2 id=$3 origin=$4 key=$5 dry=$6 maker=$7 token=$8 made=no
    # shellcheck disable=SC2088
    case $root in
    '~') root=$HOME ;;
    '~/'*) root=$HOME/${root#??} ;;
    /*) ;;
    *) root=$HOME/$root ;;
    esac
    target=$root/$project
    check_way || return 0
    if [ ! -d "$target" ]; then
        [ "$dry" = no ] || { answer absent && return; }
        mkdir -p -- "$target" || exit 1
    fi
    cd -P -- "$target" || exit 1
    target=$PWD
    set --
    for entry in .gridops .gridops/marker .gridops/origin ".gridops/$id"; do
        [ ! -e "$entry" ] || [ -L "$entry" ] || set -- "$@" "$target/$entry"
    done
    ours_alone "$target" "$@" || { answer unsafe && return; }
    if ! is_marked; then
        { is_empty . && [ ! -L .gridops ]; } || { answer unmarked && return; }
        [ "$dry" = no ] || { answer new && return; }
        mkdir -p .gridops || exit 1
        made=yes
        place .gridops/marker "gridops syncs a project to this directory and may delete in it" ||
            exit 1
    fi
    state=.gridops/$id
    [ "$dry" = yes ] || make_room || exit 1
    answer marked
}

# Before anything is made: may we trust the place where the target will be?
check_way() {
    [ ! -d "$target" ] || return 0
    nearest=$target
    while [ -n "$nearest" ] && [ ! -d "$nearest" ]; do nearest=${nearest%/*}; done
    cd -P -- "${nearest:-/}" || exit 1
    safe_to_make_in "$PWD" && return
    answer unsafe
    return 1
}

# The directories that this sync works in, without what a killed one left there.
make_room() {
    is_empty "$state/$key.tmp" || rm -rf -- "$state/$key.tmp" || return
    for dir in "$state" "$state/$key.tmp" "$state/$key.partial"; do
        [ -d "$dir" ] || mkdir -p -- "$dir" || return
    done
}

answer() {
    head='' previous='' partial=no known='' blocked=''
    if [ "$1" = marked ]; then
        ask_token
        kinds=$state/kinds
        if [ -f "$kinds" ]; then # else an older client brought it, and we cannot know
            first_line "$state/manifest" && head=$line
            look_again
        fi
        is_empty "$state/$key.partial" || partial=yes
    fi
    if [ "$1" = unsafe ]; then head=$trouble previous=$remedy; fi
    say "$1" "$target" "${head#"$tab"}" "$previous" "$partial"
    look_for rsync && say "$has"
    look_for gzip && say "$has" "$known" "$blocked"
}

# Sets blocked, unless since the last look no directory of the tree has changed.
look_again() {
    ! is_unchanged <"$state/dirs" || return 0
    [ "$dry" = yes ] || true >"$state/looked.$key" # not ":", which would end the shell
    blocked=$(in_the_way <"$state/dirs")
    [ "$dry" = yes ] || [ -n "$blocked" ] || mv -f -- "$state/looked.$key" "$state/looked"
}

# Are the directories on stdin there, with the names that they had at the last look?
is_unchanged() {
    is_older . || return
    while IFS= read -r line; do
        locate "$line" && is_older "$target$dir/${base#./}" || return
    done
}

# shellcheck disable=SC3013 # all shells have -nt, though POSIX got it late
is_older() { [ "$state/looked" -nt "$1" ] && [ -d "$1" ] && [ ! -L "$1" ]; }

# Sets previous, and known: the token of the last sync, if it came from our maker. Else nobody's holds
# any more; only where nothing was before, ours holds now.
ask_token() {
    { IFS= read -r previous && IFS= read -r known; } 2>/dev/null <.gridops/origin || known=''
    case $known in "$maker".*) [ "$previous" != "$origin" ] || return 0 ;; esac
    known=''
    [ "$dry" = no ] || return 0
    if [ "$made" = yes ]; then
        known=$token
        place .gridops/origin "$origin$nl$token" || exit 1
    else
        place .gridops/origin "$origin" || exit 1
    fi
}

# -- deleting -------------------------------------------------------------------------------------

open_tree() {
    target=$1 id=$2
    if ! cd -P -- "$target" || [ "$PWD" != "$target" ] || ! is_marked; then
        fail "$target has changed meanwhile"
    fi
    state=$target/.gridops/$id
    here='' unsure=no
    [ -f "$state/kinds" ] || unsure=yes
}

# Understand the line $1 of a manifest: sets dir (from the top, with a slash before it, or empty),
# base, is_dir and is_link. Refuses whatever could lead out of the tree or into our state.
locate() {
    name=${1%"$tab"} is_link=no
    [ "$name" = "$1" ] || is_link=yes
    case $name in *\\*)
        name=$(printf '%b.' "$name")
        name=${name%.}
        ;;
    esac
    is_dir=no
    case $name in */) is_dir=yes name=${name%/} ;; esac
    case /$name/ in *//* | */./* | */../* | /.gridops/*) return 1 ;; esac
    base=./${name##*/}
    case $name in
    */*) dir=/${name%/*} ;;
    *) dir='' ;;
    esac
}

# The directories that the manifest lines on stdin need.
dirs_of() {
    sed -n ':above
s|/[^/]*$||p
tabove' | sort -u
}

# What is in the way of the tree, whose directories are on stdin and whose lines tree_lines has: there
# stands something else, and no sync has brought it. (rsync would remove it; a symlink may lead to what
# a user has moved to a larger disk.)
in_the_way() {
    { directories 3>&1 >&4 | files_in_the_way; } 4>&1
} 2>/dev/null

tree_lines() { if [ -n "$kinds" ]; then cat "$kinds"; else printf '%s\n' "$sent"; fi; }

# Of those on stdin, says the ones that stand in the way, and on 3 where those are that are there.
directories() {
    printf '%s/.\0' "$target" >&3
    while IFS= read -r line; do
        locate "$line" || continue
        place=$target$dir/${base#./}
        if [ ! -L "$place" ] && [ -d "$place" ]; then
            printf '%s/.\0' "$place" >&3
        elif [ -L "$place" ] || [ -e "$place" ]; then
            is_brought "$line" || printf '%s\n' "$line"
        fi
    done
}

files_in_the_way() { # in the directories on stdin
    # shellcheck disable=SC2016 # for the inner shell to expand
    found=$(target=$target xargs -0 sh -c '
        exec find "$@" ! -name . -prune ! -type f ! -type d -exec sh -c "$0" sh {} +' "$as_lines")
    [ -n "$found" ] || return
    { printf '%s\n' "$found" && tree_lines; } | sort | uniq -d | while IFS= read -r line; do
        line=${line%"$tab"}
        if locate "$line" && ! is_brought "$line"; then printf '%s\n' "$line"; fi
    done
}

# For the symlinks and special files "$@", the lines of a tree that they are in the way of: a symlink
# only that of a file. (od and printf write what is odd in a name as tree.py does.)
# shellcheck disable=SC2016
as_lines='
    for one; do
        dir=${one%/./*}
        name=${dir#"$target"}/${one##*/}
        name=${name#/}
        case $name in
        *[!" "-~]* | *\\*)
            text=""
            for code in $(printf %s "$name" | od -An -v -to1); do
                case $code in
                134) text="$text\\\\0134" ;;
                0[4-7]? | 1[0-6]? | 17[0-6]) text="$text\\0$code" ;;
                *) text="$text\\\\0$code" ;;
                esac
            done
            name=$(printf %b "$text")
            ;;
        esac
        printf "%s\n" "$name"
        [ -L "$one" ] || printf "%s\t\n" "$name"
    done'

# Has a sync brought what stands where $dir and $base say, by the line $1 of a manifest? Of an older
# client's manifest we do not know which are symlinks.
is_brought() {
    place=$target$dir/${base#./}
    if [ ! -L "$place" ] && [ ! -f "$place" ]; then return 1; fi
    for one in "$target"/.gridops/*/manifest; do
        grep -qFxe "$1" "$one" || continue
        if [ ! -L "$place" ] || [ ! -f "${one%/*}/kinds" ]; then return; fi
        was="$1$tab$(readlink "$place" | tr '\n' ' ')"
        if grep -qFxe "$1$tab" -e "$was" "${one%/*}/kinds"; then
            [ -z "${work-}" ] || printf '%s\n' "$was" >>"$work/replaced"
            return
        fi
    done
    return 1
}

# Go to the tree's directory $dir. Fails when it is gone, or reached through a symlink.
enter() {
    [ "$dir" != "$here" ] || return 0
    here=-
    cd -P -- "$target$dir" 2>/dev/null && [ "$PWD" = "$target$dir" ] && here=$dir
}

# Is $base of the kind that was brought?
is_there() {
    if [ "$is_dir" = yes ]; then
        [ -d "$base" ] && [ ! -L "$base" ]
    else
        if [ -L "$base" ]; then [ "$is_link$unsure" != nono ]; else [ -f "$base" ] && [ "$is_link" = no ]; fi
    fi
}

# The sorted manifest lines on stdin, with the tab that tells a symlink.
with_kinds() {
    last=''
    {
        cat
        [ "$unsure" = yes ] || sed -n "/$tab\$/p" "$state/kinds"
    } | sort | {
        while IFS= read -r line; do
            case $line in
            "$last$tab") last=$line ;;
            *"$tab") ;;
            *)
                [ -z "$last" ] || printf '%s\n' "$last"
                last=$line
                ;;
            esac
        done
        [ -z "$last" ] || printf '%s\n' "$last"
    }
}

without_kinds() { sed "s/$tab\$//"; }

# Of the manifest lines on stdin, those whose files are there.
present() {
    while IFS= read -r line; do
        if locate "$line" && enter && is_there; then printf '%s\n' "$line"; fi
    done
}

# Delete what the manifest lines on stdin name; says which were there.
delete() {
    set --
    while IFS= read -r line; do
        locate "$line" || continue
        if [ "$dir" != "$here" ] || [ $# -ge 100 ]; then
            [ $# -eq 0 ] || rm -f -- "$@"
            set --
        fi
        if ! enter || ! is_there; then continue; fi
        [ -w . ] || chmod u+w . || :
        if [ "$is_dir" = no ]; then
            set -- "$@" "$base"
        else
            rmdir -- "$base" || continue # a job has put something there: it stays
        fi
        printf '%s\n' "$line"
    done
    [ $# -eq 0 ] || rm -f -- "$@"
}

# Remove the directories that held the manifest lines on stdin and hold nothing now.
prune() {
    last=''
    while IFS= read -r line; do
        locate "$line" || continue
        if [ "$dir" = "$last" ] || ! enter || ! is_empty .; then continue; fi
        last=$dir here=-
        (cd -- "$target" && rmdir -p -- ".$dir")
    done
}

# The new manifest, whole: half of one would delete the other half's files.
receive() {
    if [ "$2" = yes ]; then gzip -dc; else cat; fi >"$work/sent" || exit 1
    [ $(($(wc -c <"$work/sent"))) -eq "$1" ] || fail "the manifest did not arrive whole"
    without_kinds <"$work/sent" >"$work/new" || exit 1
}

# The lines of file $1 (each there once) that file $2 has not. (BusyBox may lack comm.)
only_in() { sort -- "$1" "$2" "$2" | uniq -u; }

names_of() { sed "/^$tab/d" "$1" | sort -u; }

# What the other origins brought stays; what both brought is ours from now on.
settle() {
    for other in "$target"/.gridops/*/manifest; do
        { [ -f "$other" ] && [ "$other" != "$state/manifest" ]; } || continue
        names_of "$other" >"$work/theirs" || return
        only_in "$work/gone" "$work/theirs" >"$work/ours" || return
        mv -f -- "$work/ours" "$work/gone" || return
        only_in "$work/theirs" "$work/new" >"$work/rest" || return
        cmp -s "$work/theirs" "$work/rest" && continue
        place "$work/head" "$tab- more" || return
        cat "$work/head" "$work/rest" >"$other.$key" && mv -f -- "$other.$key" "$other" || return
    done
}

stage() {
    open_tree "$1" "$2"
    key=$5 digest=$6 deleting=$7
    work=$state/$key.work
    { rm -rf -- "$work" && mkdir -- "$work"; } || exit 1
    receive "$3" "$4"
    [ -f "$state/manifest" ] || place "$state/manifest" "$tab- more" || exit 1
    names_of "$state/manifest" >"$work/old" || exit 1
    only_in "$work/old" "$work/new" >"$work/gone" || exit 1
    dirs_of <"$work/new" >"$work/dirs" || exit 1
    kinds=$work/sent
    : >"$work/replaced"
    blocked=$(in_the_way <"$work/dirs")
    [ -z "$blocked" ] || {
        say 0 0 '' '' "$blocked"
        rm -rf -- "$work"
        return
    }
    settle || exit 1
    with_kinds <"$work/gone" >"$work/lost" || exit 1
    : >"$work/tried"
    if [ "$deleting" = yes ]; then
        delete <"$work/lost" >"$work/tried" 2>"$work/said"
        here=-
        present <"$work/tried" >"$work/kept"
    else
        mv -f -- "$work/lost" "$work/kept" || exit 1
    fi
    only_in "$work/tried" "$work/kept" | without_kinds >"$work/deleted" || exit 1
    sort -r "$work/deleted" | prune 2>/dev/null
    record || exit 1
    say "$(($(wc -l <"$work/deleted")))" "$(($(wc -l <"$work/kept")))"
    head -n "$most" "$work/deleted"
    say ''
    [ "$deleting" = no ] || head -n 100 "$work/kept" | without_kinds
    say '' ''
    rm -rf -- "$work"
}

# The new manifest takes the old one's place; what could not be deleted remains in it.
record() {
    how='exact'
    [ ! -s "$work/kept" ] || how='more'
    place "$work/head" "$tab$digest $how" &&
        without_kinds <"$work/kept" | sort -u "$work/new" - >"$work/lines" &&
        cat "$work/head" "$work/lines" >"$work/manifest" &&
        sed -n "/$tab\$/p" "$work/kept" | cat "$work/sent" "$work/replaced" - >"$work/kinds" &&
        mv -f -- "$work/dirs" "$state/dirs" &&
        mv -f -- "$work/kinds" "$state/kinds" &&
        mv -f -- "$work/manifest" "$state/manifest"
}

plan() {
    open_tree "$1" "$2"
    sent=$(if [ "$4" = yes ]; then gzip -dc; else cat; fi)
    new=$(printf '%s\n' "$sent" | without_kinds)
    gone='' kinds=''
    [ ! -f "$state/manifest" ] ||
        gone=$(printf '%s\n' "$new" "$new" | sort - "$state/manifest" | uniq -u | sed "/^$tab/d")
    for other in "$target"/.gridops/*/manifest; do
        { [ -f "$other" ] && [ "$other" != "$state/manifest" ]; } || continue
        gone=$(printf '%s\n' "$gone" | sort - "$other" "$other" | uniq -u)
    done
    found=$(printf '%s\n' "$gone" | with_kinds | present | without_kinds)
    [ -z "$found" ] || found="$found
"
    say "$(($(printf '%s' "$found" | wc -l)))" 0
    printf '%s' "$found" | head -n "$most"
    say '' '' "$(printf '%s\n' "$new" | dirs_of | in_the_way)"
}

clean() {
    open_tree "$1" "$2"
    rm -rf -- "$state/$3.partial"
}

vouch() {
    open_tree "$1" "$2"
    key=$3
    place "$target/.gridops/origin" "$4$nl$5"
}

"$@"
