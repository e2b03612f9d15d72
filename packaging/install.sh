#!/bin/sh
# Installs toktools, or removes it: a private virtual environment in PREFIX/lib/toktools, and links to its commands,
# pages and completions where a shell and man(1) look for them. It needs Python 3.9 or later with venv, and, beside a
# directory of wheels (the bundle), no network.
set -eu
umask 022 # whatever the caller's: root may install for all

usage() {
    cat <<'END'
usage: install.sh [--prefix DIR] [--destdir DIR] [--python COMMAND] [--extras NAMES] [--uninstall]

  --prefix DIR      where to install, by default /usr/local
  --destdir DIR     put all of it under DIR, for a package or an image; it runs once it is at PREFIX
  --python COMMAND  the Python to install for, by default python3
  --extras NAMES    with what else, by default all: NAMES are kms, pkcs11, ssh, or none
  --uninstall       remove what an earlier call has installed there
END
}

die() {
    echo "install.sh: $*" >&2
    exit 2
}

here=$(cd -- "$(dirname -- "$0")" && pwd -P)
prefix=/usr/local destdir='' python=python3 extras=all uninstall=''
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) usage && exit ;;
        --uninstall) uninstall=yes && shift && continue ;;
        --prefix=* | --destdir=* | --python=* | --extras=*) name=${1%%=*} value=${1#*=} && shift ;;
        --prefix | --destdir | --python | --extras)
            [ $# -gt 1 ] || die "$1 needs an argument"
            name=$1 value=$2 && shift 2
            ;;
        *) die "$1 is not known; see install.sh --help" ;;
    esac
    case $name in
        --prefix) prefix=$value ;;
        --destdir) destdir=$value ;;
        --python) python=$value ;;
        --extras) extras=$value ;;
    esac
done

