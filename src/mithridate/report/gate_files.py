"""The gate for other programs: as JSON, as JUnit XML, and as SARIF 2.1.0."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree as Xml

from mithridate.report.gating import Check, Gate, Gated

_RULES = {
    "success": ("max-success", "The rate of success of the poisoner stays within the limit."),
    "rise": ("max-rise", "The rise of the error over clean data stays within the limit."),
    "accuracy": ("min-accuracy", "The accuracy on clean test data stays above the limit."),
    "landed": ("attack-landed", "The attack lands without a defense, so that a pass says something of the defense."),
    "finished": ("run-finished", "Every job of the run is done."),
}
"""What each check is called, and what it asks for."""


def as_json(found: Gate) -> dict[str, Any]:
    """The gate as JSON-able values; ``low`` and ``high`` are one-sided bounds."""
    return {
        "folder": str(found.folder),
        "outcome": found.outcome,
        "sentence": _plain(found.sentence),
        "limits": asdict(found.limits),
        "unfinished": found.unfinished or None,
        "cells": [
            {
                "attack": each.attack,
                "scenario": each.scenario,
                "victim": each.victim,
                "defense": each.defense,
                "outcome": each.outcome,
                "sentence": _plain(each.sentence),
                "checks": [_check(check) for check in each.checks],
            }
            for each in found.cells
        ],
    }


def as_junit(found: Gate) -> str:
    """One test case for each cell, and one for the run as a whole; what cannot be told is an error, no failure."""
    cases = [_case(each) for each in found.cells]
    whole = Xml.Element("testcase", classname="mithridate.gate", name="every job is done")
    if found.unfinished:
        _problem(whole, "error", "unfinished", _plain(found.unfinished))
    cases.append(whole)
    counts = {"tests": str(len(cases))}
    counts |= {kind: str(sum(case.find(tag) is not None for case in cases)) for kind, tag in _TAGS.items()}
    root = Xml.Element("testsuites", {"name": "mithridate gate", **counts})
    suite = Xml.SubElement(root, "testsuite", {"name": _xml(f"mithridate gate {found.folder}"), **counts})
    suite.extend(cases)
    Xml.indent(root)
    return Xml.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


_TAGS = {"failures": "failure", "errors": "error"}


def as_sarif(found: Gate, *, version: str) -> str:
    """A log of one run with one result for each cell, and one where the run is unfinished.

    A limit that is broken has the kind ``fail`` and the level ``error``, what cannot be told the kind ``open``, and
    what passes the kind ``pass``; the last two have the level ``none``, because the standard lets only failures have
    another (3.27.10 of https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html).
    """
    results = [_result(each, found) for each in found.cells]
    if found.unfinished:
        results.append(_sarif_result("finished", "unknown", found.unfinished, found, {}))
    rules = [{"id": rule, "name": _camel(rule), "shortDescription": {"text": text}} for rule, text in _RULES.values()]
    driver = {"name": "Mithridate", "version": version, "semanticVersion": version, "rules": rules}
    log = {
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "invocations": [{"executionSuccessful": True}],
                "results": results,
                "properties": {"outcome": found.outcome, "limits": asdict(found.limits)},
            }
        ],
    }
    return json.dumps(log, indent=2, ensure_ascii=False) + "\n"


def _case(each: Gated) -> Xml.Element:
    case = Xml.Element("testcase", classname=f"mithridate.gate.{_dotless(each.attack)}", name=_xml(each.name))
    if each.outcome == "exceeded":
        _problem(case, "failure", "exceeded", each.sentence)
    elif each.outcome == "unknown":
        _problem(case, "error", "cannot-tell", each.sentence)
    Xml.SubElement(case, "system-out").text = _xml(each.sentence)
    return case


def _problem(case: Xml.Element, tag: str, kind: str, text: str) -> None:
    Xml.SubElement(case, tag, type=kind, message=_xml(text)).text = _xml(text)


def _result(each: Gated, found: Gate) -> dict[str, Any]:
    worst = next((check for check in each.checks if check.outcome == each.outcome), None)
    properties = {"cell": each.name, "checks": [_check(check) for check in each.checks]}
    what = worst.what if worst else "landed"
    return _sarif_result(what, each.outcome, f"{each.name}: {each.sentence}", found, properties)


def _sarif_result(what: str, outcome: str, text: str, found: Gate, properties: dict[str, Any]) -> dict[str, Any]:
    levels = {"passed": ("none", "pass"), "exceeded": ("error", "fail"), "unknown": ("none", "open")}
    level, kind = levels[outcome]
    return {
        "ruleId": _RULES[what][0],
        "ruleIndex": list(_RULES).index(what),
        "kind": kind,
        "level": level,
        "message": {"text": _plain(text)},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": _uri(found)}}}],
        "properties": properties,
    }


def _check(check: Check) -> dict[str, Any]:
    found = check.bounded
    numbers = {name: getattr(found, name) for name in ("mean", "low", "high", "trials")} if found else {}
    return {"what": check.what, "limit": check.limit, "outcome": check.outcome, **numbers}


def _uri(found: Gate) -> str:
    """Where the settings of the run lie: relative, where its folder was given so."""
    path = found.folder / "experiment.json"
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())


def _plain(text: str) -> str:
    """Text with ordinary spaces and minus signs, for logs."""
    return text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-")


def _xml(text: str) -> str:
    """Text without what XML cannot hold, even escaped."""
    return "".join(each for each in _plain(text) if each in "\t\n" or each.isprintable())


def _dotless(name: str) -> str:
    return _xml(name).replace(".", "-")


def _camel(rule: str) -> str:
    return "".join(part.capitalize() for part in rule.split("-"))
