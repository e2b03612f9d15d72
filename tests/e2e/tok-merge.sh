#!/bin/sh
# tok-merge: signatures in, signed token file out, all or nothing.
set -eu
. "${0%/*}/lib.sh"

# AWS's signed sample, taken apart; put together again it must be the same to the byte.
cp "$AWS/signed-tokens.json" signed.json
sed 's/"signed": ".*"/"signed": ""/' signed.json >f.json
sed -n 's/.*"signed": "\(.*\)"/\1/p' signed.json >signatures
! cmp -s f.json signed.json || fail "f.json is not unsigned"
[ "$(wc -l <signatures)" -eq 3 ] || fail "signatures are missing"
cp f.json kept.json
number=1
while read -r signature; do
    echo "$signature" >"signature$number.b64"
    echo "$signature" | openssl base64 -d -A >"signature$number.bin"
    number=$((number + 1))
done <signatures

# Standard output; lines, or files in base64 or raw.
tok-merge f.json <signatures | same signed.json
tok-merge - signature?.b64 <f.json | same signed.json
tok-merge f.json signature?.b64 </dev/null | same signed.json
tok-merge f.json signature?.bin | same signed.json
tok-merge f.json signatures | same signed.json
for n in 1 2 3; do
    fold -w 76 "signature$n.b64" >"wrapped$n.b64"
done
tok-merge f.json wrapped?.b64 | same signed.json
{ cat signatures && echo; } | tok-merge f.json | same signed.json
tok-merge f.json signature1.b64 - signature3.bin <signature2.b64 | same signed.json
sed "s/\$/$(printf '\r')/" signatures | tok-merge f.json | same signed.json
tok-merge signed.json <signatures | same signed.json

# A size that CloudHSM does not document is warned of, unless a key says whose it is.
for n in 1 2 3; do
    openssl rand 384 >"long$n.bin"
done
ends 0 "tok-merge: warning: f.json: a signature of 384 bytes; CloudHSM documents only RSA-2048" \
    tok-merge f.json long?.bin
[ "$(wc -l <err)" -eq 1 ] || fail "more than one warning"
refuses "signatures of different sizes, 256 and 384 bytes" tok-merge f.json signature1.bin long2.bin signature3.bin

# -n: only some; the others stay as they are.
tok-merge -n 2 f.json signature2.b64 >two.json
ends 1 "" cmp -s two.json f.json
sed '1d;3d' signatures >middle
tok-merge -n 2 f.json <middle | same two.json
tok-merge -n 1,3 two.json signature1.b64 signature3.b64 | same signed.json
refuses "f.json: -n names token 4" tok-merge -n 4 f.json signature1.b64

# -o: a new file, or a new content with the old mode, through a symbolic link.
ends 0 "" tok-merge f.json -o out.json <signatures
[ ! -s out ] || fail "-o writes to standard output as well"
same signed.json <out.json
cp f.json target.json
chmod 640 target.json
ln -s target.json link.json
tok-merge -o link.json f.json <signatures
same signed.json <target.json
[ -L link.json ] || fail "-o replaced the symbolic link"
[ "$(ls -l target.json | cut -c 1-10)" = -rw-r----- ] || fail "-o changed the mode"
: >empty.json
tok-merge -o empty.json f.json <signatures
same signed.json <empty.json
cat "$KEYS/cert.pem" "$KEYS/pkcs8.pem" >chain.pem
openssl pkcs12 -export -inkey "$KEYS/pkcs8.pem" -in "$KEYS/cert.pem" -passout pass:x >key.p12
for other in "$KEYS"/pkcs8.pem "$KEYS"/pkcs8.der "$KEYS"/pbes2.der "$KEYS"/cert.der chain.pem key.p12 signatures; do
    cp "$other" other
    refuses "other: " tok-merge -o other f.json <signatures
    same "$other" <other
done

# -i: in place, the same way.
cp f.json place.json
chmod 600 place.json
ln -s place.json place.link
ends 0 "" tok-merge -i place.link <signatures
same signed.json <place.json
[ -L place.link ] || fail "-i replaced the symbolic link"
[ "$(ls -l place.json | cut -c 1-10)" = -rw------- ] || fail "-i changed the mode"

# -p: verifies first; exit status 1 where the answer is no, and the file is not made.
tok-merge -p "$AWS/officer1.pub" f.json <signatures | same signed.json
tok-merge -p "$KEYS/spki.pem" -p "$AWS/officer1.pub" f.json <signatures | same signed.json
ends 1 "f.json: token 1: not made by the given key; nothing written" \
    tok-merge -p "$KEYS/spki.pem" -o never.json f.json <signatures
{ sed -n 2p signatures && sed -n 1p signatures && sed -n 3p signatures; } >swapped
ends 1 "f.json: token 1: the signature of token 2, not of token 1; nothing written" \
    tok-merge -p "$AWS/officer1.pub" -i f.json <swapped
[ ! -s out ] || fail "-p wrote although it refused"
refuses "no such file or directory" tok-merge -p missing.pub -o never.json f.json <signatures

