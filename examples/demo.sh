#!/bin/sh
# Sign AWS's published token file with a key of our own, verify it, catch a broken copy, and rehearse a login.
set -eu
samples=$PWD/examples/aws-mfa
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cp "$samples/unsigned-tokens.json" "$samples/signed-tokens.json" "$samples/officer1.pub" .

show() {
    printf '\n$ %s\n' "$1"
    sh -c "$1"
}

# As openssl genrsa and openssl rsa -pubout do, where openssl may not be installed.
umask 077
python3 - <<'END'
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
key = generate_private_key(65537, 2048)
with open("key.pem", "wb") as file:
    file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
with open("key.pub", "wb") as file:
    file.write(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
END

echo 'The file that the CloudHSM CLI writes, as AWS publishes it, and a demo key:'
show 'cat unsigned-tokens.json'
echo
echo 'Its digests, signed and put back:'
show 'tok-extract unsigned-tokens.json'
show 'tok-extract unsigned-tokens.json | tok-sign -k key.pem | tok-merge -o my-signed.json unsigned-tokens.json'
show 'tok-verify -p key.pem my-signed.json'
echo
echo "AWS's own signed sample, with the public key that its signatures imply:"
show 'tok-verify -p officer1.pub signed-tokens.json'
echo
echo 'A copy with one character flipped:'
show "sed 's/eiw3fZeC/eiw3fZeD/' signed-tokens.json > broken.json"
if show 'tok-verify -p officer1.pub broken.json'; then
    echo 'the broken copy was not caught' >&2
    exit 1
fi

# What a person types at the CLI; where it waits for the signed file, another terminal signs it.
signed() {
    tries=0
    until [ -s "$1" ]; do
        tries=$((tries + 1))
        [ "$tries" -lt 300 ] || exit 1
        sleep 0.1
    done
    tok-extract "$1" | tok-sign -k key.pem | tok-merge -i "$1"
    echo
}
rehearse() {
    tok-rehearse --state cluster.json interactive
}

echo
echo 'A rehearsed login. A stand-in for the CloudHSM CLI gets an officer whose second factor is that key.'
echo 'At the question for the signed file, another terminal runs the pipeline:'
{
    printf '%s\n' 'cluster activate' for-practice for-practice
    printf '%s\n' 'login --username admin --role admin' for-practice
    printf '%s\n' 'user create --username officer1 --role admin' for-practice for-practice
    printf '%s\n' 'user change-mfa token-sign --token setup.json --username officer1 --role admin' for-practice for-practice
    signed setup.json
    echo key.pub
} | rehearse > setup.out 2> setup.err
{
    printf '%s\n' 'login --username officer1 --role admin mfa-token-sign --token unsigned.json' for-practice
    signed unsigned.json
    echo quit
} | rehearse | tee login.out
grep -q '"error_code": 0' login.out
