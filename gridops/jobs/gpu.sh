# shellcheck shell=sh disable=SC2034,SC2154 # its sisters use these, or set them
# -- GPUs: which of them nobody uses ---------------------------------------------------------------

kfd=/sys/class/kfd/kfd # what the kernel tells of AMD GPUs
gpu_limit=1000         # 1/100 s that the driver's tool may take

# Sets all_gpus and free_gpus (without those that any process is on, whoever started it) and devices
# (the variable that selects some). Fails when the driver does not tell; then trouble says why.
find_gpus() {
    all_gpus='' free_gpus='' trouble=''
    if find_nvidia; then
        devices=CUDA_VISIBLE_DEVICES
        ask_nvidia || return 1
    elif [ -d "$kfd/topology/nodes" ]; then
        devices=HIP_VISIBLE_DEVICES
        ask_kfd
    fi
}

find_nvidia() { # sets tool
    tool=nvidia-smi
    command -v "$tool" >/dev/null && return
    for tool in /usr/local/bin /usr/local/nvidia/bin /usr/bin /usr/lib/wsl/lib; do
        tool=$tool/nvidia-smi
        [ -x "$tool" ] && return
    done
    return 1
}

ask_nvidia() {
    bounded "$tool" --query-gpu=index,uuid,name --format=csv,noheader || return 1
    all_gpus=$(cut -d, -f2 "$id/spec/answer" | tr -d ' ')
    bounded "$tool" --query-compute-apps=gpu_uuid,pid --format=csv,noheader || return 1
    used=" $(cut -d, -f1 "$id/spec/answer" | tr '\n' ' ') "
    for gpu in $all_gpus; do
        has "$used" "$gpu" || free_gpus="$free_gpus $gpu"
    done
}

# AMD numbers its GPUs in the order of the topology. A process that has opened the driver has a vram_
# file for each of them: those on which it has no memory it does not use.
ask_kfd() {
    count=0
    for node in "$kfd"/topology/nodes/*; do
        { read -r gpu <"$node/gpu_id"; } 2>/dev/null || continue
        [ "$gpu" != 0 ] || continue # the CPU is a node of the topology as well
        all_gpus="$all_gpus $count" used=''
        for words in "$kfd"/proc/*/vram_"$gpu"; do
            { read -r line <"$words"; } 2>/dev/null && [ "$line" != 0 ] && used=yes
        done
        [ -n "$used" ] || free_gpus="$free_gpus $count"
        count=$((count + 1))
    done
}

# Runs a tool of the driver, which may hang in the kernel for ever: then it is left behind, put on
# record where the probe looks too, and no second one is started beside it.
bounded() {
    read -r full_boot </proc/sys/kernel/random/boot_id
    stuck=$base/nvidia-stuck.$host
    case $(readlink "$stuck" 2>/dev/null) in
    *".$full_boot") alive "$(readlink "$stuck")" && trouble=hangs && return 1 ;;
    esac
    "$@" >"$id/spec/answer" 2>/dev/null </dev/null &
    asked=$!
    clock
    late=$((centis + gpu_limit)) pause=0.02
    while look_up "$asked" && [ "$state" != Z ]; do
        clock
        [ "$centis" -lt "$late" ] || { abandon; return 1; }
        nap "$pause"
        pause=0.05
    done
    wait "$asked" || { trouble=fails; return 1; }
}

abandon() {
    trouble=hangs
    kill -KILL "$asked"
    nap 0.5
    look_up "$asked" && [ "$state" != Z ] || return
    rm -f "$stuck"
    ln -s "$asked.$tick.$full_boot" "$stuck"
} 2>/dev/null
