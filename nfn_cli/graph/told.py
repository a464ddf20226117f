"""graph/told.py: what somebody stated about a network: activations, frequencies, pooling. Knows words and numbers; no tensor."""

from __future__ import annotations

from collections.abc import Sequence

from nfn_cli.checkpoint.model import Hints
from nfn_cli.errors import Refused, WrongUsage
from nfn_cli.graph.activations import ACTIVATIONS, activation_name

_AND_SO_ON = "..."


class Told:
    """The activation and frequency of each hidden layer, and where they were stated: an option outweighs the file.

    Raises:
        WrongUsage: an unknown activation, or a frequency that is no number or 0.
    """

    def __init__(self, hints: Hints, activation: str | None, omega: str | None, pooling: str | None) -> None:
        stated = activation or hints.activation
        self.source = "option --activation" if activation else hints.source if stated else ""
        self.functions = [activation_name(part) for part in stated.split(",")] if stated else []
        self._suggestion = f" (the file has {hints.suggested}, and does not say where)" if hints.suggested else ""
        self.pooling = pooling or hints.pooling
        self._frequency_source = "option --omega" if omega else hints.source
        parts = [part.strip() for part in (omega or hints.omega or "").replace("…", _AND_SO_ON).split(",")]
        self._goes_on = parts[-1].endswith(_AND_SO_ON)
        parts[-1] = parts[-1].removesuffix(_AND_SO_ON)
        try:
            self._omegas = [float(part) for part in parts if part]
        except ValueError:
            raise WrongUsage(
                "not a number", where="--omega", fix="one number, one for each hidden layer, or FIRST,REST,..."
            ) from None
        if any(not 0 < abs(omega) < float("inf") for omega in self._omegas):
            raise WrongUsage("must be a finite number other than 0", where="--omega")

    def function(self, index: int, hidden: int) -> str:
        """Of one of so many hidden layers.

        Raises:
            Refused: nobody stated it, or stated a list of another length.
        """
        if not self.functions:
            raise Refused(
                "the activation is not known from the file",
                fix=f"give it with --activation NAME{self._suggestion}",
                code="activation-unknown",
            )
        if len(self.functions) not in (1, hidden):
            raise Refused(
                f"{len(self.functions)} activations for {hidden} hidden layers",
                fix="give one, or one for each hidden layer",
                code="activation-count",
            )
        return self.functions[index] if len(self.functions) > 1 else self.functions[0]

    def omega(self, index: int, hidden: int) -> float | None:
        """Of one of so many hidden layers; None where nobody stated it.

        Raises:
            Refused: a list of another length was stated.
        """
        if not self._omegas:
            return None
        count = len(self._omegas)
        if count > hidden or (1 < count < hidden and not self._goes_on):
            raise Refused(
                f"{count} frequencies for {hidden} hidden layers",
                where="--omega" if self._frequency_source.startswith("option") else self._frequency_source,
                fix="give one, one for each hidden layer, or FIRST,REST,... for lists that go on with their last number",
                code="omega-count",
            )
        return self._omegas[min(index, count - 1)]

    def notes_on(self, functions: Sequence[str]) -> tuple[str, ...]:
        """What to say of the frequencies of a network with these activations in its hidden layers."""
        waves = dict.fromkeys(function for function in functions if ACTIVATIONS[function].frequency)
        if not waves:
            return ()
        if self._omegas:
            return (f"ω = {self._listed(len(functions))} (from {self._frequency_source})",)
        shifted = [function for function in waves if ACTIVATIONS[function].periodic]
        lost = f": no phase shifts of {', '.join(shifted)} are claimed (--omega W adds those by multiples of π/W)"
        return (f"ω is not known{lost if shifted else '; the group does not depend on it'}",)

    def _listed(self, hidden: int) -> str:
        every = [self._omegas[min(index, len(self._omegas) - 1)] for index in range(hidden)]
        return ", ".join(f"{omega:g}" for omega in (every[:1] if len(set(every)) == 1 else every))
