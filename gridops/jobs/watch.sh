# shellcheck shell=sh disable=SC2034,SC2154 # its sisters use these, or set them
# -- watching the command to its end ----------------------------------------------------------------
#
# These run in the supervisor, or in processes of its own; `id`, `me` and the settings are its. A
# shutdown, or logind where it ends what a login left, sends TERM (and HUP) to all of them and to the
# command at once, and KILL a while later. None of them goes by the first: the output up to the
# command's end is kept, and that end is put on record as one that was not the command's own.

shutdown_window=12000 # 1/100 s after a TERM that its KILL may take to come; systemd gives 90 s

# Appends its input to the stream $1. At the log cap or on a full disk it notes the cut and goes on
# to empty the pipe, so that the command is not held up and its status stays true.
pump() {
    trap '' HUP INT TERM
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

# Ends the run when its time is up. Our input ends with the `sleep` that is the timer: either that
# has slept its fill, or it was killed since the run has ended, or somebody else ended it.
time_out() {
    trap '' HUP INT TERM
    read -r _
    clock
    if [ "$centis" -lt "$deadline" ] || [ -L "$id/exit" ]; then exit; fi
    ln -s "$grace.timeout" "$id/kill" && end_processes "$id" "$grace"
} 2>/dev/null

start_timer() { # sets timer: a process that is killed when the run has ended
    case $timeout in
    *.00) timeout=${timeout%.*} ;;
    *) sleep 0.01 2>/dev/null || timeout=$((${timeout%.*} + 1)) ;; # BusyBox without fractions
    esac
    case $timeout in
    *.*) hundredths=${timeout#*.} ;;
    *) hundredths=00 ;;
    esac
    clock
    deadline=$((centis + ${timeout%.*} * 100 + ${hundredths#0}))
    time_out <"$id/p.time" &
    (
        trap '' HUP INT TERM
        exec sleep "$timeout" >"$id/p.time" 2>/dev/null
    ) &
    timer=$!
}

stop_timer() {
    [ -z "$timer" ] || kill -KILL "$timer"
} 2>/dev/null

# Our input ends with the supervisor; a command without one is ended. A TERM or HUP that comes to us
# has come to the supervisor, too, which sees nothing until the command ends: we note when it came.
guard() {
    trap '' INT
    trap 'told=yes; clock; echo "$centis" >"$id/p.term"' HUP TERM
    until
        told=''
        read -r _
        [ -z "$told" ]
    do :; done
    trap '' HUP TERM
    if [ -L "$id/exit" ]; then
        release "$id" # it may have died before it did so
        exit
    fi
    stop_timer
    end_processes "$id" "$grace"
    settle "$id"
} 2>/dev/null

# Whether the command was ended together with us, by somebody who ends all of a login or of the node.
# `told` is set when the supervisor got a TERM or HUP while the command ran; the guard knows when.
shut_down() {
    case $code in
    129 | 143) [ -n "$told" ] || nap 0.1 ;; # ours may come a moment after the command's
    esac
    [ -n "$told" ] || return
    tries=20 # a guard on a busy node comes late
    until [ -s "$id/p.term" ] || [ "$tries" = 0 ]; do
        nap 0.05
        tries=$((tries - 1))
    done
    if { read -r when <"$id/p.term"; } 2>/dev/null && [ -n "$when" ]; then
        [ $((began + took - when)) -lt "$shutdown_window" ]
    else # we alone were told
        case $code in 129 | 137 | 143) ;; *) return 1 ;; esac
    fi
}

conclude() { # the command has ended: what it left behind is ended too, its last words are kept
    signal=0 reason='exit' leftover=2
    if [ -L "$id/kill" ]; then
        reason=killed leftover=$(readlink "$id/kill")
        leftover=${leftover%%.*}
    fi
    [ "$reason" = killed ] || ! shut_down || reason=shutdown
    trap '' HUP INT TERM PIPE # what puts the end on record is not to be ended half-way
    [ -L "$id/child" ] || [ "$reason" != 'exit' ] || reason=unbegun
    [ -z "$setup" ] || [ -e "$id/spec/begun" ] || [ "$reason" != 'exit' ] || reason=setup
    since=''
    if [ "$took" -lt 50 ] && leader=$(readlink "$id/child"); then since=${leader%%.*}; fi
    [ -n "$keep" ] || end_processes "$id" "$leftover"
    since=''
    stop_timer
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
    rm -f "$id"/p.* "$id/spec/env" "$id/spec/login" "$locks/leases/$me.$id" ${ticket:+"$ticket"}
}
