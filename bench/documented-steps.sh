#!/bin/sh
# AWS's steps for a login file, with jq where the manual copies and pastes:
# documented-steps.sh KEY FILE DIR > SIGNED, with a directory for the files in between.
set -eu
key=$1
file=$2
dir=$3

jq -r '.tokens[].unsigned' "$file" | while read -r digest; do
    printf %s "$digest" | base64 -d > "$dir/token.bin"
    openssl pkeyutl -sign -inkey "$key" -pkeyopt digest:sha256 -in "$dir/token.bin" -out "$dir/token.sig.bin"
    base64 -w0 "$dir/token.sig.bin"
    echo
done > "$dir/signatures"
jq --rawfile lines "$dir/signatures" '
    ($lines | split("\n")) as $signatures
    | reduce range(.tokens | length) as $n (.; .tokens[$n].signed = $signatures[$n])
' "$file"
