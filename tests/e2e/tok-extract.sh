#!/bin/sh
# tok-extract: token file in, one digest a line out.
set -eu
. "${0%/*}/lib.sh"

cp "$AWS/unsigned-tokens.json" f.json
cat >digests <<EOF
Vtf/9QOFY45v/E1osvpEMr59JsnP/hLDm4ItOO2vqL8=
wVbC0/5IKwjyZK2NBpdFLyI7BiayZ24YcdUdlcxLwZ4=
z6aW9RzErJBL5KqFG5h8lhTVt9oLbxppjod0Ebysydw=
EOF

# The digests, from an operand or standard input.
tok-extract f.json | same digests
tok-extract <f.json | same digests
tok-extract - <f.json | same digests
tok-extract -- f.json | same digests
cp f.json ./-
tok-extract ./- | same digests
rm ./-

# -n: cut(1)'s list, before or after the operand.
for list in 1 2 3 1,3 3,1 2- -2 1-3 2,2-3; do
    tr '\n' ' ' <digests | cut -d ' ' -f "$list" | tr ' ' '\n' | sed '/^$/d' >wanted
    tok-extract -n "$list" f.json | same wanted
    tok-extract f.json -n"$list" | same wanted
done
refuses "extra: no such file or directory" tok-extract -n 1 f.json extra
refuses "-n names token 4, but there are 3 tokens" tok-extract -n 4 f.json
for list in 0 3-2 1-9999999999999999999 "" , x 1, - +1; do
    refuses "-n" tok-extract -n "$list" f.json
done

# -r: one digest as bytes.
sed -n 2p digests | openssl base64 -d >wanted
tok-extract -n 2 -r f.json | same wanted
refuses "-r writes one digest, not 3" tok-extract -r f.json
refuses "hint: choose one with -n" tok-extract -r f.json

# -s: each digest into a file, named as in AWS's steps; with -n the numbers stay those of the tokens.
ends 0 "" tok-extract -s token f.json
[ ! -s out ] || fail "-s writes to standard output as well"
[ "$(echo token*)" = "token1.bin token2.bin token3.bin" ] || fail "-s wrote $(echo token*)"
number=1
while read -r digest; do
    echo "$digest" | openssl base64 -d | same "token$number.bin"
    number=$((number + 1))
done <digests
tok-extract -n 2 -s part f.json
[ "$(echo part*)" = part2.bin ] || fail "-n 2 -s wrote $(echo part*)"
refuses "cannot be used together" tok-extract -r -s token f.json
refuses "no such file or directory" tok-extract -s nowhere/token f.json
mkdir last3.bin
refuses "last3.bin: not a regular file" tok-extract -s last f.json
[ ! -e last1.bin ] || fail "-s wrote some of the files only"
ln -s both3.bin both2.bin
refuses "two of the files to write are links to the same file" tok-extract -s both f.json
[ -z "$(find . -name '.*' ! -name .)" ] || fail "left behind: $(find . -name '.*')"

# The whole file is checked before the first line is written.
sed 's/z6aW/z6a/' f.json >short.json
refuses 'short.json: token 3: "unsigned": not canonical base64' tok-extract short.json
sed 's/"2.0"/"3.0"/' f.json >v3.json
refuses 'v3.json: unknown "version": "3.0"' tok-extract v3.json
sed 's/"version"/"tokens": [], "version"/' f.json >twice.json
refuses 'twice.json: the member "tokens" occurs twice' tok-extract twice.json
printf '\357\273\277' | cat - f.json >bom.json
refuses "hint: PowerShell" tok-extract bom.json
head -c 100 f.json >cut.json
refuses "cut.json: not JSON: line" tok-extract cut.json
: >empty.json
refuses "empty.json: an empty file" tok-extract empty.json
refuses "standard input: an empty file" tok-extract </dev/null
refuses "missing.json: no such file or directory" tok-extract missing.json
refuses ".: is a directory" tok-extract .

# A write that fails is never exit 0.
if [ -c /dev/full ]; then
    status=0
    tok-extract f.json >/dev/full 2>err || status=$?
    [ "$status" -eq 2 ] && grep -q "standard output: no space left" err || fail "a full disk: $status"
fi
status=0
tok-extract f.json >&- 2>err || status=$?
[ "$status" -eq 2 ] && grep -q "^tok-extract: standard output: " err || fail "a closed standard output: $status"

answers_questions tok-extract
