# shellcheck shell=sh disable=SC2034,SC2154 # its sisters use these, or set them
# -- the job: claimed, queued, begun, watched to its end --------------------------------------------
#
# jobs/ID/ holds  spec/  run (what the client gave, all but the values of its environment), command,
#                        env (these, and all else that was sent), login (what the login exported; both
#                        are gone when it has ended), note (the
#                        shell's word on a signal), forget (how many seconds after its end), setup,
#                        which begins with the node's env_setup, and begun, once that has succeeded
#                 out, err  the two streams         tree/  its own directory, when it has one
# and records, which are links, since making one is atomic and exclusive and needs no disk block:
#   sup -> PID.TICK.BOOT.HOST (or "cancelled")      child -> PID.TICK.BOOT (or "void")
#   held -> yes, go -> yes or no: whether it may begin, for one that asks
#   left -> PID.TICK.BOOT.USER:NAME,...: its processes that could not be ended
#   kill -> GRACE.WHO       exit -> CODE.SIGNAL.CENTIS.OUT.ERR.REASON       out.cut, err.cut -> why

# Takes the run file of job $1 from standard input, $2 bytes, and has a supervisor claim the job.
# With $3, does so only during that boot. Says how it went: "ack ...".
verb_start() {
    [ "$3" = - ] || [ "$3" = "$boot" ] || { echo "ack rebooted" && return; }
    [ ! -L "$1/sup" ] || { echo "ack $(taken "$1")" && return; }
    look_up $$
    staged=$1/new.$$.$tick
    if ! stage "$1" "$2" 2>/dev/null; then
        rm -rf "$staged"
        [ -n "$trouble" ] || make "$staged" || unwritable
        rm -rf "$staged"
        echo "ack ${trouble:-nospace}"
        return
    fi
    # Twice: it detaches without "&", which would leave SIGINT and SIGQUIT ignored in the job.
    ack=$(setsid setsid "$sh" "$self" "$base" supervise - "$1" "$staged" "$mask" "$sh" </dev/null 2>/dev/null)
    if [ -z "$ack" ]; then # it was killed; the claim may be made all the same
        ack=nothing
        [ ! -L "$1/sup" ] || ack=$(taken "$1")
    fi
    echo "ack $ack"
}

taken() { # by whom job $1 was claimed: exists, or elsewhere for another node with this home
    case $(readlink "$1/sup") in *.*.*."$host" | cancelled) echo exists ;; *) echo elsewhere ;; esac
}

verb_run() { # starts job $1 and follows it, all in one session; "go" on its input lets a held one begin
    verb_start "$@"
    case $ack in held* | queued*)
        exec 3<&0
        hear_go "$1" <&3 >/dev/null 2>&1 &
        exec 3<&-
        ;;
    esac
    case $ack in started* | held* | queued* | exists*) verb_follow "$1" 0 0 '' ;; esac
}

hear_go() {
    read -r word && [ "$word" = go ] && ln -s yes "$1/go"
}

make() { # the directory $1, or else sets why: the reason, as the system says it
    why=$(LC_ALL=C mkdir -p "$1" 2>&1) || { why=${why##*": "} && return 1; }
}

unwritable() { # sets trouble, unless the disk is full
    case $why in *[Ss]pace* | *[Qq]uota*) ;; *) trouble="unwritable $why" ;; esac
}

stage() { # nothing is claimed unless all of it arrived and the disk took it
    trouble=''
    IFS= read -r head && [ "$head" = 'exit 125' ] || trouble='cut' # the login has taken some
    [ -z "$trouble" ] || return
    mkdir -p "$staged" && head -c "$2" >"$staged/env" || return # its end may take longer to arrive
    if [ "$(stat -c %s "$staged/env")" != "$2" ]; then
        ! printf '%8192s' '' >"$staged/room" || trouble=short # else BusyBox hid that the disk is full
        return 1
    fi
    # shellcheck source=/dev/null
    . "./$staged/env"
    unpack "$staged" && printf '%79s\n' '' >"$staged/note" &&
        printf '%s\n' "$login" >"$staged/login"
}

