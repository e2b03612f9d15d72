"""The recipes of tok-recipes(7), run as they are printed against the real signers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar
from urllib.request import Request, urlopen

import pytest
from conftest import PASS_PHRASE, ROOT, Done, Shell, need, short_directory
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, AsymmetricPadding, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from rehearsing import PASSWORD, enrol
from servers import configure_ssh, need_terminals, shared_kms, ssh_agent
from test_manual import commands_in

from toktools.rehearsal.cluster import ADMIN, CRYPTO_USER, Session
from toktools.rehearsal.state import State

PAGE = (ROOT / "man" / "tok-recipes.7").read_text()
RECIPES = dict(re.findall(r"^\.Ss (.*?)\n(.*?)(?=^\.S[sh] )", PAGE, re.MULTILINE | re.DOTALL))
PIN = "1234"


class Desk:
    """A directory as the page supposes it, and the environment that a signer needs."""

    def __init__(self, shell: Shell, shared: Path) -> None:
        self.shell = shell
        self.shared = shared
        self.env = shell.unmeasured

    def sh(self, script: str) -> bytes:
        """Run a script that must succeed, and return its output."""
        return self.shell.sh(f"set -e -o pipefail\n{script}", shell="bash", env=self.env).check(0).out

    def wrap(self, name: str, script: str) -> None:
        """Let a command of this name be a script."""
        directory = self.shell.cwd / "bin"
        directory.mkdir(exist_ok=True)
        (directory / name).write_text(f"#!/bin/sh\n{script}\n")
        (directory / name).chmod(0o755)
        self.env["PATH"] = f"{directory}{os.pathsep}{self.env['PATH']}"


Signer = Callable[[Desk], Iterator[str]]


def nothing(_desk: Desk) -> Iterator[str]:
    """Nothing is to be prepared, and the key is the officer's."""
    yield "officer1.pub"


def approver(_desk: Desk) -> Iterator[str]:
    """The same, and the key is the approver's."""
    yield "admin2.pub"


def password_manager(desk: Desk) -> Iterator[str]:
    """A pass that has the officer's key, and no other."""
    desk.wrap("pass", '[ "$*" = "show cloudhsm/officer1" ] && cat hidden.key')
    (desk.shell.cwd / "officer1.key").rename(desk.shell.cwd / "hidden.key")
    yield "officer1.pub"


def stick(desk: Desk) -> Iterator[str]:
    """A directory stands for the stick."""
    (desk.shell.cwd / "stick").mkdir()
    yield "officer1.pub"


def token(desk: Desk) -> Iterator[str]:
    """The officer's key on a SoftHSM token."""
    (desk.shell.cwd / "tokens").mkdir()
    desk.shell.write("softhsm2.conf", f"directories.tokendir = {desk.shell.cwd}/tokens\n".encode())
    desk.shell.write("pin", f"{PIN}\n".encode())
    desk.env |= {"SOFTHSM2_CONF": str(desk.shell.cwd / "softhsm2.conf"), "PKCS11_MODULE_PATH": need("libsofthsm2.so")}
    desk.sh(f"softhsm2-util --init-token --free --label officers --pin {PIN} --so-pin {PIN}")
    desk.sh(f"softhsm2-util --import officer1.key --token officers --pin {PIN} --label officer1 --id a1")
    yield "officer1.pub"


