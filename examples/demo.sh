#!/bin/sh
# Sign AWS's published token file with a key of our own, verify it, and catch a broken copy.
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

# As openssl genrsa -out key.pem 2048 does, where openssl may not be installed.
umask 077
python3 - > key.pem <<'END'
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
key = generate_private_key(65537, 2048)
print(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(), end="")
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
