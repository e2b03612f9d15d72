#!/bin/sh
# tok-sign: digests in, signatures out, one for one, in order; the bytes are those of openssl.
set -eu
. "${0%/*}/lib.sh"

tok-extract "$AWS/unsigned-tokens.json" >digests
umask 077
while read -r digest; do
    echo "$digest" | openssl base64 -d >digest.bin
    openssl pkeyutl -sign -inkey "$KEYS/pkcs8.pem" -pkeyopt digest:sha256 -in digest.bin -out signature.bin
    openssl base64 -A -in signature.bin
    echo
done <digests >signatures
[ "$(wc -l <signatures)" -eq 3 ] || fail "openssl did not sign"

# PEM and DER, PKCS#1 and PKCS#8; a carriage return and a missing last newline do not matter.
for form in pkcs8.pem pkcs1.pem pkcs8.der pkcs1.der; do
    ends 0 "" tok-sign -k "$KEYS/$form" <digests
    same signatures <out
done
sed "s/\$/$(printf '\r')/" digests | tok-sign -k "$KEYS/pkcs8.pem" | same signatures
{ cat digests && echo && echo; } | tok-sign -k "$KEYS/pkcs8.pem" | same signatures
printf %s "$(cat digests)" | tok-sign -k "$KEYS/pkcs8.pem" | same signatures

# -r: raw bytes in and out; digest.bin is still the last one.
tok-sign -r -k "$KEYS/pkcs8.pem" <digest.bin | same signature.bin
head -c 31 digest.bin >short.bin
refuses "standard input: 31 bytes, but a SHA-256 digest has 32" tok-sign -r -k "$KEYS/pkcs8.pem" <short.bin
tail -n 1 digests >last
refuses "base64 text, not raw bytes" tok-sign -r -k "$KEYS/pkcs8.pem" <last
refuses "standard input: 0 bytes" tok-sign -r -k "$KEYS/pkcs8.pem" </dev/null

# --public-key: that of the key, without a digest.
openssl rsa -in "$KEYS/pkcs8.pem" -pubout -out public.pem 2>/dev/null
tok-sign -k "$KEYS/pkcs8.pem" --public-key </dev/null | same public.pem
refuses "-r cannot be used with --public-key" tok-sign -k "$KEYS/pkcs8.pem" --public-key -r
refuses "-j cannot be used with --public-key" tok-sign -k "$KEYS/pkcs8.pem" --public-key -j 2

# Encrypted keys; the pass phrase from the environment, a file or a descriptor.
echo "correct horse" >phrase
export PHRASE="correct horse" WRONG="wrong horse"
for form in old-encrypted.pem pbes2.pem pbes2.der; do
    tok-sign -k "$KEYS/$form" --passin env:PHRASE <digests | same signatures
    tok-sign -k "$KEYS/$form" --passin file:phrase <digests | same signatures
    tok-sign -k "$KEYS/$form" --passin fd:3 <digests 3<phrase | same signatures
    refuses "$KEYS/$form: wrong pass phrase" tok-sign -k "$KEYS/$form" --passin env:WRONG <digests
done
refuses "can read a secret on the command line" tok-sign -k "$KEYS/pbes2.pem" --passin pass:hunter2 <digests
! grep -q hunter2 err || fail "the message shows the pass phrase"
refuses "a secret cannot come from standard input" tok-sign -k "$KEYS/pbes2.pem" --passin stdin <digests
refuses "a secret cannot come from standard input" tok-sign -k "$KEYS/pbes2.pem" --passin fd:0 <digests
refuses "no such environment variable" tok-sign -k "$KEYS/pbes2.pem" --passin env:NO_SUCH_PHRASE <digests
refuses "missing: no such file or directory" tok-sign -k "$KEYS/pbes2.pem" --passin file:missing <digests

# What is no RSA private key of 2,048 bits or more.
: >empty.pem
echo nonsense >nonsense.pem
while read -r key text; do
    case $key in */*) ;; *) key=$KEYS/$key ;; esac
    refuses "$key: $text" tok-sign -k "$key" <digests
done <<EOF
spki.pem a public key or a certificate, not a private key
spki.der a public key or a certificate, not a private key
cert.pem a public key or a certificate, not a private key
ec.pem the key is
ed25519.pem the key is Ed25519
rsa1024.pem the key is RSA-1024
./empty.pem an empty file
./nonsense.pem no private key can be read
./missing.pem no such file or directory
./. is a directory
EOF
refuses "a key cannot come from standard input" tok-sign -k /dev/stdin <"$KEYS/pkcs8.pem"
refuses "-k" tok-sign <digests

# What is signed with a warning.
ends 0 "warning: $KEYS/rsa3072.pem: the key is RSA-3072; CloudHSM documents only RSA-2048" \
    tok-sign -k "$KEYS/rsa3072.pem" <digests
[ "$(wc -l <out)" -eq 3 ] || fail "RSA-3072 did not sign"
cp "$KEYS/pkcs8.pem" open.pem
chmod 644 open.pem
ends 0 "warning: open.pem: other users can read this private key" tok-sign -k open.pem <digests
same signatures <out

# A wrong line is named, after the signatures of the lines before it.
refuses "standard input: no digests" tok-sign -k "$KEYS/pkcs8.pem" </dev/null
head -n 1 signatures >first
{ head -n 1 digests && printf '\n' && tail -n 1 digests; } >blank
ends 2 "standard input: line 2: empty" tok-sign -k "$KEYS/pkcs8.pem" <blank
same first <out
while IFS='|' read -r line text; do
    { head -n 1 digests && printf '%s\n' "$line"; } >wrong
    ends 2 "standard input: line 2: $text" tok-sign -k "$KEYS/pkcs8.pem" <wrong
    same first <out
done <<EOF
Vtf/9QOFY45v/E1osvpEMr59JsnP/hLDm4ItOO2vqL9=|not canonical base64
Vtf/9QOFY45v/E1osvpEMr59JsnP/hLDm4ItOO2vqL8|not canonical base64
Vtf/9QOFY45v/E1osvpEMr 59JsnP/hLDm4ItOO2vqL8=|white space in the base64
Vtf_9QOFY45v_E1osvpEMr59JsnP_hLDm4ItOO2vqL8=|base64url, not base64
QUJD|3 bytes, but a SHA-256 digest has 32
56d7fff50385638e6ffc4d68b2fa4432be7d26c9cffe12c39b822d38edafa8bf|hexadecimal digits, not base64
EOF
head -c 100000 /dev/zero | tr '\0' A >long
refuses "standard input: line 1: longer than" tok-sign -k "$KEYS/pkcs8.pem" <long

if [ -c /dev/full ]; then
    status=0
    tok-sign -k "$KEYS/pkcs8.pem" <digests >/dev/full 2>err || status=$?
    [ "$status" -eq 2 ] && grep -q "standard output: no space left" err || fail "a full disk: $status"
fi

answers_questions tok-sign
