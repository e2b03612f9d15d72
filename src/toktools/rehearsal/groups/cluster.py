"""The CLI's commands for the cluster as a whole, and its trust anchors for mutual TLS."""

from __future__ import annotations

from types import SimpleNamespace

from toktools.errors import ToktoolsError
from toktools.rehearsal.commandline import CommandLine, Option
from toktools.rehearsal.groups.shared import APPROVAL, CLUSTER_ID, PASSWORD, approval
from toktools.rehearsal.mtls import LEVELS
from toktools.rehearsal.syntax import Choice, Command
from toktools.system import files

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.rehearsal.dialogue import Dialogue


_MAX_CHAIN = 1 << 16


def _activate(shell: Dialogue, given: SimpleNamespace) -> object:
    password = shell.new_password(given.password)
    with shell.cluster() as cluster:
        cluster.activate(password)
    return "Cluster activation successful"


# What AWS prints for hsm2m.medium is not known; the names of the members are those of its page.
_HSM = {
    "vendor": "toktools",
    "model": "no HSM: a rehearsal",
    "hardware-version-major": "0",
    "hardware-version-minor": "0",
    "firmware-version-major": "0",
    "firmware-version-minor": "0",
    "firmware-build-number": "0",
    "firmware-id": "REHEARSAL",
    "fips-state": "0 [non-FIPS mode with single factor authentication]",
}


def _hsm_info(shell: Dialogue, _given: SimpleNamespace) -> object:
    first, *rest = _HSM.items()
    second, *rest = rest
    return {
        "hsms": [
            dict([first, second, ("serial-number", f"rehearsal-{number}"), *rest])
            for number in range(1, shell.hsms + 1)
        ]
    }


def _register(shell: Dialogue, given: SimpleNamespace) -> object:
    approved = approval(given)
    content = files.read(given.path, _MAX_CHAIN).content.decode(errors="replace")
    with shell.cluster() as cluster:
        reference = cluster.register_anchor(shell.session, content, approved)
    return {"trust_anchor": _listed(reference, content)}


def _deregister(shell: Dialogue, given: SimpleNamespace) -> object:
    approved = approval(given)
    with shell.cluster() as cluster:
        cluster.deregister_anchor(shell.session, given.certificate_reference, approved)
    return {"message": f"Trust anchor with reference {given.certificate_reference:#04x} deregistered successfully"}


def _list(shell: Dialogue, _given: SimpleNamespace) -> object:
    with shell.cluster() as cluster:
        return {"trust_anchors": [_listed(*anchor) for anchor in cluster.anchors.items()]}


def _listed(reference: int, certificates: str) -> dict[str, object]:
    return {
        "certificate-reference": f"{reference:#04x}",
        "certificate": certificates,
        "cluster-coverage": "full",
    }


def _get_enforcement(shell: Dialogue, _given: SimpleNamespace) -> object:
    with shell.cluster() as cluster:
        return {"mtls-enforcement-level": cluster.enforcement}


def _set_enforcement(shell: Dialogue, given: SimpleNamespace) -> object:
    approved = approval(given)
    with shell.cluster() as cluster:
        cluster.set_enforcement(shell.session, given.level, approved)
    return {"message": f"Mtls enforcement level set to {given.level.capitalize()} successfully"}


def _reference(text: str) -> int:
    try:
        return int(text, 16 if text.lower().startswith("0x") else 10)
    except ValueError:
        raise ToktoolsError("--certificate-reference is a number, decimal or as 0x01") from None


_MTLS = "cluster mtls"

COMMANDS = (
    Command(
        CommandLine(
            "cluster activate",
            "Make the first admin, named admin.",
            "cluster activate",
            CLUSTER_ID,
            PASSWORD,
        ),
        _activate,
        needs_user=False,
    ),
    Command(
        CommandLine("cluster hsm-info", "List the HSMs.", "cluster hsm-info", CLUSTER_ID),
        _hsm_info,
        needs_user=False,
    ),
    Command(
        CommandLine(
            f"{_MTLS} register-trust-anchor",
            "Register a trust anchor. For admins.",
            f"{_MTLS} register-trust-anchor --path root.pem",
            CLUSTER_ID,
            Option("--path", "FILE", "the certificate, or chain of them, in PEM", required=True),
            APPROVAL,
        ),
        _register,
    ),
    Command(
        CommandLine(
            f"{_MTLS} deregister-trust-anchor",
            "Remove a trust anchor. For admins.",
            f"{_MTLS} deregister-trust-anchor --certificate-reference 0x01",
            Option(
                "--certificate-reference",
                "REFERENCE",
                "which one, as a decimal or hexadecimal number",
                convert=_reference,
                required=True,
            ),
            CLUSTER_ID,
            APPROVAL,
        ),
        _deregister,
    ),
    Command(
        CommandLine(
            f"{_MTLS} list-trust-anchors", "List the trust anchors.", f"{_MTLS} list-trust-anchors", CLUSTER_ID
        ),
        _list,
        needs_user=False,
    ),
    Command(
        CommandLine(
            f"{_MTLS} get-enforcement",
            "Show whether clients must use mutual TLS.",
            f"{_MTLS} get-enforcement",
            CLUSTER_ID,
        ),
        _get_enforcement,
        needs_user=False,
    ),
    Command(
        CommandLine(
            f"{_MTLS} set-enforcement",
            "Set whether clients must use mutual TLS. For the admin named admin.",
            f"{_MTLS} set-enforcement --level cluster",
            CLUSTER_ID,
            Choice("--level", "the level", dict.fromkeys(LEVELS, "")),
            APPROVAL,
        ),
        _set_enforcement,
    ),
)
