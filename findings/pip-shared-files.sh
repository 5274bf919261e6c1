#!/bin/sh
# Tool: pip 25.3, with PyJWT 2.10.1 and jwt 1.3.1, which both bring `jwt/__init__.py`
# Expected: pip refuses, or at least warns of, a package that writes over another one's files.
# Seen: it installs both with status 0 and not a word, `pip check` is content, and removing the second
#   takes the first one's `jwt/__init__.py` with it: the first is listed as installed, and is broken.
# Output:
#   pip install PyJWT, pip install jwt: status 0, nothing said
#   pip check: No broken requirements found.
#   pip uninstall jwt: status 0
#   pip list: PyJWT 2.10.1
#   import jwt; jwt.encode: AttributeError: module 'jwt' has no attribute 'encode'

set -u
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 2' HUP INT TERM
cd "$work" || exit 2
export PIP_DISABLE_PIP_VERSION_CHECK=1
{ python3 -m venv venv && venv/bin/pip install -q pip==25.3 &&
    venv/bin/pip download -q -d wheels PyJWT==2.10.1 jwt==1.3.1; } 2>&1 || exit 2

offline() { venv/bin/pip install -q --no-index --find-links wheels "$1" 2>&1; }
seen() {
    said=$(offline PyJWT==2.10.1 && offline jwt==1.3.1)
    echo "pip install PyJWT, pip install jwt: status $?, ${said:-nothing said}"
    echo "pip check: $(venv/bin/pip check 2>&1)"
    venv/bin/pip uninstall -q -y jwt
    echo "pip uninstall jwt: status $?"
    echo "pip list: $(venv/bin/pip list | tr -s ' ' | grep -i jwt)"
    echo "import jwt; jwt.encode: $(venv/bin/python -c 'import jwt; jwt.encode' 2>&1 | tail -n 1)"
}
seen | tee seen
[ "$(cat seen)" = "pip install PyJWT, pip install jwt: status 0, nothing said
pip check: No broken requirements found.
pip uninstall jwt: status 0
pip list: PyJWT 2.10.1
import jwt; jwt.encode: AttributeError: module 'jwt' has no attribute 'encode'" ]
