# shellcheck shell=sh disable=SC2034,SC2086,SC2154,SC3028
# What every script of ours begins with on a node (gridops/reach/preamble.py): the shell is made ours,
# whatever the login did to it. No process is started for that. What the login exported stays, for the
# user's command; `shield` is for scripts that run none.
#
# A bash takes options and functions (of the names of tools, even) from its environment. Where there
# are any, one that heeds neither (-p) begins anew, as gridops_again says. The variables with the
# options hold its own from then on; what the login had is kept aside for the user's command.
# Keywords and special builtins alone can be trusted until then.
case ${BASH_VERSINFO-}:$- in
: | :* | *:*p*) ;;
*)
    gridops_environment=BASH_FUNC_ # unless it can be read
    eval 'IFS= read -r -N 4194304 gridops_environment </proc/$$/environ' 2>/dev/null
    case $gridops_environment in
    *BASH_FUNC_* | *SHELLOPTS=* | *BASHOPTS=* | *GLOBIGNORE=*)
        case $gridops_environment in *SHELLOPTS=*)
            # A bash that is called sh adds "posix".
            export GRIDOPS_SHELLOPTS="${GRIDOPS_SHELLOPTS-${SHELLOPTS%%:posix*}${SHELLOPTS#*:posix}}"
            ;;
        esac
        case $gridops_environment in *BASHOPTS=*)
            export GRIDOPS_BASHOPTS="${GRIDOPS_BASHOPTS-$BASHOPTS}"
            ;;
        esac
        eval "$gridops_again"
        ;;
    esac
    ;;
esac
set +aCefmuvx
unset IFS gridops_environment gridops_again
