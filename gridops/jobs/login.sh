# shellcheck shell=sh disable=SC2034,SC2154 # its sisters use this
# What the login gives a command: its umask, and what it exported, which the command finds as it was.
# It is taken before any name is ours, and read by the same `sh`, since each writes it in its way. (A bash will not have these set by anybody but itself.)
case ${2-} in
start | run)
    gridops_login=$(
        umask
        command -v sh
        unset GRIDOPS_RUN_ID # that of another run, which starts this one
        # shellcheck disable=SC3045 # bash's
        [ -z "${BASH_VERSION-}" ] || export -n BASHOPTS EUID GRIDOPS_BASHOPTS GRIDOPS_SHELLOPTS PPID SHELLOPTS UID
        export -p
    ) 2>/dev/null
    ;;
esac
shield