def kms(desk: Desk) -> Iterator[str]:
    """A moto server on this machine, with a key of its own, and its public key."""
    with shared_kms(desk.shared) as url:
        desk.env |= {
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": url,
        }
        made = ask_kms(desk, "CreateKey", KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")
        desk.env["KEY"] = made["KeyMetadata"]["KeyId"]
        public_key = ask_kms(desk, "GetPublicKey", KeyId=desk.env["KEY"])["PublicKey"]
        desk.shell.write("kms.der", b64decode(public_key))
        yield "kms.der"


def ask_kms(desk: Desk, action: str, **asked: str) -> dict[str, Any]:
    """Ask the moto server, which takes any credentials, without a program that takes a second to start."""
    headers = {
        "X-Amz-Target": f"TrentService.{action}",
        "Content-Type": "application/x-amz-json-1.1",
        "Authorization": "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/kms/aws4_request",
    }
    with urlopen(Request(desk.env["AWS_ENDPOINT_URL"], json.dumps(asked).encode(), headers)) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def tpm(desk: Desk) -> Iterator[str]:
    """A software TPM with a key of its own."""
    with short_directory() as directory:
        sockets = [f"type=unixio,path={directory}/{name}" for name in ("tpm", "tpm.ctrl")]
        flags = ["--tpm2", "--tpmstate", f"dir={directory}", "--flags", "not-need-init,startup-clear"]
        command = ["swtpm", "socket", *flags, "--server", sockets[0], "--ctrl", sockets[1]]
        # It returns when the sockets are there.
        subprocess.run([*command, "--daemon", "--pid", f"file={directory}/pid"], check=True, timeout=120)
        desk.env["TPM2TOOLS_TCTI"] = f"swtpm:path={directory}/tpm"
        try:
            desk.sh("""
                tpm2_createprimary -Q -C o -c primary.ctx && tpm2_flushcontext -t
                tpm2_create -Q -C primary.ctx -G rsa2048:rsassa-sha256 -u tpm.public -r tpm.private
                tpm2_flushcontext -t
                tpm2_load -Q -C primary.ctx -u tpm.public -r tpm.private -c key.ctx && tpm2_flushcontext -t
            """)
            yield "tpm.pub"
        finally:
            os.kill(int((directory / "pid").read_text()), signal.SIGTERM)


def gpg(desk: Desk) -> Iterator[str]:
    """A keyring of its own, with a key that the agent keeps."""
    with short_directory() as directory:
        desk.env["GNUPGHOME"] = str(directory)
        try:
            quiet = "--batch --pinentry-mode loopback --passphrase ''"
            desk.sh(f"gpg -q {quiet} --quick-generate-key officer1 rsa2048 sign && gpg -q --check-trustdb")
            yield "gpg.pub"
        finally:
            desk.sh("gpgconf --kill gpg-agent")


class Vault(BaseHTTPRequestHandler):
    """As much of Vault as signs with a key in transit, by default as it does: hashing first, and with RSASSA-PSS."""

    key: RSAPrivateKey
    seen: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        """Answer a request to sign."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append(f"{self.headers['X-Vault-Token']} {self.path}")
        how: AsymmetricPadding = PSS(MGF1(SHA256()), PSS.MAX_LENGTH)
        if asked.get("signature_algorithm") == "pkcs1v15":
            how = PKCS1v15()
        algorithm = Prehashed(SHA256()) if asked.get("prehashed") else SHA256()
        signature = self.key.sign(b64decode(asked["input"]), how, algorithm)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"data": {"signature": f"vault:v1:{b64encode(signature).decode()}"}}).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def vault(desk: Desk) -> Iterator[str]:
    """A stand-in for Vault with the officer's key."""
    key = load_pem_private_key(desk.shell.read("officer1.key"), None)
    assert isinstance(key, RSAPrivateKey)
    Vault.key = key
    Vault.seen.clear()
    desk.shell.write("vault.header", b"X-Vault-Token: s.secret\n")
    with HTTPServer(("127.0.0.1", 0), Vault) as stand_in:
        Thread(target=stand_in.serve_forever, daemon=True).start()
        desk.env |= {"VAULT_ADDR": f"http://127.0.0.1:{stand_in.server_port}", "KEY": "officers"}
        yield "officer1.pub"
        stand_in.shutdown()
    assert Vault.seen == 3 * ["s.secret /v1/transit/sign/officers/sha2-256"]


def agent(desk: Desk) -> Iterator[str]:
    """An ssh-agent with the approver's key, the public key as OpenSSH writes it, and the client."""
    shutil.copy(ROOT / "examples" / "agent-sign.py", desk.shell.cwd)
    desk.sh("chmod 600 admin2.key && ssh-keygen -y -f admin2.key > admin2.pub")
    with ssh_agent() as desk.env["SSH_AUTH_SOCK"]:
        desk.sh("ssh-add -q admin2.key")
        yield "admin2.pub"


def signing_host(desk: Desk) -> Iterator[str]:
    """A host where the directory of the test is the home."""
    cwd = desk.shell.cwd
    configure_ssh(
        cwd, "signer signer1 signer2", f'cd {cwd} && PATH={desk.env["PATH"]} && eval "$SSH_ORIGINAL_COMMAND"\n'
    )
    desk.wrap("ssh", f'exec {need("ssh")} -F {cwd}/ssh_config "$@"')
    yield "officer1.pub"


def forwarded(desk: Desk) -> Iterator[str]:
    """A token here, and a host where p11-kit has its module."""
    with short_directory() as directory:
        client = need("p11-kit-client.so")
        desk.env |= {"XDG_RUNTIME_DIR": str(directory), "SOCKET": str(directory / "there"), "CLIENT": client}
        with contextmanager(token)(desk), contextmanager(signing_host)(desk) as public_key:
            yield public_key
            assert not (directory / "there").exists()


USUAL = ("openssl", "base64")
CARD = ("softhsm2-util", "libsofthsm2.so")
HOST = ("ssh", "ssh-keygen", "sshd")
TESTED: dict[str, tuple[tuple[str, ...], Signer]] = {
    "openssl, once for each digest": (USUAL, nothing),
    "openssl in a shell loop": (USUAL, nothing),
    "AWS's own steps, with files": (USUAL, nothing),
    "jq instead of tok-extract": ((*USUAL, "jq"), nothing),
    "Several processes": ((*USUAL, "parallel"), nothing),
    "A smart card, a YubiKey, an HSM": (CARD, token),
    "pkcs11-tool": ((*CARD, "pkcs11-tool"), token),
    "AWS KMS": (("aws", "moto_server"), kms),
    "AWS KMS, without the AWS CLI": (("boto3", "moto_server"), kms),
    "gpg-agent": (("awk", "gpg", "gpg-agent", "gpg-connect-agent", "gpgconf", "xxd"), gpg),
    "HashiCorp Vault": (("curl", "jq"), vault),
    "A key from a password manager": ((), password_manager),
    "Signers that always hash: openssl dgst": (("openssl",), approver),
    "Signers that always hash: ssh-agent": (("ssh-agent", "ssh-add", "ssh-keygen"), agent),
    "A TPM": (("swtpm", "libtss2-tcti-swtpm.so.0", "tpm2_sign", "tpm2_readpublic"), tpm),
    "Several machines": (("parallel", *HOST), signing_host),
    "A signing host": (HOST, signing_host),
    "A machine without a network": ((), stick),
    "A token here, the work on a host": ((*CARD, *HOST, "p11-kit", "p11-kit-client.so"), forwarded),
}
QUORUM = "A quorum token, from its making to its use"
CLUSTERS = "Many clusters"
# Run elsewhere: by the test of the example, and by tests of their own.
ELSEWHERE = {"A rule for make", QUORUM, CLUSTERS}


@pytest.fixture
def desk(shell: Shell, keys: Path, shared: Path) -> Desk:
    """The key pairs of the officer and an approver, the unsigned file, and a quorum token."""
    (shell.cwd / "f.json").rename(shell.cwd / "unsigned-tokens.json")
    shutil.copy(ROOT / "examples" / "aws-quorum" / "user-management.token", shell.cwd / "admin.token")
    names = (
        ("pkcs8.pem", "officer1.key"),
        ("spki.pem", "officer1.pub"),
        ("other.pem", "admin2.key"),
        ("other.pub", "admin2.pub"),
    )
    for source, name in names:
        shutil.copy(keys / source, shell.cwd / name)
    return Desk(shell, shared)


def test_what_is_not_run_says_so() -> None:
    """Each recipe of the page is run by a test, or is marked as not run and has no commands."""
    unmarked = {title for title, text in RECIPES.items() if not text.startswith("Not run:")}
    assert unmarked == TESTED.keys() | ELSEWHERE
    assert not [title for title in RECIPES.keys() - TESTED.keys() - ELSEWHERE if commands_in(RECIPES[title])]


@pytest.mark.parametrize("title", TESTED)
def test_recipe(desk: Desk, title: str) -> None:
    """The commands of a recipe run as printed, print what the page says, and sign the file with that key."""
    tools, signer = TESTED[title]
    need("bash", *tools)
    with contextmanager(signer)(desk) as public_key:
        found = commands_in(RECIPES[title])
        assert found
        script = "\n".join(command for command, _ in found)
        assert desk.sh(script).decode() == "".join(output for _, output in found)
    desk.shell.run("tok-verify", "-q", "-p", public_key, "signed-tokens.json").check(0)


@pytest.fixture
def state(desk: Desk) -> Path:
    """The file of a rehearsed cluster with officer1 in it, to which tok-login goes; there is no quorum token yet."""
    need("jq")
    state = desk.shell.cwd / "state.json"
    enrol(state, "officer1", desk.shell.cwd / "officer1.key")
    desk.shell.write("password", f"{PASSWORD}\n".encode())
    desk.wrap("tok-login", f"exec {desk.shell.bin}/tok-login --cli 'tok-rehearse --state {state}' \"$@\"")
    (desk.shell.cwd / "admin.token").unlink()
    return state


def test_a_quorum_in_one_session(desk: Desk, state: Path) -> None:
    """A quorum token is generated, approved and used by commands that come one by one, and alice is gone.

    Refused at the end, or at the start where nothing needs an approval, the recipe ends, and can be run again.
    """
    ((command, printed),) = commands_in(RECIPES[QUORUM])

    def run() -> Done:
        return desk.shell.sh(f"set -o pipefail\n{command}", shell="bash", env=desk.env)

    run().check(1, "nothing needs an approval")
    assert not (desk.shell.cwd / "admin.token").exists()
    shutil.copy(desk.shell.cwd / "officer1.key", desk.shell.cwd / "admin3.key")
    with State(str(state)).cluster(3) as cluster:
        session = Session()
        cluster.login(session, ("admin", ADMIN), PASSWORD)
        for name in ("admin2", "admin3"):
            cluster.create(session, (name, ADMIN), PASSWORD)
            cluster.users[name, ADMIN].public_key = desk.sh(f"openssl pkey -in {name}.key -pubout").decode()
            cluster.users[name, ADMIN].quorum = True
        cluster.values["user"] = 2
    refused = run().check(1)
    assert refused.out == b"0\n1\n"
    (desk.shell.cwd / "admin.token").unlink()
    with State(str(state)).cluster(3) as cluster:
        cluster.values["user"] = 1
        cluster.create(session, ("alice", CRYPTO_USER), PASSWORD)
        cluster.values["user"] = 2
    assert run().check(0).out.decode() == printed
    with State(str(state)).cluster(3) as cluster:
        assert ("alice", CRYPTO_USER) not in cluster.users
        assert ("admin2", ADMIN) in cluster.users


def test_many_clusters(desk: Desk, enrolled: Path) -> None:
    """The officer has the new key in each cluster but the one whose CLI is missing, which is reported."""
    need("parallel", "openssl", *HOST)
    need_terminals()
    cwd = desk.shell.cwd
    for name in ("hsm1", "hsm2", "hsm3"):
        (cwd / name).mkdir()
        shutil.copy(enrolled, cwd / name / "state.json")
    (cwd / "hsm2" / "state.json").unlink()
    desk.sh(f"openssl rsa -in admin2.key -aes256 -passout pass:'{PASS_PHRASE}' -out new.key")
    desk.shell.write("passphrase", f"{PASS_PHRASE}\n".encode())
    desk.shell.write("password", f"{PASSWORD}\n".encode())
    at_home = f'cd {cwd}/"$NAME" && PATH={desk.env["PATH"]} && eval "$SSH_ORIGINAL_COMMAND"\n'
    configure_ssh(cwd, "hsm1 hsm2 hsm3", at_home)
    desk.wrap("ssh", f'exec {need("ssh")} -F {cwd}/ssh_config "$@"')
    desk.wrap("tok-enroll", f"exec {desk.shell.bin}/tok-enroll --cli 'tok-rehearse --state state.json' \"$@\"")
    ((command, printed),) = commands_in(RECIPES[CLUSTERS])
    assert desk.shell.sh(command, shell="bash", env=desk.env).check(1).out.decode() == printed
    for name in ("hsm1", "hsm3"):
        with State(str(cwd / name / "state.json")).cluster(3) as cluster:
            assert cluster.users["officer1", ADMIN].public_key == desk.shell.read("admin2.pub").decode()
    assert b"tok-enroll: " in desk.shell.read("hsm2.log")


def test_several_machines_keep_the_order(desk: Desk) -> None:
    """Pieces that go to two machines come back in the order of the digests."""
    need("parallel", *HOST)
    ((recipe, _),) = commands_in(RECIPES["Several machines"])
    *_, parallel, _ = recipe.split(" |\n")
    with contextmanager(signing_host)(desk):
        digests = "".join(f"{b64encode(bytes([number]) * 32).decode()}\n" for number in range(20))
        desk.shell.write("digests", digests.encode())
        signatures = desk.sh(f"{parallel.replace('-N20000', '-N3')} < digests")
    assert signatures == desk.sh("tok-sign -k officer1.key < digests")