verb_supervise() { # ID STAGED MASK SH; standard output takes one word of acknowledgement
    id=$1 mask=$3 sh=$4 ticket='' chosen=''
    identify $$
    me=$identity
    if ! ln -s "$me.$host" "$id/sup" 2>/dev/null; then # THE claim: it exists or it does not
        rm -rf "$2"
        if [ -L "$id/sup" ]; then taken "$id"; else echo nospace; fi
        return
    fi
    # At a shutdown the command gets its TERM too, and its end is recorded; who started us may be gone.
    told=''
    trap 'if [ -n "$told" ]; then finish x x shutdown; else finish x x error; fi' EXIT
    trap 'told=yes' HUP TERM
    trap : INT PIPE
    if ! { mv "$2" "$id/spec" && : >"$id/out" && : >"$id/err"; }; then
        rm -rf "$2"
        exit
    fi
    # shellcheck source=/dev/null
    . "./$id/spec/run"
    settings
    [ "$hold" -gt 0 ] || take_snapshot # as it is when the run is asked for
    locate_tree
    enter_line
    exec >/dev/null
    [ -n "$granted" ] || stand_in_line || refuse "$(why_not_begun)"
    if [ "$hold" -gt 0 ]; then
        hold_on || refuse unconfirmed
        take_snapshot # its client brings the tree while it is held
    fi
    launch
}

refuse() { # REASON ACK...: it never begins
    reason=$1
    shift
    ln -s void "$id/child"
    finish x x "$reason"
    echo "$*"
    [ ! -d "$id/tree" ] || remove_tree "$id"
    exit
}

# The client brings the tree to the node that has a slot for the job, and may stand in line on several:
# the job has its slot now, and waits for the word, unless its tree came while it stood in line. "go"
# says who was first, the client (yes) or its absence (no).
hold_on() {
    [ -L "$id/held" ] || ln -s yes "$id/held"
    clock
    heard=$centis held_at=$centis pause=0.02
    while [ ! -L "$id/go" ] && [ ! -L "$id/kill" ]; do
        nap "$pause"
        [ $((centis - held_at)) -lt 100 ] || pause=0.1 # a long sync: what counts is to be cheap
        heard_of || ln -s no "$id/go" 2>/dev/null
    done
    [ "$(readlink "$id/go")" = yes ]
}

# The word for job $1 to begin, once it has a slot; with $2 "queued" it may be given before that.
verb_go() {
    if [ -L "$1/held" ] || [ "${2-}" = queued ]; then ln -s yes "$1/go" 2>/dev/null; fi
    echo "go $(readlink "$1/go" || echo no)"
    echo "done"
}

verb_begin() { # the same for job $1, whose tree is there, and follows it from the offsets $2 and $3 on
    [ ! -L "$1/sup" ] || ln -s yes "$1/go" 2>/dev/null
    verb_follow "$1" "$2" "$3" ''
}

verb_stay() { # the client of job $1 is still there; how the job is
    if [ -L "$1/sup" ] && [ ! -L "$1/go" ] && [ ! -L "$1/exit" ]; then : >"$1/stay"; fi
    verb_status "$1"
}

heard_of() { # whether the client has said, within the time of its hold, that it is still there
    clock
    if [ -f "$id/stay" ]; then
        rm -f "$id/stay"
        heard=$centis
    fi
    [ $((centis - heard)) -lt "$hold" ]
}

why_not_begun() {
    if [ -L "$id/kill" ]; then echo killed; else echo busy; fi
}

