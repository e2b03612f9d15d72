#!/bin/sh
# tok-inspect: what a token file is, and what is signed in it.
set -eu
. "${0%/*}/lib.sh"

quorum=$AWS/../aws-quorum
cp "$AWS/unsigned-tokens.json" f.json
cp "$quorum/key-usage.token" key.token
cp "$quorum/user-management.token" admin.token

# An MFA file, from an operand or standard input.
cat >told <<EOF
f.json: MFA login or set-up: 3 HSMs, 0 signed
  token 1: Vtf/9QOFY45v/E1osvpEMr59JsnP/hLDm4ItOO2vqL8=: unsigned
  token 2: wVbC0/5IKwjyZK2NBpdFLyI7BiayZ24YcdUdlcxLwZ4=: unsigned
  token 3: z6aW9RzErJBL5KqFG5h8lhTVt9oLbxppjod0Ebysydw=: unsigned
EOF
ends 0 "" tok-inspect f.json
same told <out
sed 's/^f.json/standard input/' told >told.stdin
tok-inspect <f.json | same told.stdin
tok-inspect - <f.json | same told.stdin

# The digests are those of tok-extract; with --hex in hexadecimal too, as od prints them.
tok-extract f.json >digests
tok-inspect f.json | sed -n 's/.* \(.*=\): unsigned$/\1/p' | same digests
while read -r digest; do
    echo "$digest" | openssl base64 -d | od -An -v -tx1 | tr -d ' \n' && echo
done <digests >hexadecimal
tok-inspect --hex f.json | sed -n 's/^    //p' | same hexadecimal

# What is signed, and how far.
tok-extract -n 2 f.json | tok-sign -k "$KEYS/pkcs8.pem" | tok-merge -n 2 -o two.json f.json
tok-inspect two.json >told.two
grep -qx "two.json: MFA login or set-up: 3 HSMs, 1 signed" told.two || fail "does not count what is signed"
grep -q "^  token 2: .*: signed, 256 bytes$" told.two || fail "does not say what is signed"

# Quorum tokens: what the approval data seems to say, and who approved.
cat >told <<EOF
key.token: quorum token: 0 approvals
  service: key-usage (not covered by the signatures)
  key_reference: 0x0000000000680006 (not covered by the signatures)
  token 1: 5GlgoWOlQU4fw4QIlbxkPGZVOVoDugFGuSKE/k67ncM=
    approval data: 160 bytes; its SHA-256 is the digest
    beware: it seems older than ten minutes, a token's default life
    it seems to say (the layout is not documented; for display only):
      HSM 0x19: requester crypto_user, service 5, key handle 0x680006, time 2024-11-19T21:16:59Z
      HSM 0x1a: requester crypto_user, service 5, key handle 0x680006, time 2024-11-19T21:16:59Z
EOF
tok-inspect key.token | same told
tok-extract admin.token | tok-sign -k "$KEYS/pkcs8.pem" | tok-merge -u admin2 -R admin -i admin.token
tok-inspect admin.token >told
grep -qx "admin.token: quorum token: 1 approval" told || fail "does not count the approvals"
grep -qx "  approver admin2 (admin): signed, 256 bytes" told || fail "does not name the approver"

# A digest of something else is shown, where the other tools refuse it.
sed 's/"token": "0/"token": "1/' admin.token >other.token
ends 0 "" tok-inspect other.token
grep -q "its SHA-256 is NOT the digest" out || fail "does not say that the digest is of something else"
refuses "do not sign it" tok-extract other.token

# --json: one object, for scripts.
ends 0 "" tok-inspect --json admin.token
[ "$(jq -r '.kind, .approvals[0].username, .tokens[0].undocumented_approval_data[0].requester' out | tr '\n' ' ')" = \
    "quorum-token admin2 admin " ] || fail "--json lacks something"

# Exit status 2 where there is nothing to tell.
refuses "missing.json: no such file or directory" tok-inspect missing.json
refuses "standard input: an empty file" tok-inspect </dev/null
refuses ".: is a directory" tok-inspect .
refuses "told: not JSON: line 1, column 1" tok-inspect told
ends 2 "missing.json: no such file or directory" tok-inspect missing.json key.token
grep -q "^key.token: " out || fail "one wrong file keeps the others back"
if [ -c /dev/full ]; then
    status=0
    tok-inspect f.json >/dev/full 2>err || status=$?
    [ "$status" -eq 2 ] && grep -q "standard output: no space left" err || fail "a full disk: $status"
fi

answers_questions tok-inspect
