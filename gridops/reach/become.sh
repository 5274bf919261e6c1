# shellcheck shell=sh
# Becomes the user's command "$@", with the options that the login had exported (preamble.sh).
become_command() {
    case ${GRIDOPS_SHELLOPTS+x}${GRIDOPS_BASHOPTS+x} in
    ?*)
        set -- env -u GRIDOPS_SHELLOPTS -u GRIDOPS_BASHOPTS \
            ${GRIDOPS_SHELLOPTS+"SHELLOPTS=$GRIDOPS_SHELLOPTS"} \
            ${GRIDOPS_BASHOPTS+"BASHOPTS=$GRIDOPS_BASHOPTS"} "$@"
        ;;
    esac
    exec "$@"
}
