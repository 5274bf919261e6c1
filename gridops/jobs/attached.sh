# shellcheck shell=sh
# Runs one command for as long as the client holds our standard input open.
#
# $1 directory ("" for the home directory)   $2 when it does not exist: "fail" or "home"
# $3 seconds between TERM and KILL           $4 run id
# $5 env_setup, shell text that must succeed first   $6 the command, shell text
# $7... NAME=VALUE for the command's environment
#
# The end of our input means that nobody listens any more: the client was interrupted or killed, or
# its connection broke. Then the command's whole process tree is ended: all that carries the run's
# tag in its environment, all that shares a session with such a process, and the children of these.

# Underscores: the login's own environment may hold any plainer name, for the command to find.
_dir=$1 _grace=$3 _tag="GRIDOPS_RUN_ID=$4" _setup=$5 _command=$6

# shellcheck disable=SC2088 # the tilde is text here
case $_dir in
'~') _dir=$HOME ;;
'~/'*) _dir=$HOME/${_dir#??} ;;
esac
if [ -n "$_dir" ] && ! CDPATH='' cd -- "$_dir" 2>/dev/null; then
    if [ "$2" = fail ] || [ -e "$_dir" ]; then
        printf 'gridops: cannot enter the directory %s\n' "$_dir" >&2
        exit 125
    fi
    printf 'gridops: there is no %s yet: running in the home directory\n' "$_dir" >&2
fi
shift 6

# Prints /proc/PID/environ of every process that carries the tag.
tagged() {
    if printf 'a\0' | grep -qzxF a 2>/dev/null; then
        grep -lzxF "$_tag" /proc/[0-9]*/environ 2>/dev/null
        return
    fi
    for environ in /proc/[0-9]*/environ; do
        { tr '\0' '\n' <"$environ" | grep -qxF "$_tag"; } 2>/dev/null && echo "$environ"
    done
}

# Sets parent, session and tick (when it was started) of process $1; false when it is gone or a zombie.
look_up() {
    tick=''
    { IFS= read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
    # The name, in parentheses, may hold anything: what counts comes after the last ")".
    # shellcheck disable=SC2086
    set -- ${stat##*) }
    parent=$2 session=$4 tick=${20-}
    case $1 in Z | X) return 1 ;; esac
}

# Sets found: the pids of the command's process tree, as far as it is not in a session of our own;
# false when nothing is left of it. The environment of another user's processes (after sudo) cannot be
# read: those are known by their parents, the first one of which is our shell, and by their sessions,
# which stay known when what carried the tag is gone.
find_members() {
    found=' ' kept=' ' shell=''
    if look_up $$ && [ "$tick" = "$_born" ]; then own=$session shell=$$; fi
    for leader in $leaders; do # of a number that has begun anew the session is another
        { look_up "${leader%.*}" && [ "$tick" != "${leader#*.}" ]; } || kept="$kept$leader "
    done
    leaders=$kept
    for environ in $(tagged); do
        pid=${environ#/proc/} pid=${pid%/environ}
        ! look_up "$pid" || add "$pid" "$session"
    done
    all='' size='' # three words a process: pid, parent, session
    for entry in /proc/[0-9]*; do
        ! look_up "${entry#/proc/}" || all="$all ${entry#/proc/} $parent $session"
    done
    # shellcheck disable=SC2086
    set -- $all
    while [ "$size" != "${#found}.${#leaders}" ]; do
        size=${#found}.${#leaders}
        gather "$@"
    done
    [ "$found" != ' ' ]
}

add() { # the process $1 of session $2
    case $found in *" $1 "*) ;; *) found="$found$1 " ;; esac
    case $2 in "$own" | 0) return ;; esac # 0: one that this namespace cannot see, all else there is in it
    case $leaders in *" $2."*) return ;; esac
    look_up "$2" || :
    leaders="$leaders$2.$tick "
}

