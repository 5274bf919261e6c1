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
# tag in its environment, and all that shares a session with such a process.

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

# Sets the session of process $1 and when it was started; false when it is gone or a zombie.
look_up() {
    tick=''
    { IFS= read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
    # The name, in parentheses, may hold anything: what counts comes after the last ")".
    # shellcheck disable=SC2086
    set -- ${stat##*) }
    session=$4 tick=${20-}
    case $1 in Z | X) return 1 ;; esac
}

# Prints the pids of the command's process tree.
members() {
    look_up $$ && own=$session
    sessions=' ' found=''
    for environ in $(tagged); do
        pid=${environ#/proc/} pid=${pid%/environ}
        look_up "$pid" || continue
        found="$found $pid"
        # 0 is a session that this namespace cannot see: everything else there would be in it.
        case $session in "$own" | 0) ;; *) sessions="$sessions$session " ;; esac
    done
    [ "$sessions" = ' ' ] || for entry in /proc/[0-9]*; do
        pid=${entry#/proc/}
        case "$found " in *" $pid "*) continue ;; esac
        look_up "$pid" || continue
        case $sessions in *" $session "*) found="$found $pid" ;; esac
    done
    echo "$found"
}

# Sends signal $1 to the tree; false when nothing is left of it.
signal() {
    pids=$(members)
    [ -n "$pids" ] || return
    # shellcheck disable=SC2086
    kill "-$1" $pids 2>/dev/null || : # one that has just ended says nothing about the others
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
    signal TERM || return
    signal CONT # a stopped process would not see the TERM
    look_at_clock
    end=$((now + _grace))
    while [ "$now" -le "$end" ] && [ -n "$(members)" ]; do
        pause
        look_at_clock
    done
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        signal KILL || return
        pause
    done
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
    # All on one line, which the shell has read when env_setup begins (gridops/jobs/setup.py).
    _command="{ eval \"shift; \$1\"; case \$? in 0) >|$_record/begun ;; *) exit ;; esac || exit 125; }
$_command"
fi

# A login that ignores TERM leaves us no way to end the watcher but one that would stop it half-way.
# Then it sees by itself, when our input has ended with us, that the command has ended before.
_deaf=yes
trap '_deaf=' TERM
kill -s TERM "$$"
trap - TERM

exec 3<&0 </dev/null
{
    trap '' HUP PIPE
    shield
    look_up "$$"
    _born=$tick
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
exec 4>&2 2>/dev/null
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
