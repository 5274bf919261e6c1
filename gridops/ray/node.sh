# shellcheck shell=sh disable=SC2034,SC2154 # process.sh comes before this and sets or uses these
# A node's part in a Ray cluster: looked at, started, ended.
#
# ~/.gridops/ray/CLUSTER/ holds  token  and, for each node that has this home, NODE/ with
#   record   the running part: "PID TICK BOOT ROLE", then lines of a word and a value
#   lock -> PID.TICK.BOOT of whoever starts or ends it
#   LAUNCH/  one start of Ray: child -> PID.TICK.BOOT, its first process; start.sh, which it ran; log;
#            begun, once env_setup has succeeded;
#            temp, the name of Ray's directory
#   failed.log   of the last start that failed        logs/LAUNCH/   what --keep-logs kept
#
# LAUNCH is a random name, and the tag of all its processes (GRIDOPS_RAY in their environment): none
# but those is ever ended.

unset CDPATH
mask=$(umask)
umask 077
tag_name=GRIDOPS_RAY
read -r boot </proc/sys/kernel/random/boot_id
boot=${boot%%-*}
since='' nl='
'

fail() { # MESSAGE HINT
    printf 'fail %s\nhint %s\n' "$1" "$2"
    exit 1
}

expand() { # sets dir: the path $1, a leading tilde spelled out
    # shellcheck disable=SC2088 # the tilde is text here
    case $1 in
    '~') dir=$HOME ;;
    '~/'*) dir=$HOME/${1#??} ;;
    *) dir=$1 ;;
    esac
}

recorded() { # sets role and launch of the part that runs; fails when none does
    role='' launch=''
    [ -f record ] && read -r pid tick_then boot_then role <record &&
        alive "$pid.$tick_then.$boot_then" || return
    launch=$(sed -n 's/^launch //p' record)
}

# -- look -----------------------------------------------------------------------------------------

verb_look() { # ROOT VENV TEMP: what is here, and what runs
    printf 'now %s\n' "$(date +%s)"
    if recorded; then
        printf 'role %s\n' "$role"
        sed 1d record
    elif [ -f record ]; then
        printf 'died %s\n' "$(last_words "$(sed -n 's/^launch //p' record)/log")"
    fi
    expand "$1"
    if top=$(cd "$dir/.ray" 2>/dev/null && pwd -P); then
        ours_alone "$top" || fail "$trouble" "$remedy"
    fi
    printf 'venv %s\nready %s\n' "$dir/.ray/$2" "$(cat "$dir/.ray/$2/ready" 2>/dev/null)"
    expand "$3"
    printf 'temp %s\n' "$dir"
    printf 'disk %s\n' "$(df -P -k "$dir" 2>/dev/null | sed -n '$s/.* \([0-9]*\)  *\([0-9]*\)% .*/\1 \2/p')"
    printf 'memory %s\n' "$(sed -n 's/^Mem\(Total\|Available\): *\([0-9]*\) kB/\2/p' /proc/meminfo |
        tr '\n' ' ')"
    # shellcheck disable=SC2086 # words: the client's address and port, ours and its port
    set -- ${SSH_CONNECTION-}
    printf 'addresses %s\n' "$(addresses "${3-}")"
}

addresses() { # this machine's IPv4 addresses, the one at which it was reached, $1, first
    all=$(sed -n '/|-- /h;/\/32 host LOCAL/{x;s/.*|-- //p;}' /proc/net/fib_trie | sort -u)
    for address in $all; do
        [ "$address" != "$1" ] || printf '%s ' "$address"
    done
    for address in $all; do
        case $address in 127.* | "$1") ;; *) printf '%s ' "$address" ;; esac
    done
} 2>/dev/null

last_words() { # the line of Ray's log $1 that says most; not the many of its C++ parts
    said=$(grep -E 'Error|Exception|exit code|[Ff]ailed|Cannot' "$1" 2>/dev/null |
        grep -Ev '^\[|^Traceback|-----' | tail -n 1)
    [ -n "$said" ] || said=$(grep '[^ ]' "$1" 2>/dev/null | tail -n 1)
    printf '%.300s\n' "$said" | sed 's/.*[A-Z]* [a-z_]*\.py:[0-9]* -- *//'
}

# -- token ----------------------------------------------------------------------------------------

verb_token() { # says the cluster's token; where there is none, the one on our input becomes it
    IFS= read -r token
    [ -s ../token ] || keep_token
    printf 'token %s\n' "$(cat ../token)"
}

keep_token() { # of several at once one wins, and all say the winner's
    printf '%s\n' "$token" >"../token.$$" && { ln "../token.$$" ../token 2>/dev/null || :; }
    [ -s ../token ] || mv "../token.$$" ../token || fail "the token cannot be stored" ""
    rm -f "../token.$$"
}

verb_facts() { # all that it takes to talk to the running head
    recorded || return 0
    printf 'role %s\n' "$role"
    sed 1d record
    printf 'members %s\n' "$(tr '\n' ' ' <members 2>/dev/null)"
    printf 'token %s\n' "$(cat ../token)"
}

verb_members() { # "NAME ADDRESS" lines on our input: who is in the cluster
    cat >members.new && mv members.new members
}

# -- start ----------------------------------------------------------------------------------------

take_turn() {
    identify $$
    until ln -s "$identity" lock 2>/dev/null; do
        holder=$(readlink lock)
        if alive "$holder"; then
            fail "another process is starting or stopping Ray there" "wait, and try again"
        fi
        [ "$(readlink lock)" != "$holder" ] || rm -f lock
    done
    trap 'rm -f "$here/lock"' EXIT
    trap 'exit 1' HUP INT TERM PIPE
}

