# shellcheck shell=sh disable=SC2034,SC2154 # its sisters use these, or set them
# -- looking: what is known of jobs, and their output as it grows -----------------------------------

piece_limit=4194304 # bytes of one stream that are sent before the other is looked at: 0.1 to 0.5 s
block=65536

# For each job: a "state" line unless it has ended on record; then the facts that its files tell, in
# stat's words, and the first line of what the client gave us, below its name and behind "# ": it may
# hold anything. "now" is the time here.
verb_status() {
    unset QUOTING_STYLE
    facts='' runs='' batch=0 undone=''
    for id in "$@"; do
        describe "$id"
        [ ! -L "$id/left" ] || tell_left "$id"
        for entry in "$id"/sup "$id"/child "$id"/kill "$id"/exit "$id"/gpus "$id"/*.cut; do
            [ ! -L "$entry" ] && [ ! -e "$entry" ] || facts="$facts $entry"
        done
        for entry in "$id"/out "$id"/err "$id"/spec/diff "$id"/tree; do
            [ ! -e "$entry" ] || facts="$facts $entry"
        done
        [ ! -f "$id/spec/run" ] || runs="$runs $id/spec/run"
        batch=$((batch + 1))
        [ $((batch % 500)) != 0 ] || tell
    done
    tell
    [ -z "$undone" ] || echo "now $(date +%s)"
    echo "done"
}

tell() { # sends the facts of the jobs gathered so far
    # shellcheck disable=SC2086 # lists of paths without blanks
    {
        [ -z "$facts" ] || LC_ALL=C stat -c 'file %Y %s %N' $facts
        for entry in $runs; do
            line=''
            IFS= read -r line <"$entry" || :
            printf '# ==> %s <==\n# %s\n' "$entry" "$line"
        done
    } 2>/dev/null
    facts='' runs=''
}

# The same for every job, whether there is something to show of it or not. There may be thousands:
# their files are told in one go, and hardly a step is taken for one that has ended.
verb_list() {
    unset QUOTING_STYLE
    discard_cut_uploads
    undone=''
    for entry in */spec; do
        [ -L "${entry%/spec}/exit" ] || [ ! -d "$entry" ] || describe "${entry%/spec}"
    done
    for entry in */left; do
        [ ! -L "$entry" ] || tell_left "${entry%/left}"
    done
    {
        printf '%s\0' */sup */child */kill */exit */gpus */*.cut */out */err */spec/diff */tree |
            LC_ALL=C xargs -0 stat -c 'file %Y %s %N' | sed -n '/^file /p'
        # shellcheck disable=SC2016 # expanded by the other shell
        printf '%s\0' */spec/run |
            LC_ALL=C xargs -0 sh -c 'head -v -n 1 "$@" | cut -b -131072 | sed "s/^/# /"; echo' sh
    } 2>/dev/null
    [ -z "$undone" ] || echo "now $(date +%s)"
    echo "done"
}

describe() { # says how job $1 is, unless its end is on record or gets there now
    [ ! -L "$1/exit" ] || return 0
    by=$(readlink "$1/sup" 2>/dev/null)
    case $by in
    '') word=absent ;;
    cancelled) word=cancelled ;;
    *.*.*."$host")
        if alive "$by"; then
            word=queued
            [ ! -L "$1/held" ] || word=held
            [ ! -L "$1/child" ] || word=running
        elif [ -L "$1/exit" ]; then
            return
        elif has_members "$1"; then
            word=orphan
        else
            settle "$1"
            return
        fi
        ;;
    *) word=elsewhere ;;
    esac
    undone=yes
    echo "state $1 $word"
}

tell_left() { # says which processes of job $1 could not be ended and still run: PID:USER:NAME ...
    living=''
    for word in $(readlink "$1/left" | tr , ' '); do
        ! alive "$word" || living="$living ${word%%.*}:${word#*.*.*.}"
    done
    [ -z "$living" ] || echo "left $1$living"
}