# Whatever is wrong with the stream, nothing is written, in any of the three ways.
line() { sed -n "$1p" signatures; }
nothing() {
    refuses "$1" tok-merge f.json <stream
    refuses "$1" tok-merge -i f.json <stream
    refuses "$1" tok-merge -o never.json f.json <stream
}
sed 3d signatures >stream && nothing "f.json: 3 tokens but 2 signatures; nothing written"
{ cat signatures && line 1; } >stream && nothing "3 tokens but more than 3 signatures"
: >stream && nothing "3 tokens but 0 signatures"
{ line 1 && echo && line 3; } >stream && nothing "standard input: line 2: empty"
{ line 1 && line 2 && line 1; } >stream && nothing "token 1 and token 3 have the same signature"
{ line 1 && echo '*' && line 3; } >stream && nothing "line 2: not base64"
{ line 1 && line 2 | cut -c 1-200 && line 3; } >stream && nothing "line 2: wrong size: 150 bytes"
{ line 1 | fold -w 76 && echo; } >stream && nothing "do not wrap"
{ line 1 && line 2 && line 3 | tr -d =; } >stream && nothing "line 3: not canonical base64"
: | refuses "3 tokens but 0 signatures" tok-merge -i f.json
{ line 1 && false; } | refuses "3 tokens but 1 signature;" tok-merge -i f.json
refuses "3 tokens but 2 signatures" tok-merge -i f.json signature1.b64 signature2.b64
refuses "missing.b64: no such file or directory" tok-merge -i f.json signature1.b64 missing.b64 signature3.b64
head -c 100 signature1.bin >short.bin
refuses "short.bin: wrong size: 100 bytes" tok-merge -i f.json short.bin signature2.bin signature3.bin

# Where it cannot be written, and what cannot be meant.
refuses "/dev/null: not a regular file" tok-merge -o /dev/null f.json <signatures
refuses ".: not a regular file" tok-merge -o . f.json <signatures
refuses "no such file or directory" tok-merge -o nowhere/out.json f.json <signatures
refuses "missing.json: no such file or directory" tok-merge missing.json <signatures
refuses "cannot be used together" tok-merge -i -o never.json f.json <signatures
refuses "standard input cannot be changed in place" tok-merge -i - signature?.b64 <f.json
refuses "standard input can be only one of the files" tok-merge - <f.json
refuses "FILE" tok-merge <signatures
status=0
tok-merge f.json <signatures >>f.json 2>err || status=$?
[ "$status" -eq 2 ] && grep -q "tok-merge -i" err || fail "standard output is f.json: $status"
same kept.json <f.json
cp f.json emptied.json
status=0
tok-merge emptied.json <signatures >emptied.json 2>err || status=$?
[ "$status" -eq 2 ] && grep -q "the shell has already emptied it" err || fail "emptied by the shell: $status"
if [ -c /dev/full ]; then
    status=0
    tok-merge f.json <signatures >/dev/full 2>err || status=$?
    [ "$status" -eq 2 ] && grep -q "standard output: no space left" err || fail "a full disk: $status"
fi

# Quorum tokens: an approver's entry is added, or replaced; approvals of copies combine.
cp "$AWS/../aws-quorum/user-management.token" admin.token
tok-extract admin.token | tok-sign -k "$KEYS/pkcs8.pem" >approval2
tok-extract admin.token | tok-sign -k "$KEYS/other.pem" >approval3
refuses "hint: name the approver with -u" tok-merge admin.token <approval2
refuses "f.json: -u: only a quorum token has approvers" tok-merge -u admin2 f.json <signatures
ends 1 "approver admin2: not made by the given key; nothing written" \
    tok-merge -u admin2 -R admin -p "$KEYS/spki.pem" -o never.json admin.token <approval3
tok-merge -u admin2 -R admin -p "$KEYS/spki.pem" -o copy2.token admin.token <approval2
tok-merge -u admin3 -R admin -o copy3.token admin.token approval3
tok-merge -u admin3 -R admin copy2.token approval3 >both.token
tok-merge --approvals admin.token copy2.token copy3.token | same both.token
tok-merge --approvals admin.token - copy3.token <copy2.token | same both.token
tok-merge --approvals both.token copy3.token copy2.token | same both.token
tok-merge -u ADMIN3 -R admin both.token approval3 | sed s/ADMIN3/admin3/ | same both.token
refuses "have the same signature" tok-merge -u admin4 -R admin -o never.json copy2.token approval2
tok-merge -u admin3 -R admin -o wrong.token admin.token approval2
refuses "wrong.token: approver admin3 has two different entries" tok-merge --approvals both.token wrong.token
sed 's/admin3/admin 3/' copy3.token >name.token
refuses 'name.token: approver "admin 3": no CloudHSM user can have this name' \
    tok-merge --approvals admin.token copy2.token name.token
refuses "key-usage.token: this is a copy of another token" tok-merge --approvals admin.token "$AWS/../aws-quorum/key-usage.token"
refuses "copy2.token: this file is also an input" tok-merge --approvals -o copy2.token admin.token copy2.token

# The layout of the CLI comes back; any other is written like it, with the same members.
printf %s "$(cat f.json)" | tok-merge - signatures >cut.json
printf %s "$(cat signed.json)" | same cut.json
{ tr -d ' \n' <f.json && echo; } | tok-merge - signatures | same signed.json

# After all that: the file as it was, no file that was refused, no temporary file.
same kept.json <f.json
[ ! -e never.json ] || fail "never.json was written"
[ -z "$(find . -name '.*' ! -name .)" ] || fail "left behind: $(find . -name '.*')"

answers_questions tok-merge
