"""symmetry: axis types, op rules, scale and sign classes, group elements, the report. Knows graphs; no canonical form."""

from nfn_cli.symmetry.element import GroupElement, SetElement
from nfn_cli.symmetry.element_file import act, random_element, read_element, write_element
from nfn_cli.symmetry.report import Report, symmetry_report
from nfn_cli.symmetry.solve import Symmetry, find_symmetry
from nfn_cli.symmetry.unit_set import UnitSet

__all__ = [
    "GroupElement",
    "Report",
    "SetElement",
    "Symmetry",
    "UnitSet",
    "act",
    "find_symmetry",
    "random_element",
    "read_element",
    "symmetry_report",
    "write_element",
]