# Sends the output of job $1 from these offsets on until its end: "out OFFSET LENGTH" or "err ..."
# and so many bytes; "alive" at least every 2 s; "state ..." as that changes; "end" and its status.
# With $4 "once", what there is now.
verb_follow() {
    id=$1 out=$2 err=$3 once=$4 out_end='' err_end='' pause=0.01 latest='' shown=''
    clock
    beat=$((centis + 200))
    while :; do
        ended=''
        # Looked at before the sizes, so that no tail is missed.
        if [ -L "$id/exit" ] || [ -e "$id/exit" ]; then ends; fi
        if ! measure; then
            if [ -n "$ended" ] || ! alive "$(readlink "$id/sup")"; then break; fi
            nap 0.02 # claimed a moment ago
            continue
        fi
        if [ -n "$once" ] && [ -z "$out_end" ]; then # else who prints fast is never caught up with
            out_end=${sizes%%"$nl"*} err_end=${sizes##*"$nl"}
        fi
        moved=''
        piece out "$out" "${sizes%%"$nl"*}" "$out_end" && out=$((out + length))
        piece err "$err" "${sizes##*"$nl"}" "$err_end" && err=$((err + length))
        if [ -n "$moved" ]; then
            latest='' pause=0.01
        else
            [ -z "$ended$once" ] || break
            idle
            [ "$ended" != never ] || break
        fi
    done
    echo end
    verb_status "$id"
}

verb_begun() { # waits, $2 seconds at most, until job $1 is past its env_setup; how it is then
    clock
    latest=$((centis + $2 * 100))
    until [ -e "$1/spec/begun" ] || [ -L "$1/exit" ] || [ "$centis" -ge "$latest" ]; do
        nap 0.03
        clock
    done
    verb_status "$1"
}

measure() { # sets sizes: how long the streams are; fails when there are none
    if [ "$out$err" = 00 ] && [ -f "$id/err" ] && [ ! -s "$id/out" ] && [ ! -s "$id/err" ]; then
        sizes=0${nl}0 # as at first, and often for long: without a process to find it out
    else
        sizes=$(stat -c %s "$id/out" "$id/err" 2>/dev/null)
    fi
}

verb_tail() { # prints from which offset on stream $2 of job $1 has $3 lines
    id=$1 ended='' out_end='' err_end=''
    [ ! -L "$id/exit" ] || ends
    size=$out_end
    [ "$2" = out ] || size=$err_end
    [ -n "$size" ] || size=$(stat -c %s "$1/$2")
    echo "offset $((size - $(head -c "$size" "$1/$2" | tail -n "$3" | wc -c)))"
    echo "done"
}

verb_read() { # the file $2 that job $1 was started with
    [ ! -f "$1/spec/$2" ] || { echo "out 0 $(stat -c %s "$1/spec/$2")" && cat "$1/spec/$2"; }
    echo "done"
}

ends() { # sets out_end and err_end: how long the streams are on record, CODE.SIGNAL.CENTIS.OUT.ERR.REASON
    ended=$(readlink "$id/exit" || echo odd)
    words=${ended#*.*.*.}
    out_end=${words%%.*}
    words=${words#*.}
    err_end=${words%%.*}
    for size in "$out_end" "$err_end"; do
        case $size in # of a record that is none there is nothing to send
        '' | *[!0-9]* | ???????????????????*) out_end=0 err_end=0 ;;
        esac
    done
}

piece() { # sends what stream $1 has from offset $2 to its size $3, but not past its end $4
    length=$3
    [ -z "$4" ] || [ "$4" -ge "$length" ] || length=$4
    length=$((length - $2))
    [ "$length" -gt 0 ] || return 1
    [ "$length" -le "$piece_limit" ] || length=$piece_limit
    moved=yes
    [ "$length" -lt $((block * 4)) ] || length=$((length / block * block))
    echo "$1 $2 $length" || exit
    clock
    sent_at=$centis
    {
        [ "$2" = 0 ] || dd bs=1 skip="$2" count=0
        if [ $((length % block)) = 0 ]; then
            dd bs="$block" count=$((length / block)) # head copies in small steps
        else
            head -c "$length"
        fi
    } <"$id/$1" 2>/dev/null || exit
    clock
    case $((centis - sent_at)) in
    ?) [ "$length" -lt "$piece_limit" ] || [ "$length" -ge 67108864 ] || piece_limit=$((length * 2)) ;;
    [1-4]?) ;;
    *) [ "$piece_limit" -le 1048576 ] || piece_limit=$((piece_limit / 2)) ;;
    esac
}

idle() { # nothing new: says so now and then, and looks whether the supervisor still lives
    word=queued
    [ ! -L "$id/held" ] || word=held
    [ ! -L "$id/child" ] || word=running
    if [ "$word" != "$shown" ]; then
        echo "state $word" || exit
        shown=$word
    fi
    clock
    latest=${latest:-$centis}
    if [ "$centis" -ge "$beat" ]; then
        echo alive || exit
        beat=$((centis + 200))
        by=$(readlink "$id/sup")
        alive "$by" || describe "$id" >/dev/null
        case $by in *.*.*.* | cancelled) ;; *) ended=never ;; esac # nobody would record its end
    fi
    nap "$pause"
    case $((centis - latest)) in # quick to see what comes soon, cheap where nothing does
    ? | [1-4]?) pause=0.01 ;;
    ??) pause=0.03 ;;
    *) pause=0.08 ;;
    esac
}
