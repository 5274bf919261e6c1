# shellcheck shell=sh
# The real path of directory $1, which may begin with ~/; status 1 where there is none.
unset CDPATH
# shellcheck disable=SC2088
case $1 in
"~") set -- "$HOME" ;;
"~/"*) set -- "$HOME/${1#??}" ;;
esac
cd -- "$1" 2>/dev/null && pwd -P
