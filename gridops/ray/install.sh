# shellcheck shell=sh disable=SC2034,SC2154 # process.sh comes before this and sets or uses these
# Ray's virtual environment on a node. "find" looks what is there, "make" makes it.
#
# <root>/.ray/NAME/ready exists when all of it is there: "RAY PYTHON", the versions. It is placed by a
# rename as the last thing; an environment without it is begun anew.

unset CDPATH GRIDOPS_RUN_ID
umask 077
read -r boot </proc/sys/kernel/random/boot_id
boot=${boot%%-*}
read -r host </proc/sys/kernel/hostname
tag_name=GRIDOPS_RAY
nl='
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

# Runs a command as the node's commands are run: after env_setup, which bash reads where there is one.
# What env_setup prints is no part of an answer.
as_usual() {
    # shellcheck disable=SC2016 # for the inner shell to expand
    "$(command -v bash || command -v sh)" -c '
        eval "$1" >&2 || exit 97
        shift
        exec "$@"' sh "$setup" "$@"
}

check_setup() { # no status tells whether env_setup let a command run, its output does
    said=$( (as_usual echo "$nl$tag_name") 2>&1)
    case $said in *"$nl$tag_name") return ;; esac
    said=$(printf '%s\n' "$said" | grep '[^ ]' | tail -n 1)
    fail "env_setup failed${said:+: $said}" "the node's env_setup must end with status 0"
}

python_version() {
    "$1" -I -c 'import sys; print(".".join(map(str, sys.version_info[:3])))' 2>/dev/null
}

# -- find -----------------------------------------------------------------------------------------

find_python() { # sets python and version, as the wish $1 has it: a path, "3.11", "3.11.7" or ""
    case $1 in
    */* | '~'*)
        expand "$1"
        python=$dir
        version=$(python_version "$python") || fail "$1 is not a working Python" "correct ray.python"
        return
        ;;
    '') names='python3 python' ;;
    *) names="python$(printf '%s\n' "$1" | cut -d. -f1,2) python3" ;;
    esac
    # shellcheck disable=SC2016,SC2086 # the inner shell expands; several words
    found=$(as_usual sh -c 'for one in "$@"; do command -v "$one"; done' sh $names)
    IFS=$nl
    # shellcheck disable=SC2086 # a line each
    set -- "$1" $found "$HOME"/.pyenv/versions/"$1"*/bin/python
    unset IFS
    wish=$1
    shift
    for python in "$@"; do
        version=$(python_version "$python") || continue
        case $version in "${wish:-$version}" | "$wish".*) return ;; esac
    done
    [ -n "$uv" ] && python=$(as_usual "$uv" python find "${wish:-3}" 2>/dev/null) &&
        version=$(python_version "$python")
}

verb_find() { # ROOT NAME WISH SETUP [DIRECTORY FOR WHEELS]
    setup=$4
    expand "$1"
    mkdir -p "$dir/.ray${5:+/$5}" 2>/dev/null # one home of several nodes: rsync would make it twice
    [ -w "$dir/.ray" ] || fail "$1/.ray cannot be written" "move remote_root, or make it writable"
    top=$(cd "$dir/.ray" && pwd -P)
    ours_alone "$top" || fail "$trouble" "$remedy"
    [ -z "$setup" ] || check_setup
    uv=$(as_usual sh -c 'command -v uv' 2>/dev/null)
    [ -n "$uv" ] || [ ! -x "$HOME/.local/bin/uv" ] || uv=$HOME/.local/bin/uv
    printf 'top %s\n' "$top"
    [ -z "$uv" ] || printf 'uv %s\n' "$uv"
    if [ -f "$top/$2/ready" ]; then
        read -r _ known <"$top/$2/ready"
        version=$(python_version "$top/$2/bin/python")
        if [ -n "$known" ] && [ "$version" = "$known" ]; then
            printf 'ready %s\nversion %s\n' "$(cat "$top/$2/ready")" "$version"
            return
        fi # its Python was removed, or replaced by another
    fi
    find_python "$3" || fail "there is no Python${3:+ $3}" \
        "install one, have uv there, or name one with ray.python"
    room=$(df -P -k "$top" | sed -n '$s/.* \([0-9]*\)  *[0-9]*% .*/\1/p')
    printf 'python %s\nversion %s\nroom %s\n' "$python" "$version" "$room"
}

# -- make -----------------------------------------------------------------------------------------

take_turn() { # one installation at a time; an interrupted one has no turn any more
    identify $$
    said=''
    until ln -s "$identity.$host" "$lock" 2>/dev/null; do
        holder=$(readlink "$lock")
        case $holder in
        *."$host")
            if ! alive "$holder"; then
                [ "$(readlink "$lock")" != "$holder" ] || rm -f "$lock"
                continue
            fi
            ;;
        esac
        [ -n "$said" ] || echo "step waiting for another installation, by ${holder##*.} ($PWD/$lock)"
        said=yes
        nap 0.2
    done
    trap 'rm -f "$lock"' EXIT
    trap 'exit 1' HUP INT TERM PIPE
}

relay() { # pip's words, a line each
    while IFS= read -r line; do printf 'pip %s\n' "$line"; done
}

step() { # runs a command with the tag of this installation; says its words
    { as_usual env GRIDOPS_RAY="$id" "$@" </dev/null 2>&1 || : >"$failed"; } | relay
    [ ! -e "$failed" ]
}

verb_make() { # TOP NAME PYTHON UV SETUP WHEELS REQUIREMENT... -- PIP_ARGUMENT...
    top=$1 name=$2 python=$3 uv=$4 setup=$5 wheels=$6
    shift 6
    cd "$top" || exit
    id=install-$name-$host lock=$name.lock failed=$top/$name.failed
    venv=$top/$name
    take_turn
    if [ -f "$name/ready" ] && "$name/bin/python" -I -c '' 2>/dev/null; then
        printf 'ready %s\n' "$(cat "$name/ready")" # by whoever had the turn before us
        return
    fi
    since=''
    sweep "$id" 2 # what an interrupted one has left running
    rm -rf "$failed" "$name"
    echo "step making the environment"
    if [ -n "$uv" ]; then
        step "$uv" venv --quiet --python "$python" "$venv" || no_venv
        set -- "$uv" pip install --python "$venv/bin/python" ${wheels:+--no-index} \
            ${wheels:+--find-links} ${wheels:+"$wheels"} "$@"
    else
        step "$python" -m venv "$venv" || no_venv
        set -- "$venv/bin/python" -m pip install --disable-pip-version-check --no-input \
            --progress-bar off ${wheels:+--no-index} ${wheels:+--find-links} ${wheels:+"$wheels"} "$@"
    fi
    echo "step installing"
    step "$@" || fail "the installation failed" ""
    echo "step checking"
    # shellcheck disable=SC2016 # no shell's business
    step "$venv/bin/python" -I -c 'import sys, ray
with open(sys.argv[1], "w") as file:
    print(ray.__version__, ".".join(map(str, sys.version_info[:3])), file=file)' "$venv/ready.new" ||
        fail "Ray was installed but cannot be imported" ""
    mv "$venv/ready.new" "$venv/ready"
    printf 'ready %s\n' "$(cat "$venv/ready")"
}

no_venv() {
    rm -rf "$venv"
    fail "$python could not make a virtual environment" \
        "install the package python3-venv there, have uv there, or name another Python in ray.python"
}

verb=$1
shift
"verb_$verb" "$@"
