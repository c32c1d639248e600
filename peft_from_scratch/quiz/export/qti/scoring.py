"""responseProcessing: the same grades as the course's own, in QTI's small language."""

from xml.etree.ElementTree import Element, SubElement

from ...arrange import Match
from ...model import Multi, Numeric, Output, Question, Single


def score(question: Question) -> Element:
    """Sets SCORE, and FEEDBACK to the identifiers of the remarks to show."""
    root = Element("responseProcessing")
    if isinstance(question, (Multi, Match)):
        made = SubElement(SubElement(root, "responseCondition"), "responseIf")
        SubElement(SubElement(made, "not"), "isNull").append(_response())
        SubElement(_set(made, "SCORE"), "mapResponse", identifier="RESPONSE")
    if isinstance(question, (Single, Multi)):
        feedback = _set(root, "FEEDBACK")
        (SubElement(feedback, "multiple") if isinstance(question, Single) else feedback).append(_response())
    if not isinstance(question, Multi):
        root.append(_condition(question))
    return root


def _condition(question: Question) -> Element:
    """Right, else a known slip, else anything; a match has its SCORE already."""
    root = Element("responseCondition")
    right = SubElement(root, "responseIf")
    right.append(_accepted(question))
    if not isinstance(question, Match):
        SubElement(_set(right, "SCORE"), "baseValue", baseType="float").text = "1"
    else:
        _say(right, None)
    for i, near in enumerate(getattr(question, "near", [])):
        slip = SubElement(root, "responseElseIf")
        slip.append(_near(question, near))
        _say(slip, f"near{i}")
    if not isinstance(question, Single):
        _say(SubElement(root, "responseElse"), "otherwise")
    return root


def _accepted(question: Question) -> Element:
    if isinstance(question, Numeric):
        slack = max(question.tolerance.abs, question.tolerance.rel * abs(question.answer))
        return _equal(question.answer, slack)
    if isinstance(question, Output):
        return _either([_string(text) for text in question.accept])
    made = Element("match")
    made.append(_response())
    SubElement(made, "correct", identifier="RESPONSE")
    return made


def _near(question: Question, near) -> Element:
    if isinstance(question, Numeric):
        return _equal(near.value, max(question.tolerance.rel, 0.005) * abs(near.value))
    return _string(near.text)


def _equal(value: float, slack: float) -> Element:
    made = Element("equal", toleranceMode="absolute", tolerance=f"{slack!r} {slack!r}")
    made.append(_response())
    SubElement(made, "baseValue", baseType="float").text = repr(float(value))
    return made


def _string(text: str) -> Element:
    made = Element("stringMatch", caseSensitive="false", substring="false")
    made.append(_response())
    SubElement(made, "baseValue", baseType="string").text = text
    return made


def _either(conditions: list[Element]) -> Element:
    if len(conditions) == 1:
        return conditions[0]
    made = Element("or")
    made.extend(conditions)
    return made


def _response() -> Element:
    return Element("variable", identifier="RESPONSE")


def _set(parent: Element, outcome: str) -> Element:
    return SubElement(parent, "setOutcomeValue", identifier=outcome)


def _say(parent: Element, name: str | None) -> None:
    """FEEDBACK becomes this one identifier, or nothing."""
    feedback = _set(parent, "FEEDBACK")
    if name is None:
        SubElement(feedback, "null")
        return
    SubElement(SubElement(feedback, "multiple"), "baseValue", baseType="identifier").text = name
