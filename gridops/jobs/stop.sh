# shellcheck shell=sh disable=SC2034,SC2154 # its sisters use these, or set them
# -- ending and forgetting -------------------------------------------------------------------------

# Ends job $1 on behalf of $3: TERM, and KILL $2 seconds later. One that never started never will.
# A process of its own does it, which outlives this session.
verb_kill() {
    mkdir -p "$1"
    if ! ln -s cancelled "$1/sup" 2>/dev/null && [ ! -L "$1/exit" ] && runs_here "$1"; then
        ln -s "$2.$3" "$1/kill" 2>/dev/null
        setsid setsid sh "$self" "$base" reap - "$1" "$2" </dev/null >/dev/null 2>&1
        clock
        patience=$((centis + $4 * 100)) pause=0.02
        while [ ! -L "$1/exit" ] && [ "$centis" -lt "$patience" ]; do
            nap "$pause"
            pause=0.05
            clock
        done
    fi
    verb_status "$1"
}

runs_here() { # a home may be shared by nodes
    case $(readlink "$1/sup") in *.*.*."$host") ;; *) return 1 ;; esac
}

verb_reap() { # ends the processes of job $1 until its supervisor has recorded the end, or for it
    by=$(readlink "$1/sup")
    while [ ! -L "$1/exit" ] && alive "$by"; do
        end_processes "$1" "$2" || return
        nap 0.05
    done
    [ -L "$1/exit" ] || { end_processes "$1" "$2" && settle "$1"; }
}

settle() { # records the end of job $1 whose supervisor died: nobody saw how its command ended
    ln -s void "$1/child" 2>/dev/null # one that has not begun yet cannot any more
    before='' tries=0
    sizes=$(stat -c %s "$1/out" "$1/err" 2>/dev/null)
    while [ "$sizes" != "$before" ] && [ "$tries" -lt 25 ]; do # its pumps still empty the pipes
        before=$sizes tries=$((tries + 1))
        nap 0.2
        sizes=$(stat -c %s "$1/out" "$1/err" 2>/dev/null)
    done
    case $(readlink "$1/sup") in
    *.*."$boot".*) why=supervisor ;;
    *) why=rebooted ;;
    esac
    forget_secrets "$1"
    record_end "$1" x x x "$why"
    [ ! -d "$1/tree" ] || [ "$(readlink "$1/child")" != void ] || remove_tree "$1"
    release "$1"
}

# Removes the pipes of job $1. Its helpers may still wait for the other ends, if the supervisor died
# before it had opened them: opening a pipe both ways waits for nobody, and lets them go.
release() {
    for pipe in "$1"/p.*; do
        [ "$pipe" != "$1/p.*" ] || return 0 # none is there
        [ ! -p "$pipe" ] || : <>"$pipe"
    done
    rm -f "$1"/p.*
}

record_end() { # ID CODE SIGNAL CENTIS REASON: the first record stands
    sizes=$(stat -c %s "$1/out" "$1/err") || {
        # Both are there: a signal has ended stat, and a size that is not known is not 0.
        [ ! -e "$1/out" ] || [ ! -e "$1/err" ] || return
        sizes=0${nl}0
    }
    ln -s "$2.$3.$4.${sizes%%"$nl"*}.${sizes##*"$nl"}.$5" "$1/exit"
} 2>/dev/null

forget_secrets() { # the values that job $1 was given for its environment; a full disk lets them go, too
    rm -f "$1/spec/env" "$1/spec/login"
}

# A start that was killed amid its upload leaves that behind, and nobody ever claims it.
discard_cut_uploads() {
    for upload in */new.*/env; do
        [ -f "$upload" ] || continue
        upload=${upload%/env}
        if alive "${upload##*/new.}.$boot"; then continue; fi
        ! unchanged_for 60 "$upload" || rm -rf "$upload"
    done
} 2>/dev/null

unchanged_for() { # SECONDS DIRECTORY; one that is gone meanwhile is not
    changed=$(stat -c %Y "$2" 2>/dev/null) && [ $(($(date +%s) - changed)) -ge "$1" ]
}

memory=2592000 # seconds (30 days) that the end of a job is known for, whatever becomes of its output

verb_prune() {
    forget "$1"
    echo "done"
}

# Forgets what ended over $1 seconds ago (with "own": over as many as it was started with): output
# and all. The claim and the record of the end stay longer, so that a start that arrives late still
# finds them and runs nothing.
forget() {
    discard_cut_uploads
    now=$(date +%s)
    for entry in */sup; do
        [ ! -L "$entry" ] || describe "${entry%/sup}" >/dev/null
    done
    for entry in */exit */sup; do
        [ ! -L "$entry" ] || echo "$entry"
    done | xargs stat -c '%Y %n' 2>/dev/null | while read -r when entry; do
        old=${entry%/*}
        if [ ! -L "$old/exit" ]; then
            [ "$(readlink "$old/sup")" = cancelled ] || continue
        elif [ "${entry##*/}" = sup ]; then
            continue
        fi
        drop "$old" "$1" $((now - when))
    done
    for old in *; do # uploads that were cut short
        [ -d "$old" ] && [ ! -L "$old/sup" ] && unchanged_for 86400 "$old" && rm -rf "${old:?}"
    done
}

drop() { # JOB AGE SECONDS: it ended so long ago
    if [ -d "$1/spec" ]; then
        age=$2
        [ "$age" != own ] || { read -r age <"$1/spec/forget"; } 2>/dev/null || return
        [ "$3" -ge "$age" ] || return
        echo "pruned $1"
        remove_tree "$1"
        remove_tree "$1" part.tree
        rm -rf "$1/out" "$1/err" "$1"/new.* "$1"/p.* "$1"/part.* "$1/spec"
    fi
    [ "$3" -lt "$memory" ] || rm -rf "${1:?}"
}

# One that has ended looks, once a day and boot, for those whose time has come.
tidy() {
    clock
    { read -r last during <"$locks/tidied"; } 2>/dev/null
    [ "$during" = "$boot" ] && [ $((centis - last)) -lt 8640000 ] && return
    echo "$centis $boot" >"$locks/tidied"
    forget own
} >/dev/null 2>&1
