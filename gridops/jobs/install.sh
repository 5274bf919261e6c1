# shellcheck shell=sh
# Places what is on standard input at $1/lib/$2.sh, if it has the length $3 and the SHA-256 $4;
# $1 is below the home directory, and begins with "~/".

umask 077
mkdir -p "$HOME/${1#??}/lib" && cd "$HOME/${1#??}/lib" || exit
cat >"$2.$$" || exit
if [ "$(wc -c <"$2.$$")" -eq "$3" ] && {
    ! sum=$(sha256sum "$2.$$" 2>/dev/null) || [ "${sum%% *}" = "$4" ]
}; then
    mv "$2.$$" "$2.sh"
else
    rm -f "$2.$$"
    exit 1
fi
