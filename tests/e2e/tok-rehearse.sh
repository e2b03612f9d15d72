#!/bin/sh
# tok-rehearse: the CLI's commands, questions and answers, with the filters in between.
set -eu
. "${0%/*}/lib.sh"

answers_questions tok-rehearse
refuses "COMMAND is missing" tok-rehearse
refuses "--hsms: not a number from 1 to 28" tok-rehearse --hsms 29 interactive

# rehearse: standard input is what a person types.
rehearse() {
    tok-rehearse --state state interactive --hsms 2 >session 2>notes
}
# signed FILE [KEY]: waits for the file, signs it with the filters, and presses Enter.
signed() {
    until [ -s "$1" ]; do sleep 0.05; done
    tok-extract "$1" | tok-sign -k "$KEYS/${2:-pkcs8.pem}" | tok-merge -i "$1"
    echo
}
answers() {
    sed -n 's/^  "error_code": \(.\),/\1/p' session | tr -d '\n'
}

{
    printf '%s\n' 'cluster activate' practice1 practice1 'login --username admin --role admin' practice1
    printf '%s\n' 'user create --username officer1 --role admin' practice2 practice2
    printf '%s\n' 'user change-mfa token-sign --token setup.json --username officer1 --role admin' practice2 practice2
    signed setup.json
    echo "$KEYS/spki.pem"
    printf '%s\n' logout 'login --username officer1 --role admin mfa-token-sign --token first.json' practice2
    signed first.json
    printf '%s\n' logout 'login --username officer1 --role admin mfa-token-sign --token second.json' practice2
    # What was signed for the first login is worth nothing for the second.
    echo first.json
    printf '%s\n' 'login --username officer1 --role admin mfa-token-sign --token third.json' practice2
    signed third.json other.pem
    echo quit
} | rehearse
[ "$(answers)" = 000000011 ] || fail "the answers are $(answers)"
grep -q 'tok-rehearse: the file lacks 2 of the 2 digests of this attempt' session || fail "the replay is not named"
grep -q "tok-rehearse: token 1: the signature is not by officer1's registered key" session || fail "the wrong key is not named"
[ "$(tok-extract setup.json | wc -l)" -eq 2 ] || fail "not a digest for each HSM"
if grep -q practice session notes; then fail "a password is shown"; fi
if grep -q practice state; then fail "a password is in the state file"; fi
[ "$(ls -l state | cut -c 1-10)" = -rw------- ] || fail "others can read the state file"

# Single commands, with and without a user.
ends 0 "rehearsal only: " tok-rehearse --state state user list
ends 1 "rehearsal only: " tok-rehearse --state state user delete --username officer1 --role admin
ends 0 "rehearsal only: " env CLOUDHSM_ROLE=admin CLOUDHSM_PIN=admin:practice1 \
    tok-rehearse --state state user delete --username officer1 --role admin
refuses "unrecognized subcommand 'rename'" tok-rehearse --state state user rename
refuses "not a state file of this release of tok-rehearse" tok-rehearse --state setup.json user list
