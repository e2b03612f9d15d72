#!/bin/sh
# tok-enroll: from no second factor to one, to another key, and back.
set -eu
. "${0%/*}/lib.sh"

answers_questions tok-enroll 32
refuses "-k KEY, --signer COMMAND or --deregister is missing" tok-enroll --username admin --role admin

umask 077
echo practice1 >password
printf '%s\n' 'cluster activate' practice1 practice1 | tok-rehearse --state 'the state' interactive >session 2>&1
admin() {
    tok-enroll --username admin --role admin --password file:password --cli "tok-rehearse --state 'the state'" "$@"
}

ends 0 "logged in with the new key as admin (admin)" admin -k "$KEYS/pkcs8.pem"
ends 1 "nothing changed" admin -k "$KEYS/other.pem"
refuses "the new key and the old key are the same" tok-enroll -k "$KEYS/pkcs8.der" --old-key "$KEYS/pkcs1.pem" --username admin --role admin
ends 0 "the new key is registered" admin -k "$KEYS/other.pem" --old-key "$KEYS/pkcs8.pem" --change-quorum
ends 1 "nothing changed" admin --deregister --old-key "$KEYS/pkcs8.pem"
ends 0 "logged in without a second factor as admin (admin)" admin --deregister --old-key "$KEYS/other.pem"
[ ! -s out ] || fail "more than messages"
tok-login --no-mfa --username admin --role admin --password file:password --cli "tok-rehearse --state 'the state'" \
    -- user list | jq -e '.data.users[0].mfa == []' >answer