enter_line() { # gets a slot, or a place in the queue, and says so
    if [ "$gpus" -gt 0 ]; then
        find_gpus || refuse gpus "gpus $trouble"
        # shellcheck disable=SC2086 # counted
        set -- $all_gpus
        [ $# -ge "$gpus" ] || refuse gpus "gpus $#"
    fi
    if acquire; then
        if [ "$hold" -gt 0 ]; then
            ln -s yes "$id/held"
            find_users
            echo "held$users"
        else
            echo started
        fi
    elif [ -n "$ticket" ]; then
        echo queued
    else
        refuse busy "busy$holders"
    fi
}

expand() { # sets dir: the directory $1, a leading tilde spelled out
    # shellcheck disable=SC2088 # the tilde is text here
    case $1 in
    '' | '~') dir=$HOME ;;
    '~/'*) dir=$HOME/${1#??} ;;
    /*) dir=$1 ;;
    *) dir=$HOME/$1 ;;
    esac
}

launch() {
    mkfifo "$id/p.out" "$id/p.err" "$id/p.sup" "$id/p.time" || exit
    pump out <"$id/p.out" &
    pump_out=$!
    pump err <"$id/p.err" &
    pump_err=$!
    if [ -n "$chosen" ]; then
        chosen=$(echo "$chosen" | tr ' ' ,)
        ln -s "$chosen" "$id/gpus"
    fi
    timer=''
    [ "$timeout" = 0 ] || start_timer
    guard <"$id/p.sup" &
    exec 9>"$id/p.sup" # nobody else has it: the guard reads its end when we die
    clock
    began=$centis told='' # what came before the command began has not ended it
    # In a subshell, and its stderr elsewhere: the shell writes there how the command died.
    {
        (
            export GRIDOPS_RUN_ID="$id"
            exec setsid "$sh" "$self" "$base" child - "$id" "$me" "$mask" \
                "${chosen:+$devices=$chosen}" >"$id/p.out" 2>"$id/p.err" 9>&-
        )
        code=$?
    } 2<>"$id/spec/note"
    clock
    took=$((centis - began))
    conclude
}

verb_child() { # ID SUPERVISOR MASK DEVICES; becomes the command
    # shellcheck source=/dev/null
    . "./$1/spec/env"
    settings
    command=$PWD/$1/spec/command
    [ -z "$setup" ] || command=$PWD/$1/spec/setup
    login=$PWD/$1/spec/login
    record=$PWD/$1/child stop=$PWD/$1/kill
    umask "$3"
    enter "$PWD/$1/tree"
    identify $$
    [ -z "$fetch" ] || next_second "${record%/child}/spec"
    if [ -L "$stop" ] || ! alive "$2"; then exit 125; fi
    ln -s "$identity" "$record" 2>/dev/null || exit 125
    set -- "$command" "$4" "$login" # from here on no other name is ours
    unset LC_ALL
    # shellcheck source=/dev/null
    . "$3" 2>/dev/null
    set -- "$(command -v bash || command -v sh)" "$1" "$2"
    environment
    [ -z "$3" ] || export "${3?}"
    become_command "$1" "$2"
}

# Waits for the next second where the times of files, $1 for one, have no fractions: else who fetches
# what this job writes could not tell it from what was written just before.
next_second() {
    case $(stat -c %z "$1") in *.*[1-9]*' '*) return ;; esac
    second=$(date +%s)
    while [ "$(date +%s)" = "$second" ]; do nap 0.05; done
}

enter() { # the directory where the command is to run
    expand "$directory"
    [ ! -d "$1" ] || dir=$1
    if cd -- "$dir" 2>/dev/null; then
        { [ -n "$directory" ] && [ "$dir" != "$1" ]; } || return 0 # our home, or the run's own
        ours_alone "$(pwd -P)" && return
        printf 'gridops: not run in %s: %s (%s)\n' "$dir" "$trouble" "$remedy" >&2
        exit 125
    fi
    if [ "$missing" = fail ] || [ -e "$dir" ]; then
        printf 'gridops: cannot enter the directory %s\n' "$dir" >&2
        exit 125
    fi
    printf 'gridops: there is no %s yet: running in the home directory\n' "$dir" >&2
    cd || exit 125
}

main() {
    umask 077
    [ "$2" = child ] || unset GRIDOPS_RUN_ID # a job may start jobs: these are not its processes
    self=$0 verb=$2 mark=$3
    nl='
'
    login=${gridops_login-}
    mask=${login%%"$nl"*} login=${login#*"$nl"}
    sh=${login%%"$nl"*} login=${login#*"$nl"}
    case $sh in /*) ;; *) sh='sh' ;; esac
    [ "$mark" = - ] || echo "$mark"
    if [ ! -r /proc/self/stat ]; then
        echo unsupported # not Linux
        exit
    fi
    read -r boot </proc/sys/kernel/random/boot_id
    read -r host </proc/sys/kernel/hostname
    boot=${boot%%-*} locks=../locks/$host
    if ! [ -d "$1/jobs" ] && ! make "$1/jobs"; then
        echo "unwritable $why"
        exit
    fi
    cd "$1/jobs" || exit
    base=${PWD%/jobs}
    [ "$mark" = - ] || echo "boot $boot"
    shift 3
    "verb_$verb" "$@"
}

main "$@"
