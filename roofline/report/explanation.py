"""An explanation as a plain record, `roofline.explanation/1`."""

from typing import Any

from .. import __version__
from ..explanation.node import Node
from ..outcome import Case
from .record import case_record

SCHEMA = "roofline.explanation/1"


def explanation_record(case: Case, figure: str, tree: Node, command: str = "") -> dict[str, Any]:
    """The record of an explained figure: JSON-ready, the whole tree."""
    return {
        "schema": SCHEMA,
        "model": case.model.name,
        "device": case.device.name,
        "device_count": case.scenario.parallelism.device_count,
        "scenario": case_record(case),
        "figure": figure,
        "tree": node_record(tree),
        "provenance": {
            "package_version": __version__,
            "profile_digest": case.device.digest,
            "device_title": case.device.title,
            "command": command,
        },
    }


def node_record(node: Node) -> dict[str, Any]:
    """A node and all below it. `exact`: the formula is an expression in the children's names that gives the value."""
    return {
        "name": node.name,
        "value": node.value,
        "unit": node.unit,
        "formula": node.formula,
        "exact": node.exact,
        "source": {"kind": str(node.kind), "text": node.text},
        "note": node.note,
        "children": [node_record(child) for child in node.children],
    }
