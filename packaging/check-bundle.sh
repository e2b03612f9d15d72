#!/bin/sh
# Installs a bundle in a name space without a network, once for each Python, signs AWS's published file with a key of
# its own, verifies it, and uninstalls: usage: check-bundle.sh BUNDLE PYTHON... (as root, or where users may unshare)
set -eu
[ $# -gt 1 ] || { echo 'usage: check-bundle.sh BUNDLE PYTHON...' >&2; exit 2; }
bundle=$(realpath "$1")
shift
examples=$(cd -- "$(dirname -- "$0")/../examples" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
tar xzf "$bundle"
directory=$(echo toktools-*)
openssl genrsa -out key.pem 2048 2> /dev/null
openssl rsa -in key.pem -pubout -out key.pub 2> /dev/null
for python; do
    # What is there already is an installation of another time.
    mkdir -p prefix/bin && ln -s ../lib/toktools/bin/tok-gone prefix/bin/tok-gone
    unshare -rn "$directory/install.sh" --prefix "$work/prefix" --python "$python"
    test ! -L prefix/bin/tok-gone
    unshare -rn env PATH="$work/prefix/bin:$PATH" sh -eu -c '
        tok-extract "$0" | tok-sign -k key.pem | tok-merge "$0" > signed.json
        tok-verify -p key.pub signed.json' "$examples/aws-mfa/unsigned-tokens.json"
    for module in boto3 bcrypt pkcs11; do
        prefix/lib/toktools/bin/python -I -c "import $module"
    done
    test -z "$(find prefix -perm /022 ! -type l)" # nobody else may write
    test -e prefix/share/man/man1/tok-sign.1 && test -e prefix/share/bash-completion/completions/tok-sign
    "$directory/install.sh" --prefix "$work/prefix" --uninstall
    test ! -e prefix || test -z "$(find prefix ! -type d)"
    echo "$("$python" -V): installed from $(basename "$bundle") without a network, signed, verified, uninstalled"
done
