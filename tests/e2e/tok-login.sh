#!/bin/sh
# tok-login: from the password to the answers of the CLI's commands.
set -eu
. "${0%/*}/lib.sh"

answers_questions tok-login 32
refuses "standard input and output are not a terminal" tok-login -k "$KEYS/pkcs8.pem" --username officer1 --role admin

# A cluster with an officer whose second factor is the key.
{
    printf '%s\n' 'cluster activate' practice1 practice1 'login --username admin --role admin' practice1
    printf '%s\n' 'user create --username officer1 --role admin' practice2 practice2
    printf '%s\n' 'user change-mfa token-sign --token setup.json --username officer1 --role admin' practice2 practice2
    until [ -s setup.json ]; do sleep 0.05; done
    tok-extract setup.json | tok-sign -k "$KEYS/pkcs8.pem" | tok-merge -i setup.json
    printf '%s\n' '' "$KEYS/spki.pem"
} | tok-rehearse --state 'the state' interactive >session 2>&1

umask 077
echo practice2 >password
echo practice3 >wrong
# officer KEY PASSWORD COMMAND...: log in and run commands of the CLI.
officer() {
    key=$1 password=$2
    shift 2
    tok-login -k "$KEYS/$key" --username officer1 --role admin --password "file:$password" \
        --cli "tok-rehearse --state 'the state'" "$@"
}

officer pkcs8.pem password -c 'quorum token-sign list-quorum-values' -c 'user list' >answers
[ "$(grep -c '^{"error_code":0,.*}$' answers)" -eq 2 ] || fail "not two answers"
if grep -v '^{"error_code"' answers; then fail "more than the answers"; fi
ends 1 "refused: tok-rehearse: wrong user name, role or password" officer pkcs8.pem wrong -- user list
ends 1 "refused: tok-rehearse: token 1: the signature is not by officer1's registered key" officer other.pem password -- user list
ends 1 "refused: tok-rehearse: there is no such user" officer pkcs8.pem password \
    -c 'user delete --username nobody --role admin' -c 'user list'
[ "$(grep -c '"error_code":1' out)" -eq 1 ] || fail "the refusal is not on standard output"
if grep -q '"error_code":0' out; then fail "went on after a refusal"; fi