gather() { # adds which of the processes "pid parent session ..." belong
    while [ $# -ge 3 ]; do
        if [ "$3" != "$own" ]; then
            case "$leaders/$found" in
            *" $3."*/* | */*" $1 "* | */*" $2 "*) add "$1" "$3" ;;
            *) [ "$2" != "$shell" ] || add "$1" "$3" ;;
            esac
        fi
        shift 3
    done
}

signal() { # sends the signal $1 to what was found
    # shellcheck disable=SC2086
    kill "-$1" $found 2>/dev/null || : # one that has just ended says nothing about the others
}

pause() {
    sleep 0.1 2>/dev/null || sleep 1
}

# Sets now: whole seconds since the node's boot.
look_at_clock() {
    IFS=' ' read -r now _ </proc/uptime
    now=${now%.*}
}

end_tree() {
    if [ ! -r /proc/self/stat ]; then # not Linux: no setsid either, so the tree is our group
        kill -TERM 0
        sleep "$_grace"
        kill -KILL 0
    fi
    find_members || return
    signal TERM
    signal CONT # a stopped process would not see the TERM
    look_at_clock
    end=$((now + _grace))
    while find_members; do
        look_at_clock
        [ "$now" -le "$end" ] || signal KILL
        [ "$now" -le $((end + 1)) ] || break
        pause
    done
    tell_left
}

# Says on the command's stderr what we could not end, ten processes at most.
tell_left() {
    named='' pids='' count=0
    for pid in $found; do
        if [ "$count" = 10 ] || ! look_up "$pid"; then continue; fi
        user=$(stat -c %U "/proc/$pid")
        [ "$user" != UNKNOWN ] || user=$(stat -c %u "/proc/$pid")
        name=${stat#*"("}
        name=${name%")"*}
        case $user in '' | *[!A-Za-z0-9_.@-]*) user='?' ;; esac
        case $name in *[!A-Za-z0-9_.@:-]*) name='?' ;; esac
        named="$named${named:+, }$pid ($user, $name)" pids="$pids $pid" count=$((count + 1))
    done
    [ -n "$named" ] || return 0
    # shellcheck disable=SC2016 # the command is text here
    printf 'gridops: these processes could not be ended: %s; run `sudo kill -KILL%s` there\n' \
        "$named" "$pids" >&4
}

# Sets _record: a directory of ours, where the command's shell puts on record that env_setup has
# succeeded and the command begins. Nothing else tells: env_setup may end or replace the shell.
make_record() {
    for _record in "${TMPDIR:-/tmp}" /tmp /var/tmp /dev/shm "$HOME"; do
        case $_record in *[!A-Za-z0-9/._-]* | [!/]* | '') continue ;; esac # it becomes shell text
        _record=$_record/gridops-$1.$$ # several nodes may be one machine
        (umask 077 && mkdir "$_record") 2>/dev/null && return
    done
    printf 'gridops: no temporary directory can be made there, which env_setup needs\n' >&2
    exit 125
}

_record=''
if [ -n "$_setup" ]; then
    make_record "${_tag#*=}"
    # All on one line, which the shell has read when env_setup begins (guard_by_setup in jobs/spec.py).
    _command="{ eval \"shift; \$1\"; case \$? in 0) >|$_record/begun ;; *) exit ;; esac || exit 125; }
$_command"
fi

# A login that ignores TERM leaves us no way to end the watcher but one that would stop it half-way.
# Then it sees by itself, when our input has ended with us, that the command has ended before.
_deaf=yes
trap '_deaf=' TERM
kill -s TERM "$$"
trap - TERM

exec 3<&0 4>&2 </dev/null
{
    [ -z "$_deaf" ] || exec 4>&- # what is not waited for must not hold the session's streams
    trap '' HUP PIPE
    shield
    look_up "$$"
    _born=$tick leaders=' '
    while IFS= read -r _ <&3; do :; done
    trap '' TERM # from here on nothing but its end ends this
    if [ -n "$_born" ] && { ! look_up "$$" || [ "$tick" != "$_born" ]; }; then exit; fi
    end_tree
} >/dev/null 2>&1 &
_watcher=$!

set_environment() {
    shift 4
    while [ "$#" -gt 0 ]; do
        export "${1?}"
        shift
    done
    # Python holds its output back when nobody sits at a terminal; the client is to see it come.
    export PYTHONUNBUFFERED="${PYTHONUNBUFFERED-1}"
}

# $1 setsid, $2 shell, $3 text, $4 its first argument, $5... NAME=VALUE. The names may be any, our
# variables' too: from the first on, only what is here in "$@" is sure to be what it was.
become() {
    set_environment "$@"
    case $2 in
    # The login has read .bashrc; bash, which knows sshd's children, would read it once more.
    */bash) become_command "$1" "$2" --norc -c -- "$3" "$2" ${4:+"$4"} ;;
    *) become_command "$1" "$2" -c -- "$3" "$2" ${4:+"$4"} ;;
    esac
}

# In the foreground: a background command would find SIGINT ignored. In a subshell, and with our own
# stderr put away, since a shell likes to write of a command's death to where that one's stderr goes.
exec 2>/dev/null
(
    exec 2>&4 3<&- 4>&-
    become "$(command -v setsid || command -v env)" "$(command -v bash || command -v sh)" \
        "$_command" "$_setup" "$@" "$_tag"
)
_status=$?
kill "$_watcher" # in vain when it is ending the tree: then that is waited for
[ -n "$_deaf" ] || wait "$_watcher"
if [ -n "$_record" ]; then
    if [ ! -e "$_record/begun" ]; then
        _how="status $_status"
        [ "$_status" != 0 ] || _how='it ended the shell'
        printf 'gridops: env_setup failed (%s): the command did not begin\n' "$_how" >&4
        _status=125
    fi
    rm -rf "$_record"
fi
exit "$_status"