case $prefix:$destdir in '~'* | *:'~'*) die "the shell did not replace the ~ of a directory; write \$HOME" ;; esac
case $prefix in '') die "the prefix is empty" ;; /*) ;; *) prefix=$PWD/$prefix ;; esac
case $destdir in '' | /*) ;; *) destdir=$PWD/$destdir ;; esac
# A script's first line names its Python, and neither a blank nor a relative path works there.
case $prefix in
    *[[:space:]]*) die "the prefix must not have a blank in it, since scripts name their Python: $prefix" ;;
esac
root=$destdir${prefix%/}
home=$root/lib/toktools

case $extras in
    all) extras=kms,pkcs11,ssh ;;
    none) extras='' ;;
esac
printf '%s\n' "${extras:-ssh}" | grep -Eqx '(kms|pkcs11|ssh)(,(kms|pkcs11|ssh))*' ||
    die "the extras are kms, pkcs11 and ssh, with a comma between two, or none: not $extras"

is_ours() {
    case $(readlink "$1") in /*) false ;; ../*lib/toktools/*) ;; *) false ;; esac # ours are relative
}

# The links of a version go before the next one's come: one that no longer has a target would stay for good.
remove_links() {
    for directory in bin share/man/man1 share/man/man5 share/man/man7 \
        share/bash-completion/completions share/zsh/site-functions share/fish/vendor_completions.d; do
        for link in "$root/$directory"/*; do
            if is_ours "$link"; then rm -f "$link"; fi
        done
    done
}

if [ -n "$uninstall" ]; then
    [ -d "$home" ] || die "nothing is installed in $home"
    remove_links
    rm -rf "$home"
    for directory in bin share/man/man1 share/man/man5 share/man/man7 share/man share/bash-completion/completions \
        share/bash-completion share/zsh/site-functions share/zsh share/fish/vendor_completions.d share/fish share lib; do
        rmdir "$root/$directory" 2> /dev/null || : # only what is empty now
    done
    exit
fi

"$python" -c 'import ensurepip, sys, venv; sys.exit(0 if sys.version_info >= (3, 9) else 1)' 2> /dev/null ||
    die "$python is no Python 3.9 or later with venv (on Debian and Ubuntu: python3-venv); --python names another"
# pip writes the shortest form of the path into scripts: without . and .. in it.
absolute() { "$python" -I -c 'import os, sys; print(os.path.abspath(sys.argv[1]))' "$1"; }
prefix=$(absolute "$prefix")
[ -z "$destdir" ] || destdir=$(absolute "$destdir")
root=$destdir${prefix%/}
home=$root/lib/toktools
if [ -d "$here/wheels" ]; then
    (cd "$here" && sha256sum --quiet -c SHA256SUMS) || die "the bundle is damaged"
    set -- --no-index --find-links "$here/wheels"
    source=toktools
else
    set --
    source=$here/..
fi
[ -z "$extras" ] || source="$source[$extras]"
for directory in "$root/bin" "$root/lib" "$root/share"; do
    while [ ! -e "$directory" ]; do directory=$(dirname -- "$directory"); done
    [ -d "$directory" ] && [ -w "$directory" ] ||
        die "nothing can be put into $directory: install as root, or with another prefix, such as \$HOME/.local"
done

# A version is made beside the one that is there, and takes its place when it is whole.
mkdir -p "$root/lib"
new=$(mktemp -d "$root/lib/.toktools-XXXXXX")
# Wherever it ends, the version that was there, or the new one, is.
trap 'rm -rf "$new"; [ -d "$home" ] || [ ! -d "$new.old" ] || mv "$new.old" "$home"
    rmdir "$root/lib" "$root" 2> /dev/null || :' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
chmod 755 "$new"
"$python" -I -m venv --prompt toktools "$new"
if ! said=$("$new/bin/python" -I -m pip install -q --no-compile --disable-pip-version-check "$@" "$source" 2>&1); then
    missing=$(printf '%s\n' "$said" | sed -n 's/^ERROR: No matching distribution found for \([A-Za-z0-9._-]*\).*/\1/p')
    [ $# -eq 0 ] || [ -z "$missing" ] || die "the bundle has no wheel of $missing for $("$python" -V) on this system"
    printf '%s\n' "$said" >&2
    exit 2
fi
[ -z "$said" ] || printf '%s\n' "$said" >&2
"$new/bin/python" -I -m pip uninstall -q -y --disable-pip-version-check pip setuptools 2> /dev/null || : # no one needs them there
for file in "$new"/bin/tok-*; do
    link=$root/bin/${file##*/}
    [ ! -e "$link" ] || is_ours "$link" ||
        die "$link is of another installation, which must go first (pipx uninstall toktools, uv tool uninstall toktools)"
done
# Scripts name the directory that they were made in.
to=$(printf '%s\n' "$prefix/lib/toktools" | sed 's/[&|\\]/\\&/g')
from=$(printf '%s\n' "$new" | sed 's/[][|\\.*^$]/\\&/g')
for file in "$new"/bin/* "$new/pyvenv.cfg"; do
    [ ! -L "$file" ] || continue
    sed "s|$from|$to|g" "$file" > "$new/edited"
    cat "$new/edited" > "$file" # which keeps the mode; not every sed can edit in place
done
rm "$new/edited"
"$new/bin/python" -I -m compileall -q -s "$new" -p "$prefix/lib/toktools" "$new/lib" ||
    : # a file that this Python cannot compile is one that it does not run
if [ -d "$home" ]; then mv "$home" "$new.old"; fi
mv "$new" "$home"
rm -rf "$new.old"
remove_links

cd "$home"
for file in bin/tok-* share/man/man[1-9]/* share/bash-completion/completions/* share/zsh/site-functions/* \
    share/fish/vendor_completions.d/*; do
    [ -f "$file" ] || continue
    directory=$root/${file%/*}
    mkdir -p "$directory"
    up=$(printf '%s\n' "${file%/*}" | sed 's|[^/][^/]*|..|g')
    ln -sf "$up/lib/toktools/$file" "$directory/"
done

[ -z "$destdir" ] || exit 0
echo "toktools is in $prefix: its commands in bin, its pages and completions in share."
case :$PATH: in *:"$prefix/bin":*) ;; *) echo "In ~/.profile:  PATH=\"$prefix/bin:\$PATH\"" ;; esac
case $prefix in /usr | /usr/local) ;; *) echo "For zsh, in ~/.zshrc before compinit:  fpath=($prefix/share/zsh/site-functions \$fpath)" ;; esac
