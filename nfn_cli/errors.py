"""errors.py: one exception family. Every message says what is wrong, where, and what would settle it."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command; several inputs give the largest that occurred."""

    DONE = 0
    ANSWER_IS_NO = 1
    WRONG_USAGE = 2
    REFUSED = 3
    SURROUNDINGS_FAILED = 4
    INTERRUPTED = 130


# What would settle it, where the place that raises cannot know better.
_FIXES = {
    "different-architectures": "compare networks of one architecture; nfn diff takes those that differ in widths",
    "recurrent": "export its graph with torch.export (.pt2): what is recurrent is then frozen and the rest analysed",
    "architecture-does-not-fit": "name the architecture that the file was saved from, or leave out --arch",
    "no-such-file": "check the path",
    "no-tensors": "save the weights: torch.save(model.state_dict(), …) or safetensors",
}


class NfnError(Exception):
    """Base of all errors a user can meet.

    Args:
        what: what is wrong, without a trailing full stop.
        where: file, tensor or option it concerns; outer layers prepend theirs with `located`.
        fix: what would settle it; may be empty, and is then what settles errors of this code in general.
        code: stable kebab-case word for scripts (JSON `error.code`).
    """

    exit_code = ExitCode.REFUSED
    default_code = "refused"

    def __init__(self, what: str, *, where: str = "", fix: str = "", code: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.code = code or self.default_code
        self.fix = fix or _FIXES.get(self.code, "")

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}; {self.fix}" if self.fix else text

    def located(self, where: str) -> NfnError:
        """The same error, one layer further out: `where` is put before what is already known."""
        joined = f"{where}: {self.where}" if self.where else where
        return type(self)(self.what, where=joined, fix=self.fix, code=self.code)


class Refused(NfnError):
    """The input is not something the tool can answer for; the reason is in the message."""


class AnswerIsNo(NfnError):
    """The question was answered, and the answer is no (verification failed, not equivalent)."""

    exit_code = ExitCode.ANSWER_IS_NO
    default_code = "answer-is-no"


class WrongUsage(NfnError):
    """An option or argument does not make sense."""

    exit_code = ExitCode.WRONG_USAGE
    default_code = "wrong-usage"


class SurroundingsFailed(NfnError):
    """Disk, permission, network or a missing optional dependency."""

    exit_code = ExitCode.SURROUNDINGS_FAILED
    default_code = "surroundings-failed"


def not_installed(package: str, what: str, extra: str = "", otherwise: str = "") -> SurroundingsFailed:
    """The error where a dependency is missing that not everybody needs.

    Args:
        what: needs it, as in "reading Keras files".
        extra: of this package, that brings it; "" where it is no extra.
        otherwise: what would do without it.
    """
    wanted = f"'nfn-cli[{extra}]'" if extra else package
    return SurroundingsFailed(
        f"{what} needs {package}, which is not installed",
        fix=f"pip install {wanted}" + (f", or {otherwise}" if otherwise else ""),
        code="missing-extra",
    )
