#!/bin/sh
# Makes dist/toktools_VERSION_all.deb, where debhelper and what packaging/debian/control names are installed: Debian 13.
# With --in-root it makes a Debian 13 of its own for that (mmdebstrap, as root), and installs and tries the package
# there, against Debian's own libraries.
set -eu
umask 022
cd -- "$(dirname -- "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' src/toktools/__init__.py)
tree=$work/toktools-$version
mkdir -p "$tree" dist
cp -R CHANGELOG.md LICENSE README.md bin completions examples man packaging pyproject.toml src "$tree"
cp -R packaging/debian "$tree"
# The changelog of the project is the one there is; Debian's names its newest release.
date=$(LC_ALL=C date -u -R -d "$(sed -n "s/^## \[$version\] - //p" CHANGELOG.md)")
printf '%s\n' "toktools ($version) unstable; urgency=medium" '' \
    '  * See /usr/share/doc/toktools/changelog.gz for what is new.' '' \
    " -- The toktools developers <toktools@example.org>  $date" > "$tree/debian/changelog"

if [ "${1-}" != --in-root ]; then
    (cd "$tree" && dpkg-buildpackage -us -uc -b)
    cp "$work"/*.deb dist/
    exit
fi

# The build has what packaging/debian/control names; the machine that it is tried on has Debian and nothing else.
needed=$(sed -n '/^Build-Depends:/,/^[^ ]*:/s/^ \([a-z0-9-]*\).*/\1/p' packaging/debian/control | grep -v '^dh-sequence' | paste -sd ,)
mmdebstrap --quiet --variant=buildd --include="$needed,dh-python,lintian" \
    --customize-hook="copy-in '$tree' /root" \
    --customize-hook="chroot \"\$1\" sh -euc '
        cd /root/toktools-$version && dpkg-buildpackage -us -uc -b
        lintian --allow-root --fail-on error,warning --profile debian /root/toktools_*.changes'" \
    --customize-hook="copy-out /root/toktools_${version}_all.deb '$work'" \
    trixie /dev/null
mmdebstrap --quiet --variant=apt --include=bash-completion,man-db \
    --customize-hook="copy-in '$work/toktools_${version}_all.deb' examples /root" \
    --customize-hook="chroot \"\$1\" sh -euc '
        apt-get install -y -qq --install-recommends /root/toktools_*.deb
        cd /root && sh examples/demo.sh
        python3 -c \"import bcrypt, pkcs11\"
        for path in /usr/bin/tok-*; do
            command=\${path##*/}
            \$command --version
            man -w \$command
            test -s /usr/share/zsh/vendor-completions/_\$command
            test -s /usr/share/fish/vendor_completions.d/\$command.fish
            bash -c \". /usr/share/bash-completion/bash_completion; _comp_load \$command; complete -p \$command\"
        done
        man -w toktools tok-recipes tok-file
        apt-get purge -y -qq toktools && test ! -e /usr/bin/tok-sign'" \
    trixie /dev/null
cp "$work/toktools_${version}_all.deb" dist/
ls -l "dist/toktools_${version}_all.deb"
