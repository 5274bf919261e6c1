# shellcheck shell=sh
# When a run began and ended, and when what a fetch may bring was last changed;
# gridops/transfers/fetch/narrow.py sends it and times.py reads the answer.
#
#   BASE RUN MARK KINDS WORD ...    a directory, a run's id, a word that no name holds, and names in
#     BASE behind a letter: a directory above a name, only itself; m with all below it; c a symlink,
#     and what it leads to. KINDS has the letters that occur.
#
# The answer is lines "MARK run TIME ID/child" (when one began) and "MARK run TIME ID/exit" (when it
# ended), "MARK here TIME" and "MARK home TIME" (one moment by the clocks of both file systems, where
# they differ), "MARK shared" (other runs have snapshots), and "MARK TIME|MTIME|LINKS|MODE|NAME": TIME is that of the last change of the inode.

set -u
LC_ALL=C TZ=UTC0
export LC_ALL TZ
unset CDPATH QUOTING_STYLE
cd -P -- "$1" || exit
job=$HOME/.gridops/jobs/$2 mark=$3 kinds=$4
shift 4
format="$mark %z|%y|%h|%f|%n"

when() { stat -c "$mark $1 %z" "$2"; } 2>/dev/null

clocks() { # a file server has a clock of its own
    if [ -w .gridops ]; then near=.gridops/clock.$$; else near=.gridops-clock.$$; fi
    if true >"$near" && true >"$job/clock.$$"; then # not ":", which would end the shell
        when here "$near"
        when home "$job/clock.$$"
    fi
    rm -f "$near" "$job/clock.$$"
} 2>/dev/null

only() { # prints those of the words $2... that have the letter $1, without it
    kind=$1
    shift
    for word; do
        case $word in "$kind"*) printf '%s\0' "./${word#?}" ;; esac
    done
}

(
    cd "$HOME/.gridops/jobs" && for record in */child */exit; do
        [ ! -L "$record" ] || printf '%s\0' "$record"
    done | xargs -0 stat -c "$mark run %z %n"
) 2>/dev/null
[ "$(stat -c %d .)" = "$(stat -c %d "$job")" ] || clocks
for tree in "$HOME"/.gridops/jobs/*/tree; do
    [ ! -d "$tree" ] || [ "$tree" = "$job/tree" ] || { printf '%s shared\n' "$mark" && break; }
done
{
    case $kinds in *a*) only a "$@" | xargs -0 stat -c "$format" ;; esac
    # shellcheck disable=SC2016 # for the inner shell to expand
    case $kinds in *m*) only m "$@" | xargs -0 sh -c '
        format=$1
        shift
        exec find "$@" -exec stat -c "$format" {} +' sh "$format" ;; esac
    case $kinds in *c*)
        only c "$@" | xargs -0 stat -c "$format"
        only c "$@" | xargs -0 stat -L -c "$format"
        ;;
    esac
} 2>/dev/null
printf '%s done\n' "$mark"
