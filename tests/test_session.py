"""What the commands that log in share: who signs, and a CLI that is ended whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import OFFICER1_PUB

from toktools import keys, passphrases
from toktools.errors import ToktoolsError
from toktools.keys.command import Command
from toktools.login import driver, place, session

TOOL: Any = SimpleNamespace(name="tok-login", warn=print, say=print)


def options(**given: Any) -> SimpleNamespace:
    """Options as they are where only these are given."""
    signer = {"k": None, "signer": None, "b": False, "p": None, "passin": passphrases.PASSIN.default}
    user = {"username": "a", "role": "admin", "password": lambda _name, _what: b"password"}
    where = {"cli": ["cli", "-v"], "H": None, "ssh": ["ssh"], "cluster_id": None, "timeout": 7.0}
    return SimpleNamespace(**{**signer, **user, **where, **given})


def refused(call: Callable[[], object]) -> ToktoolsError:
    with pytest.raises(ToktoolsError) as raised:
        call()
    return raised.value


PUB = str(OFFICER1_PUB)


@pytest.mark.parametrize(
    ("given", "said", "hint"),
    [
        ({"k": "k", "p": "p"}, "-p and -b go with --signer, not with -k", ""),
        ({"k": "k", "p": ""}, "-p and -b go with --signer, not with -k", ""),
        ({"k": "k", "b": True}, "-p and -b go with --signer, not with -k", ""),
        ({}, "-k KEY or --signer COMMAND is missing", "try 'tok-login --help'"),
        ({"p": PUB}, "-k KEY or --signer COMMAND is missing", "try 'tok-login --help'"),
        ({"signer": ["s"]}, "--signer needs -p PUB: the HSM counts a wrong signature as a wrong login", ""),
        ({"signer": ["s"], "p": PUB, "passin": print}, "--passin cannot be used with --signer", ""),
    ],
)
def test_who_does_not_sign(given: dict[str, Any], said: str, hint: str) -> None:
    """What would be of no use, or could count as a wrong login, is refused."""
    error = refused(lambda: session.signer(options(**given), TOOL))
    assert (error.message, error.hint) == (said, hint)


def test_who_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of -k, with its pass phrase, or a command whose public key is known."""
    monkeypatch.setattr(keys, "open_signer", lambda *words: words)
    assert session.signer(options(k="k", passin=len), TOOL) == ("k", len, print)
    for base64 in (False, True):
        command = session.signer(options(signer=["s"], p=PUB, b=base64), TOOL)
        assert isinstance(command, Command)
        assert command.public is not None
        assert command._base64 == base64  # noqa: SLF001 - as -b says


@pytest.mark.parametrize("host", [None, "h"])
@pytest.mark.parametrize("cluster", [None, "cluster-1"])
@pytest.mark.parametrize("trouble", ["", "reach", "start", "work"])
def test_a_cli_that_is_started(
    monkeypatch: pytest.MonkeyPatch, host: str | None, cluster: str | None, trouble: str
) -> None:
    """Its place is reached first; in the end the CLI has ended, no file is left and the signers have stopped."""
    seen: list[Any] = []

    def fails(when: str) -> None:
        if trouble == when:
            raise ToktoolsError(when)

    class Here:
        def __init__(self, *words: Any) -> None:
            seen.append(words)

        def reach(self) -> None:
            seen.append("reach")
            fails("reach")

        def argv(self, cli: list[str]) -> list[str]:
            return [*cli, "there"]

        def close(self) -> None:
            seen.append("left")

    class Cli:
        def __init__(self, *words: Any) -> None:
            seen.append(words)
            fails("start")

        def close(self) -> None:
            seen.append("ended")

    monkeypatch.setattr(place, "There", lambda *words: Here("there", *words))
    monkeypatch.setattr(place, "Here", Here)
    monkeypatch.setattr(driver, "Cli", Cli)
    signers: Any = [SimpleNamespace(stop=lambda: seen.append("stopped"))]
    words = options(H=host, cluster_id=cluster)

    def work() -> None:
        with session.started(words, signers, TOOL) as (cli, user, where):
            assert isinstance(cli, Cli)
            assert isinstance(where, Here)
            assert (user.name, user.role, user.password()) == ("a", "admin", b"password")
            seen.append("work")
            fails("work")

    if trouble:
        assert refused(work).message == trouble
    else:
        work()
    argv = ["cli", "-v", "interactive", *(["--cluster-id", cluster] if cluster else []), "there"]
    started = (argv, "cli", print, 7.0)
    steps = [("there", ["ssh"], "h", 7.0) if host else (), "reach", started, "work", "ended", "left", "stopped"]
    if trouble == "reach":
        steps[2:5] = []
    if trouble == "start":
        steps[3:5] = []
    assert seen == steps
