#!/bin/sh
# tok-exec: any command in place of tok-sign, run once for each digest.
set -eu
. "${0%/*}/lib.sh"

tok-extract "$AWS/unsigned-tokens.json" >digests
key=$KEYS/pkcs8.pem
tok-sign -k "$key" <digests >signatures
head -n 1 signatures >first
sign() {
    tok-exec "$@" openssl pkeyutl -sign -inkey "$key" -pkeyopt digest:sha256
}

# On standard input or in a file, raw or as base64, one after the other or side by side.
sign -- <digests | same signatures
sign <digests | same signatures
sign -j 3 -- <digests | same signatures
sign -p "$KEYS/spki.pem" -j2 -- <digests | same signatures
tok-exec -- openssl pkeyutl -sign -inkey "$key" -pkeyopt digest:sha256 -in {} <digests | same signatures
cat >signer <<EOF
#!/bin/sh
openssl pkeyutl -sign -inkey "$key" -pkeyopt digest:sha256 -in "\${1#fileb://}" | openssl base64 -A
echo
EOF
chmod +x signer
tok-exec -b ./signer fileb://{} <digests | same signatures
sed "s/\$/$(printf '\r')/" digests | tok-exec -b ./signer {} | same signatures

# The whole pipeline, with the key's public half, a certificate or the key itself to verify with.
cp "$AWS/unsigned-tokens.json" f.json
for public in spki.pem cert.pem pkcs1.pub pkcs8.pem; do
    tok-extract f.json | sign -p "$KEYS/$public" | tok-merge -p "$KEYS/spki.pem" f.json >signed.json
    tok-verify -q -p "$KEYS/spki.pem" signed.json
done
tok-extract f.json | tok-exec tok-sign -r -k "$key" | tok-merge f.json | same signed.json

# A command that fails on the second digest: the first signature is out, the line and the reason are told.
cat >fails <<'EOF'
#!/bin/sh
echo run >>runs
if [ "$(wc -l <runs)" -eq 2 ]; then eval "$1"; else ./signer "$2"; fi
EOF
chmod +x fails
while IFS='|' read -r body text; do
    rm -f runs
    ends 2 "standard input: line 2: ./fails: $text" tok-exec -b ./fails "$body" {} <digests
    same first <out
    [ "$(wc -l <runs)" -eq 2 ] || fail "a digest was signed after the failure: $body"
done <<'EOF'
exit 7|exit status 7
kill -9 $$|killed by signal 9
:|no signature
echo no!|its output is not a signature: not base64
echo QUJD|its output is not a signature: wrong size: 3 bytes
openssl rand 256|its output is raw bytes
openssl rand -hex 256|its output is not a signature: hexadecimal digits
cat /dev/zero|more than
EOF
refuses "hint: use -b for base64" tok-exec ./signer {} <digests
refuses "standard input: line 1: missing: cannot be run: no such file or directory" tok-exec missing <digests
refuses "standard input: line 1: ./digests: cannot be run: permission denied" tok-exec ./digests <digests

# With -p: exit status 1 and the mistake by its name, after the signatures before it.
while IFS='|' read -r body text; do
    rm -f runs
    ends 1 "standard input: line 2: ./fails: $text" \
        tok-exec -b -p "$KEYS/spki.pem" ./fails "$body | openssl base64 -A" {} <digests
    same first <out
done <<EOF
openssl pkeyutl -sign -inkey "$key"|no DigestInfo was signed, only the bare digest
openssl dgst -sha256 -sign "$key"|the digest was hashed once more before it was signed
openssl pkeyutl -sign -inkey "$KEYS/other.pem" -pkeyopt digest:sha256|not made by the given key
EOF

# A wrong line, an empty stream, what cannot be meant.
rm -f runs
{ head -n 1 digests && echo nonsense! && tail -n 1 digests; } >wrong
ends 2 "standard input: line 2: not base64" tok-exec -b ./signer {} <wrong
same first <out
refuses "standard input: no digests" tok-exec -b ./fails : {} </dev/null
for jobs in 0 x 1001 -1 ""; do
    refuses "-j: not a number from 1 to 1000" tok-exec -j "$jobs" ./fails : {} <digests
done
refuses "COMMAND is missing" tok-exec <digests
refuses "missing.pub: no such file or directory" tok-exec -p missing.pub ./fails : {} <digests
refuses "a key cannot come from standard input" tok-exec -p - ./fails : {} <digests
[ ! -e runs ] || fail "a command was run although the stream or the options were wrong"

# Options after COMMAND are its own; no temporary file stays.
mkdir tmp
TMPDIR=$PWD/tmp tok-exec -b sh -c '[ "$1" = -j ] && [ -e "$2" ] && ./signer "$2"' sh -j {} <digests | same signatures
[ -z "$(ls tmp)" ] || fail "left behind: $(ls tmp)"

if [ -c /dev/full ]; then # a signer of it may still run, and complain
    status=0
    tok-exec -b ./signer {} <digests >/dev/full 2>full || status=$?
    [ "$status" -eq 2 ] && grep -q "standard output: no space left" full || fail "a full disk: $status"
fi

answers_questions tok-exec
