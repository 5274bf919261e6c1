# shellcheck shell=sh
# Puts away what the login exported and what may change how our tools and our shell behave. The
# system's own programs come first, as far as they are in PATH at all.
shield() {
    unset CDPATH GREP_OPTIONS GZIP QUOTING_STYLE TMOUT
    LC_ALL=C
    export LC_ALL
    case :$PATH: in *:/bin:*) PATH=/bin:$PATH ;; esac
    case :$PATH: in *:/usr/bin:*) PATH=/usr/bin:$PATH ;; esac
}
