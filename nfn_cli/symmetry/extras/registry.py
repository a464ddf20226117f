"""symmetry/extras/registry.py: the table of rules, one for each idea of a symmetry beyond the monomial group. No rule here."""

from __future__ import annotations

from collections.abc import Callable

from nfn_cli.symmetry.extras.extra import Extra
from nfn_cli.symmetry.extras.survey import Survey

ExtraRule = Callable[[Survey], list[Extra]]
EXTRA_RULES: dict[str, ExtraRule] = {}


def extra_rule(function: ExtraRule) -> ExtraRule:
    EXTRA_RULES[function.__name__] = function
    return function


def first_rule(function: ExtraRule) -> ExtraRule:
    """A rule whose members take what they know of the network's values from the tensors as they were found."""
    rules = dict(EXTRA_RULES)
    EXTRA_RULES.clear()
    EXTRA_RULES.update({function.__name__: function, **rules})
    return function


def find_extras(survey: Survey) -> list[Extra]:
    """All extras of a network, in an order in which members may be applied one after another.

    They are independent of one another and of the monomial group.
    """
    found = [extra for rule in EXTRA_RULES.values() for extra in rule(survey)]
    return [extra for extra in found if extra.dimension or extra.log10_order]
