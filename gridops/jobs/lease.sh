# shellcheck shell=sh disable=SC2034,SC2154 # its sisters use these, or set them
# -- slots and GPUs of this node: who may run now ---------------------------------------------------
#
# locks/HOST/mutex/N              a link names the holder, a plain file says "free"; the highest N counts
# locks/HOST/queue/N.IDENTITY.ID  the jobs that wait, lowest N first; IDENTITY is PID.TICK.BOOT
# locks/HOST/leases/IDENTITY.ID   the jobs that hold a slot; in it a line with the GPUs that they hold,
#                                 and one with the directory where they are to run
#
# Whoever is dead holds nothing, so there is nothing to clean up after a crash or at boot. Queue and
# leases change only under the mutex; a lease ends by itself with the job's record of its end.

newest() { # sets top: the highest N of the mutex, 0 for none
    top=0
    for entry in "$locks"/mutex/*; do
        number=${entry##*/}
        [ -L "$entry" ] || [ -f "$entry" ] || continue
        [ "$number" -le "$top" ] || top=$number
    done
}

try_lock() {
    newest
    if [ -L "$locks/mutex/$top" ]; then
        alive "$(readlink "$locks/mutex/$top")" && return 1
    fi
    ours=$((top + 1))
    ln -s "$me" "$locks/mutex/$ours" 2>/dev/null || return 1
    newest
    if [ "$top" != "$ours" ]; then # we were slow: that number had been used and cleaned up before
        rm -f "$locks/mutex/$ours"
        return 1
    fi
    [ -e "$locks/mutex/$((ours - 60))" ] || [ -L "$locks/mutex/$((ours - 60))" ] || return 0
    for entry in "$locks"/mutex/*; do
        [ "${entry##*/}" -ge $((ours - 20)) ] || set -- "$@" "$entry"
    done
    rm -f "$@"
}

lock() { # takes the mutex, waiting for a living holder
    [ -d "$locks/leases" ] || mkdir -p "$locks/mutex" "$locks/queue" "$locks/leases"
    until try_lock; do nap 0.02; done
}

unlock() {
    : >"$locks/mutex/$((ours + 1))" || rm -f "$locks/mutex/$ours" # no inode left for the mark
} 2>/dev/null

in_force() { # whether the lease PID.TICK.BOOT.ID counts; what a dead supervisor left is ended first
    [ ! -L "${1#*.*.*.}/exit" ] || return 1
    ! alive "$1" || return 0
    (sweep "${1#*.*.*.}" 0) || return 0
    (settle "${1#*.*.*.}")
    return 1
}

survey() { # sets held (the number of leases), holders (their jobs) and leased (their GPUs)
    held=0 holders='' leased=' '
    for lease in "$locks"/leases/*; do
        [ -f "$lease" ] || continue
        if in_force "${lease##*/}"; then
            held=$((held + 1)) holders="$holders ${lease##*.}"
            read -r words <"$lease" && leased="$leased$words "
        else
            rm -f "$lease"
        fi
    done
}

first_waiting() { # sets head: the ticket of the first in the queue, and last: the highest number
    head='' last=1000000000
    for entry in "$locks"/queue/*; do
        [ -f "$entry" ] || continue
        words=${entry##*/}
        last=${words%%.*}
        [ -z "$head" ] || continue
        if [ ! -L "${entry##*.}/exit" ] && alive "${words#*.}"; then head=$entry; else rm -f "$entry"; fi
    done
}

# Grants this supervisor a slot and its GPUs (of those that find_gpus found free), all or nothing;
# fails when that cannot be now.
# A job that may wait has a ticket from its first attempt on, and never overtakes an older one.
acquire() {
    lock
    survey
    first_waiting
    granted=''
    if [ "$head" = "$ticket" ] && [ "$held" -lt "$slots" ] && choose_gpus; then
        grant && granted=yes
    elif [ "$wait" -gt 0 ] && [ -z "$ticket" ]; then
        ticket=$locks/queue/$((last + 1)).$me.$id
        : >"$ticket"
    fi
    unlock
    [ -n "$granted" ]
}

grant() {
    lease=$locks/leases/$me.$id
    if ! printf '%s\n%s\n' "$chosen" "$where" >"$lease"; then
        # On a full disk there is room for an empty one, which will do where no GPUs are named.
        if [ -n "$chosen" ] || ! : >"$lease"; then
            rm -f "$lease"
            return 1
        fi
    fi
    [ -z "$ticket" ] || rm -f "$ticket"
} 2>/dev/null

choose_gpus() { # sets chosen: as many as wanted of those that are free and not leased
    chosen='' missing=$gpus
    for gpu in $free_gpus; do
        [ "$missing" -gt 0 ] || break
        has "$leased" "$gpu" && continue
        chosen="$chosen${chosen:+ }$gpu" missing=$((missing - 1))
    done
    [ "$missing" -eq 0 ]
}

# Waits for a slot, $wait seconds at most (1/100 of them), or until the job is told to end.
stand_in_line() {
    clock
    until_when=$((centis + wait)) heard=$centis
    while [ ! -L "$id/kill" ]; do
        if [ "$hold" -gt 0 ] && [ ! -L "$id/go" ] && ! heard_of; then
            ! ln -s no "$id/go" 2>/dev/null || break
        fi
        first_waiting
        if [ "$head" = "$ticket" ]; then
            if [ "$gpus" -eq 0 ]; then
                acquire && return
            else
                find_gpus && acquire && return
                nap 0.8 # the driver's tools are slow
            fi
        fi
        clock
        [ "$centis" -lt "$until_when" ] || break
        nap 0.15
    done
    rm -f "$ticket"
    return 1
}