header() { # what start.sh begins with: who it is goes on record before anything else
    cat <<'END'
IFS= read -r stat </proc/self/stat
set -- ${stat##*") "}
read -r boot </proc/sys/kernel/random/boot_id
ln -s "$$.${20}.${boot%%-*}" "${0%/*}/child" || exit
unset stat boot
cd
{ [ "$(ulimit -S -n)" -ge 65536 ] || ulimit -S -n 65536 || ulimit -S -n "$(ulimit -H -n)"; } 2>/dev/null
END
}

# ROLE LAUNCH TEMP LIMIT HOLD FACT...; our input: the token, then the body of start.sh. With HOLD it is
# enough that the process is there: it waits for "go".
verb_start() {
    wanted=$1 new=$2 temp=$3 limit=$4 hold=$5
    shift 5
    take_turn
    if recorded; then
        printf 'already %s\n' "$role"
        return
    fi
    IFS= read -r token
    printf '%s\n' "$token" >"../token.$$" && mv "../token.$$" ../token
    clear_away 5 ''
    rm -f failed.log
    if ! { mkdir "$new" && { header && cat; } >"$new/start.sh" && printf '%s\n' "$temp" >"$new/temp" &&
        printf '%s\n' "$@" >"$new/facts" && : >"$new/log"; }; then
        fail "cannot write below $HOME/.gridops" "check whether its disk is full"
    fi
    mkdir -m 700 "$temp" || fail "$temp is there already" "remove it, or set ray.temp_dir"
    mkdir "$temp/tmp"
    # Twice: it detaches without "&", which would leave SIGINT and SIGQUIT ignored in Ray.
    (
        umask "$mask"
        exec setsid setsid "$(command -v bash || command -v sh)" "$PWD/$new/start.sh"
    ) </dev/null >>"$new/log" 2>&1
    await
}

verb_go() { # LAUNCH LIMIT: the word for a worker that is held
    take_turn
    wanted=worker new=$1 limit=$2 hold=''
    : >"$new/go" || fail "its Ray was ended before it began" "\`inv cluster.start\` again"
    await
}

await() { # until Ray says that it is up; the record is there as soon as it has a process
    clock
    end=$((centis + limit * 100)) first='' pause=0.05
    until grep -q 'Ray runtime started' "$new/log"; do
        clock
        if [ -z "$first" ] && first=$(readlink "$new/child"); then
            put_on_record
            [ -z "$hold" ] || return 0
        fi
        if [ -n "$first" ] && ! alive "$first"; then
            [ -e "$new/begun" ] || give_up "env_setup failed: $(grep '[^ ]' "$new/log" | tail -n 1)"
            give_up "Ray did not start: $(last_words "$new/log")"
        fi
        [ "$centis" -lt "$end" ] || give_up "Ray was not up within $limit s: $(last_words "$new/log")"
        nap "$pause"
        [ -z "$first" ] || pause=0.1
    done
    [ -n "$first" ] || { first=$(readlink "$new/child") && put_on_record; }
    printf 'started %s\n' "$new"
}

put_on_record() {
    rest=${first#*.}
    printf '%s %s %s %s\nlaunch %s\n' "${first%%.*}" "${rest%%.*}" "${rest#*.}" "$wanted" "$new" |
        cat - "$new/facts" >record.new && mv record.new record
}

give_up() {
    cp "$new/log" failed.log
    clear_away 2 ''
    rm -f record
    fail "$1" "its log there is ~/.gridops/ray/${PWD#"$HOME/.gridops/ray/"}/failed.log"
}

# -- stop -----------------------------------------------------------------------------------------

verb_stop() { # GRACE KEEP: ends Ray as we started it; with KEEP its logs stay
    take_turn
    ! recorded || printf 'role %s\n' "$role"
    clear_away "$1" "$2"
    rm -f record record.new members
}

# Ends whatever runs of every start of ours, $1 seconds between TERM and KILL, and removes what it had;
# with $2 the logs stay.
clear_away() {
    ended=0
    for old in */temp; do
        [ -f "$old" ] || continue
        old=${old%/temp}
        for pid in $(members "$old"); do ended=$((ended + 1)); done
        sweep "$old" "$1" || fail "some of Ray's processes did not end" "they hang in the kernel; reboot the node"
        dir=$(cat "$old/temp")
        [ -z "$2" ] || keep_logs
        case $dir in */gridops-ray-*) rm -rf "$dir" ;; esac
        rm -rf "${old:?}"
    done
    printf 'ended %s\n' "$ended"
}

keep_logs() {
    mkdir -p "logs/$old" && cp "$old/log" "logs/$old/ray-start.log"
    for from in "$dir"/ray/session_20*/logs; do
        [ ! -d "$from" ] || cp -R "$from/." "logs/$old/"
    done
    printf 'logs %s\n' "$PWD/logs/$old"
} 2>/dev/null

verb=$3
here=$HOME/.gridops/ray/$1/$2
shift 3
case $verb in
start | token) mkdir -p "$here" || fail "$here cannot be made" "check whether its disk is full" ;;
*)
    if [ ! -d "$here" ]; then
        [ "$verb" = look ] || exit 0
        here=/
    fi
    ;;
esac
cd "$here" || fail "$here cannot be entered" ""
"verb_$verb" "$@"
