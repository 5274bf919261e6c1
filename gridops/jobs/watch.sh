# shellcheck shell=sh disable=SC2034,SC2154 # its sisters use these, or set them
# -- watching the command to its end ----------------------------------------------------------------
#
# These run in the supervisor, or in processes of its own; `id`, `me` and the settings are its.

# Appends its input to the stream $1. At the log cap or on a full disk it notes the cut and goes on
# to empty the pipe, so that the command is not held up and its status stays true.
pump() {
    (
        trap '' XFSZ
        [ "$log_cap" = 0 ] || ulimit -f "$log_cap"
        exec cat
    ) >>"$id/$1" 2>/dev/null && return
    size=$(stat -c %s "$id/$1")
    cut=full
    [ "$log_cap" = 0 ] || [ "$size" -lt $((log_cap * 512)) ] || cut=cap
    ln -s "$cut" "$id/$1.cut"
    exec cat >/dev/null
}

time_out() {
    trap 'kill $napping; exit' TERM
    sleep "$timeout" &
    napping=$!
    wait "$napping" || {
        [ ! -L "$id/exit" ] || exit # BusyBox without fractions
        sleep $((${timeout%.*} + 1)) &
        napping=$!
        wait "$napping"
    }
    ln -s "$grace.timeout" "$id/kill" && sweep "$id" "$grace"
} 2>/dev/null

guard() { # our input ends with the supervisor; a command without one is ended
    read -r _
    if [ -L "$id/exit" ]; then
        release "$id" # it may have died before it did so
        exit
    fi
    [ -z "$timer" ] || kill "$timer"
    sweep "$id" "$grace"
    settle "$id"
} 2>/dev/null

conclude() { # the command has ended: what it left behind is ended too, its last words are kept
    signal=0 reason='exit' leftover=2
    if [ -L "$id/kill" ]; then
        reason=killed leftover=$(readlink "$id/kill")
        leftover=${leftover%%.*}
    fi
    [ -L "$id/child" ] || [ "$reason" = killed ] || reason=unbegun
    [ -z "$setup" ] || [ -e "$id/spec/begun" ] || [ "$reason" != 'exit' ] || reason=setup
    since=''
    if [ "$took" -lt 50 ] && leader=$(readlink "$id/child"); then since=${leader%%.*}; fi
    [ -n "$keep" ] || sweep "$id" "$leftover"
    since=''
    [ -z "$timer" ] || kill "$timer" 2>/dev/null
    drain
    if [ "$code" -gt 128 ]; then
        read -r said <"$id/spec/note"
        [ -z "$said" ] && [ "$code" != 130 ] && [ "$code" != 141 ] || signal=$((code - 128))
    fi
    [ "$reason" != setup ] || blame_setup
    finish "$code" "$signal" "$reason"
    exec 9>&- # the guard is not needed any more
    tidy
    exit
}

blame_setup() { # the command has not begun: the shell's own words are in err already
    how="status $code"
    [ "$code" != 0 ] || how='it ended the shell'
    printf 'gridops: env_setup failed (%s): the command did not begin\n' "$how" >>"$id/err"
    code=125 signal=0
} 2>/dev/null

drain() { # waits for the pumps; when an escaped process holds a pipe, until nothing came for 0.5 s
    sizes='' still=0 pause=0.01
    clock
    latest=$((centis + 500))
    while running "$pump_out" || running "$pump_err"; do
        before=$sizes
        sizes=$(stat -c %s "$id/out" "$id/err")
        clock
        [ "$sizes" = "$before" ] || still=$((centis + 50))
        if [ "$centis" -ge "$still" ] || [ "$centis" -ge "$latest" ]; then break; fi
        nap "$pause"
    done
}

running() {
    look_up "$1" && [ "$state" != Z ]
}

finish() { # CODE SIGNAL REASON: puts the end on record, whatever the disk says, and lets go
    trap - EXIT
    [ -z "$secret" ] || forget_secrets "$id"
    until record_end "$id" "$1" "$2" "${took:-x}" "$3"; do
        if [ ! -d "$id" ] || [ -L "$id/exit" ]; then break; fi
        rm -f "$id"/p.* # makes room for the record
        nap 0.5
    done
    rm -f "$id"/p.* "$id/spec/env" "$locks/leases/$me.$id" ${ticket:+"$ticket"}
}
