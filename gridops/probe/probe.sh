# What a node is asked, in one round trip. It answers in lines, a tag and a value, between
# "gridops-probe 1" and "end"; gridops/probe/parse.py reads them.
#
# $1 remote_root as the inventory spells it, $2 how long to watch the CPUs, $3 how long the GPU tools
# may take (both in seconds), $4 the CPU times of a moment ago if they are known: then nothing is
# waited for; $5 the node's env_setup and $6 its name, if it has one (then setup.sh precedes this).
# POSIX sh: dash, bash, BusyBox. It runs on hundreds of nodes at once, so it reads /proc
# with `read`, forks only for sleep, df, who and the GPU tools, and says what it noted in one write:
# every write is a packet, and wakes four processes on its way.

LC_ALL=C # numbers with a point, messages that can be recognised
export LC_ALL
window=$2 gpu_limit=$3
mark='#gridops'
noted=''
nl='
'

note() { noted=$noted$*$nl; }

cpu_times() { # the first line of /proc/stat: all cores together
    read -r line </proc/stat && note stat "$line"
}

cores() { # those online, as the kernel lists them ("0-3,8"), else their number
    if read -r online </sys/devices/system/cpu/online; then
        note online "$online"
        return
    fi
    count=0
    while read -r name _; do
        case $name in cpu[0-9]*) count=$((count + 1)) ;; esac
    done </proc/stat
    note cores "$count"
} 2>/dev/null

memory() { # kernels before 3.14 have no MemAvailable: then the parts it can be estimated from
    while read -r key value _; do
        case $key in
        MemAvailable:)
            note mem "$key" "$value"
            break
            ;;
        MemTotal: | MemFree: | Buffers: | Cached: | SReclaimable: | Shmem:)
            note mem "$key" "$value"
            ;;
        esac
    done </proc/meminfo
}

disk() { # where remote_root is, or will be: its nearest parent that exists
    case $1 in
    [~]) dir=$HOME ;;
    [~]/*) dir=$HOME/${1#??} ;;
    /*) dir=$1 ;;
    *) dir=$HOME/$1 ;;
    esac
    case $dir in /*) ;; *) dir=/$dir ;; esac
    while [ ! -e "$dir" ] && [ "$dir" != / ]; do
        dir=${dir%/*}
        dir=${dir:-/}
    done
    [ -w "$dir" ] || note readonly "$dir"
    said=$(df -P -k "$dir" 2>/dev/null)
    note disk "${said##*"$nl"}"
}

users() { # a login a line; where nothing keeps records there is nothing to ask for
    for file in /run/utmp /var/run/utmp /run/systemd/sessions/*; do
        [ -s "$file" ] || continue
        while read -r name _; do
            [ -z "$name" ] || note user "$name"
        done <<END
$(who 2>/dev/null)
END
        return
    done
}

ray_part() { # head or worker, if a Ray cluster of gridops has a living part here
    for file in "$HOME"/.gridops/ray/*/*/record; do
        [ -f "$file" ] || return # the pattern itself: there is none
        read -r pid tick boot role <"$file" || continue
        read -r now_boot </proc/sys/kernel/random/boot_id
        if [ "$boot" = "${now_boot%%-*}" ] && started "$pid" && [ "$ticks" = "$tick" ]; then
            printf 'ray %s\n' "$role"
        fi
    done
} 2>/dev/null

# -- GPUs: tools that may hang for ever in the driver, so each has a limit and a record ------------

started() { # sets ticks, the start time of process $1; fails when it is gone (or only a zombie)
    read -r line <"/proc/$1/stat" || return 1
    # shellcheck disable=SC2086 # split on purpose; what precedes is the name, which may hold blanks
    set -- ${line##*) }
    ticks=${20}
    case $1 in Z | X) return 1 ;; esac
}

# -- durable runs: who holds a slot, and who waits for one (gridops/jobs/lease.sh has the rules) ----

in_force() { # sets run; whether its lease or ticket PID.TICK.BOOT.RUN counts
    run=${1##*.} pid=${1%%.*} born=${1#*.}
    [ "${born#*.}" = "${boot%%-*}.$run" ] || return 1
    [ ! -L "$HOME/.gridops/jobs/$run/exit" ] && started "$pid" && [ "$ticks" = "${born%%.*}" ]
}

runs() { # a line a run; one that gets its slot just now may be in both lists
    [ -d "$HOME/.gridops/locks" ] || return
    read -r host </proc/sys/kernel/hostname
    read -r boot </proc/sys/kernel/random/boot_id
    for entry in "$HOME/.gridops/locks/$host"/queue/*; do
        entry=${entry##*/}
        in_force "${entry#*.}" && note waiting "$run"
    done
    for entry in "$HOME/.gridops/locks/$host"/leases/*; do
        in_force "${entry##*/}" || continue
        read -r gpus <"$entry" || gpus=''
        note lease "$run" "$gpus"
    done
} 2>/dev/null

# -- GPUs: tools that may hang for ever in the driver, so each has a limit and a record ------------

owner() { # whose process $1 is; another user's may be hidden from us, then nothing
    case $1 in *[!0-9]* | '') return ;; esac
    while read -r key uid _; do
        [ "$key" = Uid: ] && printf 'owner %s %s\n' "$1" "$uid" && break
    done <"/proc/$1/status"
}

record() { # names the link that tells of a $1 tool that hangs; homes may be shared by nodes
    read -r host </proc/sys/kernel/hostname
    read -r boot </proc/sys/kernel/random/boot_id
    link=$HOME/.gridops/$1-stuck.$host
}

