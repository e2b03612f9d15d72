#!/bin/sh
# tok-verify: says of every token whether its signature is good, as sha256sum -c does, and why not.
set -eu
. "${0%/*}/lib.sh"

cp "$AWS/signed-tokens.json" signed.json
pub=$AWS/officer1.pub

# AWS's own published signatures are good.
cat >ok <<EOF
signed.json: token 1: OK
signed.json: token 2: OK
signed.json: token 3: OK
EOF
sed 's/signed.json/standard input/' ok >ok.stdin
ends 0 "" tok-verify -p "$pub" signed.json
same ok <out
tok-verify signed.json -p "$pub" | same ok
tok-verify -p "$pub" <signed.json | same ok.stdin
tok-verify -p "$pub" - <signed.json | same ok.stdin
ends 0 "" tok-verify -q -p "$pub" signed.json
[ ! -s out ] || fail "-q is not quiet"

# -p may be repeated, and takes public and private keys and certificates; any of the keys will do.
tok-verify -p "$KEYS/other.pub" -p "$pub" signed.json | same ok
tok-extract signed.json | tok-sign -k "$KEYS/pkcs8.pem" | tok-merge -o mine.json signed.json
sed 's/signed.json/mine.json/' ok >ok.mine
for form in spki.pem spki.der pkcs1.pub cert.pem cert.der pkcs8.pem pkcs1.der; do
    tok-verify -p "$KEYS/$form" mine.json | same ok.mine
done

# Exit status 1 and a reason where one is not good; the others are still told.
answer() {
    ends 1 "" tok-verify -p "$pub" "$1"
    printf "$1: token %s\n" "$2" "$3" "$4" >wanted
    same wanted <out
    ends 1 "" tok-verify -q -p "$pub" "$1"
    grep -v ': OK$' wanted | same out
}
sed 's/eiw3fZeC/eiw3fZeD/' signed.json >flipped.json
! cmp -s signed.json flipped.json || fail "nothing was flipped"
answer flipped.json "1: FAILED: not made by the given key" "2: OK" "3: OK"
answer mine.json "1: FAILED: not made by the given key" "2: FAILED: not made by the given key" \
    "3: FAILED: not made by the given key"
sed 's/"signed": ".*"/"signed": ""/' signed.json >unsigned.json
answer unsigned.json "1: FAILED: unsigned" "2: FAILED: unsigned" "3: FAILED: unsigned"
sed 's/"eiw3fZeC[^"]*"/"QUJD"/' signed.json >size.json
answer size.json "1: FAILED: wrong size: 3 bytes, but an RSA-2048 signature has 256" "2: OK" "3: OK"
sed -n 's/.*"signed": "\(.*\)"/\1/p' signed.json >signatures
{ sed -n 1p signatures && sed -n 3p signatures && sed -n 2p signatures; } | tok-merge unsigned.json >swapped.json
answer swapped.json "1: OK" "2: FAILED: the signature of token 3, not of token 2" \
    "3: FAILED: the signature of token 2, not of token 3"
ends 1 "" tok-verify -p "$KEYS/other.pub" -p "$KEYS/spki.pem" signed.json
grep -q "token 1: FAILED: not made by any of the given keys" out || fail "several keys are not told apart from one"

# Quorum tokens: by approver, with a key for each; one key is one approver, and M may be wanted.
cp "$AWS/../aws-quorum/user-management.token" admin.token
ends 1 "" tok-verify -p "$KEYS/spki.pem" admin.token
echo "admin.token: approvals: FAILED: 0 of 1" | same out
tok-extract admin.token | tok-sign -k "$KEYS/pkcs8.pem" | tok-merge -u admin2 -R admin -i admin.token
tok-extract admin.token | tok-sign -k "$KEYS/other.pem" | tok-merge -u admin3 -R admin -i admin.token
printf 'admin.token: approver %s: OK\n' admin2 admin3 >ok
tok-verify -p "$KEYS/spki.pem" -p "$KEYS/other.pub" admin.token | same ok
tok-verify -p admin2="$KEYS/spki.pem" -p Admin3="$KEYS/other.pub" admin.token | same ok
{ cat ok && echo "admin.token: approvals: OK"; } >ok.need
tok-verify -p "$KEYS/spki.pem" -p "$KEYS/other.pub" --need 2 admin.token | same ok.need
ends 1 "" tok-verify -q --need 3 -p "$KEYS/spki.pem" -p "$KEYS/other.pub" admin.token
echo "admin.token: approvals: FAILED: 2 of 3" | same out
ends 1 "" tok-verify -q -p admin3="$KEYS/spki.pem" -p "$KEYS/spki.pem" admin.token
echo "admin.token: approver admin3: FAILED: not made by the given key" | same out
ends 1 "" tok-verify -q -p admin2="$KEYS/spki.pem" admin.token
echo "admin.token: approver admin3: FAILED: no key is given" | same out
first=$(sed -n 's/.*"signature": "\(.*\)"/\1/p' admin.token | head -n 1)
sed "s|\"signature\": \".*\"|\"signature\": \"$first\"|" admin.token >one-key.token
ends 1 "" tok-verify -q -p "$KEYS/spki.pem" --need 2 one-key.token
printf 'one-key.token: %s\n' "approver admin3: FAILED: the same key as that of approver admin2" \
    "approvals: FAILED: 1 of 2" | same out
sed 's/"token": "0/"token": "1/' admin.token >other.token
refuses "do not sign it" tok-verify -p "$KEYS/spki.pem" other.token
refuses "--need is for a quorum token" tok-verify -p "$pub" --need 2 signed.json

sed 's/admin3/admin3 /' admin.token >name.token
refuses 'name.token: approver "admin3 ": no CloudHSM user can have this name' \
    tok-verify --need 2 -p "$KEYS/spki.pem" -p "$KEYS/other.pub" name.token
refuses "-p PUB is missing" tok-verify signed.json

# Exit status 2 where there is no answer.
refuses "missing.json: no such file or directory" tok-verify -p "$pub" missing.json
refuses "missing.pub: no such file or directory" tok-verify -p missing.pub signed.json
refuses "signed.json: a token file, not a public key" tok-verify -p signed.json signed.json
refuses "the key is RSA-1024" tok-verify -p "$KEYS/rsa1024.pem" signed.json
refuses "a key cannot come from standard input" tok-verify -p - signed.json <"$pub"
refuses "standard input: an empty file" tok-verify -p "$pub" </dev/null
echo '{"version": "2.0", "tokens": []}' >none.json
refuses '"tokens" contains no tokens' tok-verify -p "$pub" none.json
if [ -c /dev/full ]; then
    status=0
    tok-verify -p "$pub" signed.json >/dev/full 2>err || status=$?
    [ "$status" -eq 2 ] && grep -q "standard output: no space left" err || fail "a full disk: $status"
fi

answers_questions tok-verify
