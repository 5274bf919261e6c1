# shellcheck shell=sh disable=SC2034,SC2154 # its sisters use these, or set them
# The part of a durable run that is on the node. gridops/jobs/script.py joins these files into one;
# it is placed at ~/.gridops/lib/HASH.sh and called "sh HASH.sh BASE VERB MARK ARGUMENTS": BASE is
# ~/.gridops, MARK a line to print first. POSIX sh and coreutils; dash, bash, BusyBox.

# What the client decided about a job; settings() of its run file (gridops/jobs/spec.py) sets these.
directory='' # where the command runs, relative to the home directory
missing=''   # "fail": that directory must exist
slots=1      # how many jobs may run on this node at once
gpus=0       # how many GPUs it needs
wait=0       # 1/100 s that it may wait for a slot
hold=0       # 1/100 s that it then waits for the word to begin, 0 for none
timeout=0    # seconds that the command may take, 0 for no limit
grace=10     # whole seconds between TERM and KILL
log_cap=0    # blocks of 512 bytes that a stream may have, 0 for no limit
keep=''      # "yes": processes that the command leaves behind stay
isolate=''   # "yes": it runs in a snapshot of the directory
secret=''    # "yes": its environment has values of the client's, which are gone at its end
fresh=''     # "yes": a directory of its own begins empty
fetch=''     # "yes": it begins in a second of its own, where stat tells no fractions
setup=''     # "yes": spec/setup runs the node's env_setup, makes spec/begun, and then the command

tag_name=GRIDOPS_RUN_ID # the variable in the environment of its processes that holds its id

# -- processes: who they are, whether they live, how a whole tree of them is ended -----------------
#
# A process is known by PID.TICK.BOOT: its number, when it started (1/100 s since boot) and the boot.

clock() { # sets centis: 1/100 s since boot
    read -r centis _ </proc/uptime
    centis=${centis%.*}${centis#*.}
}

nap() { # sleeps $1 = 0.NN seconds; BusyBox may be built without fractions
    sleep "$1" 2>/dev/null || usleep "${1#0.}0000" 2>/dev/null || sleep 1
}

look_up() { # sets state, session and tick of process $1; fails when there is none
    known=''
    # The name, in parentheses, may hold anything, line ends too: what counts follows the last ") ".
    while IFS= read -r line; do known="$known$line "; done 2>/dev/null <"/proc/$1/stat"
    # shellcheck disable=SC2086 # split on purpose
    set -- ${known##*") "}
    state=${1-} session=${4-} tick=${20-}
    [ -n "$tick" ]
}

identify() { # sets identity: who the process $1 is
    look_up "$1" && identity=$1.$tick.$boot
}

alive() { # whether the process PID.TICK.BOOT (more may follow) still runs; a zombie does not
    rest=${1#*.}
    born=${rest%%.*}
    rest=${rest#*.}
    [ "${rest%%.*}" = "$boot" ] && look_up "${1%%.*}" && [ "$tick" = "$born" ] || return 1
    case $state in Z | X) return 1 ;; esac
}

tagged() { # prints among other words "/proc/PID/environ" of the processes $2... with the tag of job $1
    tag=$tag_name=$1
    shift
    if printf 'a\0' | grep -qzxF a 2>/dev/null; then
        grep -lzxF "$tag" /dev/null "$@"
    else # BusyBox: its grep stops at a NUL
        head -c 4194304 /dev/null "$@" | tr '\0' '\n' | sed -n "/^==> .* <==\$/h;/^$tag\$/{g;p;}"
    fi 2>/dev/null
}

# Sets environs and stats: the files of the processes that may be of a job. With since, those are
# only the ones that were born after that process, less than a second ago (so numbers cannot have
# begun anew meanwhile), and not in our own session: mostly none.
candidates() {
    environs='' stats=''
    read -r _ _ _ _ newest_pid </proc/loadavg
    if [ -n "$since" ] && [ "$newest_pid" -ge "$since" ] && [ "$newest_pid" -lt $((since + 500)) ]; then
        number=$since
        while [ "$number" -le "$newest_pid" ]; do
            if [ -d "/proc/$number" ] && look_up "$number" && [ "$session" != "$own" ]; then
                environs="$environs /proc/$number/environ" stats="$stats /proc/$number/stat"
            fi
            number=$((number + 1))
        done
    else
        environs='/proc/[0-9]*/environ' stats='/proc/[0-9]*/stat'
    fi
}

session_of() { # sets leads: the session of job $1, empty when it did not begin during this boot
    leads='' leader=$(readlink "$1/child" 2>/dev/null)
    case $leader in *".$boot") ;; *) return ;; esac
    leads=${leader%%.*}
    # The number may belong to another process by now (but never while one of its session is left).
    look_up "$leads" && [ "$leader" != "$leads.$tick.$boot" ] && leads=''
}

has() { # whether the word $2 is in the list $1, which begins and ends with a blank
    case $1 in *" $2 "*) ;; *) return 1 ;; esac
}

