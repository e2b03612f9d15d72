#!/bin/sh
# Makes dist/toktools-VERSION-linux-ARCH.tar.gz for machines without a network: the wheels of toktools, of what it needs
# and of its extras, for each Python and with a C library as old as RHEL 8's, their checksums, and install.sh.
set -eu
umask 022
[ $# -gt 0 ] || { echo 'usage: bundle.sh PYTHON [ARCH...]' >&2; exit 2; }
cd -- "$(dirname -- "$0")/.."
python=$1
shift
[ $# -gt 0 ] || set -- x86_64 aarch64
versions='3.9 3.10 3.11 3.12 3.13 3.14'
extras=kms,pkcs11,ssh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
# What is built twice is the same to the byte: nothing in it is newer than the last commit.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2> /dev/null || stat -c %Y pyproject.toml)
export SOURCE_DATE_EPOCH
"$python" -m hatchling build -t wheel -d "$work/wheel"
wheel=$(echo "$work"/wheel/*.whl)
name=$(basename "$wheel") && name=${name%-py3*}

for arch; do
    directory=$work/$name-linux-$arch
    mkdir -p "$directory/wheels"
    for version in $versions; do
        # uv says what that Python needs on that machine; pip would look at the Python and the machine that it runs on.
        echo "toktools[$extras] @ file://$wheel" |
            "$python" -m uv pip compile -q --no-header --no-annotate --only-binary :all: --python-version "$version" \
                --python-platform "$arch-manylinux_2_28" -o "$work/$version.txt" -
        grep -v '^toktools' "$work/$version.txt" > "$work/needed.txt"
        # To pip a bare 3.9 is 3.9.0, which cryptography leaves out.
        "$python" -m pip download -q --disable-pip-version-check -d "$directory/wheels" --no-deps -r "$work/needed.txt" \
            --only-binary=:all: --implementation cp --python-version "$version.99" \
            --platform "manylinux_2_28_$arch" --platform "manylinux_2_17_$arch" --platform "manylinux2014_$arch"
    done
    cp "$wheel" "$directory/wheels"
    cp packaging/install.sh packaging/INSTALL LICENSE "$directory"
    (cd "$directory" && sha256sum -- wheels/*.whl > SHA256SUMS)
    mkdir -p dist
    tar -C "$work" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
        -cf - "$name-linux-$arch" | gzip -9n > "dist/$name-linux-$arch.tar.gz"
    (cd dist && sha256sum "$name-linux-$arch.tar.gz" > "$name-linux-$arch.tar.gz.sha256" && ls -l "$name-linux-$arch.tar.gz")
done
