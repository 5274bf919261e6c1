# shellcheck shell=sh disable=SC2154 # probe.sh, which follows this, sets mark and gpu_limit
# How the node's env_setup goes, for a probe of a node that has one: it comes before probe.sh, which
# calls try_setup. gridops/probe/parse.py reads what that says.

probe_id=$$.$(cat /proc/sys/kernel/random/uuid 2>/dev/null) # in the environment of all that it starts
own_locale=${LC_ALL+is }${LC_ALL-} # probe.sh has another

# Runs env_setup $1 as before a command on node $2 (guard_by_setup in jobs/spec.py), with no command after it
# and for no longer than gpu_limit; says how it went unless it succeeded.
try_setup() {
    shell=$(command -v bash || command -v sh)
    {
        sleep "$gpu_limit" &
        printf '%s timer %s\n' "$mark" "$!"
        timer=$!
        {
            run_setup "$1" "$2"
            printf '\n%s ended %s\n' "$mark" "$?"
        } </dev/null 2>&1 &
        wait "$timer"
        printf '\n%s late\n' "$mark"
    } 2>/dev/null | tell_setup
}

run_setup() { # 97: it succeeded; whatever else it does, ends or becomes has another status
    case $own_locale in 'is '*) LC_ALL=${own_locale#is } ;; *) unset LC_ALL ;; esac
    export GRIDOPS_NODE="$2" GRIDOPS_PROBE_ID="$probe_id"
    # shellcheck disable=SC2016 # for the inner shells to expand
    exec_setup='{ eval "shift; $1"; case $? in 0) exit 97 ;; *) exit ;; esac; }'
    detach=$(command -v setsid)
    # shellcheck disable=SC2016
    sh -c 'printf "%s pid %s\n" "$0" "$$"; exec "$@"' "$mark" \
        ${detach:+"$detach"} "$shell" -c "$exec_setup" "$shell" "$1"
}

tell_setup() { # reads what try_setup sends: env_setup's output and our own marks
    said=''
    while IFS= read -r line; do
        case $line in
        "$mark timer "*) timer=${line##* } ;;
        "$mark pid "*) pid=${line##* } ;;
        "$mark ended 97") break ;;
        "$mark ended "*)
            printf 'setup-failed %s\nsetup-said %s\n' "${line##* }" "$said"
            break
            ;;
        "$mark late")
            printf 'setup-late %s\nsetup-said %s\n' "$gpu_limit" "$said"
            kill -9 "$pid"
            break
            ;;
        *[![:space:]]*) said=$line ;;
        esac
    done
    kill -9 "-$pid" # what it has left, where it led a session
    end_tagged
    kill "$timer"
} 2>/dev/null

# shellcheck disable=SC2046 # a list of files
end_tagged() { # what has a session of its own by now, as daemons do
    tag=GRIDOPS_PROBE_ID=$probe_id
    if printf 'a\0' | grep -qzxF a; then
        set -- $(grep -lzxF "$tag" /dev/null /proc/[0-9]*/environ)
    else # BusyBox: its grep stops at a NUL
        set -- $(for one in /proc/[0-9]*/environ; do
            tr '\0' '\n' <"$one" | grep -qxF "$tag" && echo "$one"
        done)
    fi
    for one; do
        one=${one#/proc/}
        kill -9 "${one%/environ}"
    done
} 2>/dev/null
