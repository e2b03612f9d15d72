"""The kinds of scripts that people publish for the CloudHSM CLI, rebuilt in our own words, run against the stand-in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conftest import need
from rehearsing import PASSWORD

if TYPE_CHECKING:
    from conftest import Shell

CLI = 'cloudhsm_cli() { tok-rehearse --state state "$@" 2>>notes; }\n'
"""What stands where AWS's program does."""

ACTIVATE = (
    CLI
    + """
    set -eu
    said=$(cloudhsm_cli cluster activate --password "$1" || :)
    case $(printf %s "$said" | jq -r .data) in
    'Cluster activation successful') echo fresh ;;
    'Cluster has already been activated') echo before ;;
    *) echo "trouble: $said" >&2; exit 1 ;;
    esac
    export CLOUDHSM_ROLE=admin CLOUDHSM_PIN="admin:$1"
    said=$(cloudhsm_cli user create --username app --role crypto-user --password "$1" || :)
    if [ "$(printf %s "$said" | jq .error_code)" != 0 ]; then
        printf %s "$said" | jq -r .data | grep -qx 'User already exists'
    fi
    cloudhsm_cli user list | jq -r '.data.users[] | select(.role == "crypto-user").username'
    """
)


def test_an_activation_that_runs_twice(shell: Shell) -> None:
    """A script that activates, and makes a user, with variables and jq finds the second time that all is there."""
    need("jq")
    first = shell.run("sh", "-c", ACTIVATE, "sh", PASSWORD).check(0)
    again = shell.run("sh", "-c", ACTIVATE, "sh", PASSWORD).check(0)
    assert (first.out, again.out) == (b"fresh\napp\n", b"before\napp\n")


HERE_DOCUMENT = (
    CLI
    + """
    set -eu
    cloudhsm_cli cluster activate --password "$1" >/dev/null
    cloudhsm_cli interactive <<END >transcript
login --username admin --role admin --password $1
user create --username app --role crypto-user --password $1
logout
login --username app --role crypto-user --password $1
key generate-asymmetric-pair rsa \\\\
    --public-exponent 65537 --modulus-size-bits 2048 \\\\
    --public-label app-public --private-label app-private \\\\
    --public-attributes verify=true --private-attributes sign=true
key list --filter attr.label=app-private attr.class=private-key
crypto sign rsa-pkcs --key-filter attr.label=app-private --hash-function sha256 --data YWJjMTIz
logout
quit
END
    ! grep -q '"error_code": 1' transcript
    sed -n 's/.*"signature": "\\(.*\\)".*/\\1/p' transcript | base64 -d >signature
    modulus=$(sed -n 's/.*"modulus": "0x\\(.*\\)".*/\\1/p' transcript | head -n 1)
    printf 'asn1=SEQUENCE:key\\n[key]\\nn=INTEGER:0x%s\\ne=INTEGER:0x010001\\n' "$modulus" >key.conf
    openssl asn1parse -genconf key.conf -noout -out key.der
    openssl rsa -RSAPublicKey_in -inform DER -in key.der -pubout -out app.pub 2>>notes
    printf abc123 | openssl dgst -sha256 -verify app.pub -signature signature
    """
)


def test_a_here_document_with_keys(shell: Shell) -> None:
    """Login, user and key commands come from a here-document, and openssl takes the signature that comes out."""
    need("openssl")
    done = shell.run("sh", "-c", HERE_DOCUMENT, "sh", PASSWORD).check(0)
    assert done.out == b"Verified OK\n"


def test_a_runbook_that_asks_for_help(shell: Shell) -> None:
    """A runbook checks that groups have their commands, one process each."""
    for group, command in (
        ("user", "change-mfa"),
        ("quorum token-sign", "generate"),
        ("key", "share"),
    ):
        done = shell.run("tok-rehearse", "--state", "state", *group.split(), "--help").check(0)
        assert f"\nUsage: {group} <COMMAND>\n" in done.out.decode()
        assert f"\n  {command} " in done.out.decode()