# The processes of job $1: those with its tag in their environment, those in its session or in one
# with a tagged process, and the children of all these; so setsid, nohup and double forks do not
# hide one. Prints their pids.
members() {
    look_up $$ && own=$session
    session_of "$1"
    # Of one that never began there are none; one of its id may run on another node of this machine.
    case $leader in '' | void) return ;; esac
    found=' ' sessions=" $leads " size=''
    candidates
    [ -n "$stats" ] || return 0
    # shellcheck disable=SC2086,SC2046 # lists of files, or patterns for them
    for pid in $(tagged "$1" $environs); do
        pid=${pid#/proc/} pid=${pid%/environ}
        case $pid in *[!0-9]*) continue ;; esac
        has "$found" "$pid" || found="$found$pid "
    done
    # Three words a process: pid, parent, session. By way of cat, since sed leaves out all that follows
    # a file whose process ends as it is read.
    # shellcheck disable=SC2046,SC2086
    set -- $(cat /dev/null $stats 2>/dev/null |
        sed -n 's/^\([0-9]*\) (.*) [^ZX] \([0-9]*\) [0-9]* \([0-9]*\) .*/\1 \2 \3/p')
    has " $* " "$leads" || [ "$found" != ' ' ] || return # what is usual, and quick
    while [ "$size" != "${#found}.${#sessions}" ]; do
        size=${#found}.${#sessions}
        gather "$@"
    done
    echo "$found"
}

has_members() {
    case $(members "$1") in *[0-9]*) ;; *) return 1 ;; esac
}

gather() { # adds to found and sessions which of the processes "pid parent session ..." belong
    while [ $# -ge 3 ]; do
        if [ "$3" != "$own" ] &&
            { has "$sessions" "$3" || has "$found" "$1" || has "$found" "$2"; }; then
            has "$found" "$1" || found="$found$1 "
            has "$sessions" "$3" || sessions="$sessions$3 "
        fi
        shift 3
    done
}

since=''

# Ends the processes of job $1: TERM (and CONT: a stopped one would not see it) to each once, KILL
# after $2 seconds, until none is left. Fails when some, the targets, outlive the KILL by 5 s.
sweep() {
    told=' ' pause=0.05
    clock
    mercy=$((centis + $2 * 100))
    while targets=$(members "$1") && [ -n "${targets# }" ]; do
        clock
        if [ "$centis" -ge "$mercy" ]; then
            # shellcheck disable=SC2086 # a list of pids
            kill -KILL $targets 2>/dev/null
            pause=0.05
            [ "$centis" -le $((mercy + 500)) ] || return 1
        else
            for pid in $targets; do
                has "$told" "$pid" || { kill -TERM "$pid" && kill -CONT "$pid"; } 2>/dev/null
                has "$told" "$pid" || told="$told$pid "
            done
        fi
        since=''
        nap "$pause"
        [ ${#told} -le 1 ] || pause=0.1
    done
    return 0 # not the status of whatever the loop did last
}

# Sweeps the processes of job $1. What is left, another user's most likely (sudo), is put on record.
end_processes() {
    sweep "$1" "$2" && return
    # shellcheck disable=SC2086 # a list of pids
    name_processes $targets
    [ -z "$named" ] || ln -sfn "$named" "$1/left"
    return 1
}

name_processes() { # sets named: who the processes $@ are, ten at most: PID.TICK.BOOT.USER:NAME,...
    named='' count=0
    for pid; do
        if [ "$count" = 10 ] || ! look_up "$pid"; then continue; fi
        user=$(stat -c %U "/proc/$pid" 2>/dev/null)
        [ "$user" != UNKNOWN ] || user=$(stat -c %u "/proc/$pid" 2>/dev/null)
        name=${known#*"("}
        name=$(printf %s "${user:-unknown}:${name%") "*}" | LC_ALL=C tr -c 'A-Za-z0-9_.@:-' _)
        named=$named${named:+,}$pid.$tick.$boot.$name count=$((count + 1))
    done
}