still_stuck() { # whether the $1 tool of an earlier probe still hangs; if so, says so
    record "$1"
    [ -L "$link" ] || return 1
    known=$(readlink "$link")
    pid=${known%%.*}
    if started "$pid" && [ "$known" = "$pid.$ticks.$boot" ]; then
        printf '%s-stuck %s %s\n' "$1" "$pid" "$ticks"
        return 0
    fi
    rm -f "$link"
    return 1
}

give_up() { # kill process $2 of the $1 tool; one that even so does not go is put on record
    kill -9 "$2"
    for pause in 0.05 0.2 0.5; do
        started "$2" || return 0
        sleep "$pause" || sleep 1
    done
    started "$2" || return 0
    record "$1"
    umask 077
    mkdir -p "${link%/*}"
    ln -s "$2.$ticks.$boot" "$link"
    printf '%s-stuck %s %s\n' "$1" "$2" "$ticks"
}

question() { # $1 names it, the rest is the command; its pid is told before it says anything
    topic=$1
    shift
    # shellcheck disable=SC2016 # the inner shell expands these
    sh -c 'printf "%s\n" "$0 ask $1 $$"; shift; exec "$@"' "$mark" "$topic" "$@"
    said=$?
    printf '\n%s answered %s\n' "$mark" "$said"
    return "$said"
}

relay() { # what the questions of $1 (on our input) bring, each line with its tag
    topic='' pid='' timer=''
    while IFS= read -r line; do
        case $line in
        "$mark ask "*)
            pid=${line##* }
            line=${line#"$mark ask "}
            topic=${line% *}
            ;;
        "$mark answered "*)
            printf '%s-status %s %s\n' "$1" "$topic" "${line##* }"
            pid=''
            ;;
        "$mark timer "*) timer=${line##* } ;;
        "$mark done") break ;;
        "$mark late")
            printf '%s-late %s\n' "$1" "$topic"
            [ -z "$pid" ] || give_up "$1" "$pid"
            break
            ;;
        '') ;;
        *)
            printf '%s-%s %s\n' "$1" "$topic" "$line"
            if [ "$topic" = apps ]; then
                line=${line#*, }
                owner "${line%%,*}"
            fi
            ;;
        esac
    done
    [ -z "$timer" ] || kill "$timer"
}

bounded() { # ask about $1 with function $2, but for no longer than gpu_limit
    still_stuck "$1" && return
    printf 'self %s\n' "$$"
    owner "$$"
    {
        sleep "$gpu_limit" &
        timer=$!
        printf '%s timer %s\n' "$mark" "$timer"
        {
            "$2"
            printf '%s done\n' "$mark"
        } </dev/null 2>&1 &
        wait "$timer"
        printf '%s late\n' "$mark"
    } | relay "$1"
}

find_tool() { # sets tool; fails when this node has no $1
    tool=$1
    command -v "$tool" >/dev/null && return
    for dir in /usr/bin /usr/local/bin /usr/local/nvidia/bin /usr/lib/wsl/lib /opt/rocm/bin; do
        tool=$dir/$1
        [ -x "$tool" ] && return
    done
    return 1
}

ask_nvidia() {
    fields=index,uuid,name,memory.total,memory.used,utilization.gpu,temperature.gpu
    question gpus "$tool" "--query-gpu=$fields" --format=csv,noheader,nounits || return
    fields=gpu_uuid,pid,used_memory
    question apps "$tool" "--query-compute-apps=$fields" --format=csv,noheader,nounits
}

ask_rocm() {
    question rocm "$tool" --showuniqueid --showproductname --showmeminfo vram --showuse --showtemp \
        --json || return
    kfd_apps
}

ask_amd() {
    question list "$tool" list --json || return
    question asic "$tool" static --asic --json || return
    question metric "$tool" metric --mem-usage --usage --temperature --json || return
    kfd_apps
}

kfd_apps() { # the compute processes of AMD GPUs as the kernel knows them: GPU, process, bytes
    printf '%s ask apps \n' "$mark" # nothing is run, so there is no pid
    for file in /sys/class/kfd/kfd/proc/*/vram_*; do
        read -r bytes <"$file" || continue
        dir=${file%/*}
        printf '%s, %s, %s\n' "${file##*/vram_}" "${dir##*/}" "$bytes"
    done
}

# In the background, as they wait for drivers; what may stay behind must not hold our streams open.

nvidia() {
    if find_tool nvidia-smi; then
        { bounded nvidia ask_nvidia; } 2>/dev/null &
    elif [ -d /proc/driver/nvidia/gpus ]; then
        printf 'nvidia-missing\n'
    fi
}

amd() {
    if find_tool rocm-smi; then
        { bounded amd ask_rocm; } 2>/dev/null &
    elif find_tool amd-smi; then
        { bounded amd ask_amd; } 2>/dev/null &
    fi
}

# -- the probe -------------------------------------------------------------------------------------

printf 'gridops-probe 1\n'
if [ -n "$4" ] && [ -r /proc/stat ]; then
    note stat "$4"
elif ! cpu_times 2>/dev/null; then
    printf 'unsupported %s\nend\n' "$(uname -s)"
    exit
fi
nvidia
amd
cores
read -r line </proc/loadavg && note load "$line"
read -r line </proc/uptime && note uptime "$line"
memory
disk "$1"
users
runs
ray_part
[ -n "$4" ] || sleep "$window" 2>/dev/null || sleep 1 # where it knows no fractions
if [ -n "${5-}" ]; then
    cpu_times # what env_setup takes is no load of the node's
    try_setup "$5" "$6"
    wait
else
    wait
    cpu_times
fi
printf '%send\n' "$noted"
