"""One question as an assessmentItem: what is declared, what is shown, how it is scored, what is said afterwards."""

from xml.etree.ElementTree import Element, SubElement

from ...model import Question, Self
from .bodies import body_of
from .markup import QTI, into
from .scoring import score


def name_of(question: Question) -> str:
    """The question's id as an XML name, which may not begin with a digit."""
    return f"q-{question.id}"


def item(question: Question) -> Element:
    """The item, with outcomes SCORE (0 to 1), FEEDBACK (what was chosen) and EXPLANATION (always)."""
    root = Element("assessmentItem", {"xmlns": QTI, "identifier": name_of(question), "title": question.id})
    root.attrib |= {"adaptive": "false", "timeDependent": "false", "label": " ".join(question.tags)}
    response, body, remarks = body_of(question)
    root.append(response)
    _outcome(root, "SCORE", "single", "float", "0")
    _outcome(root, "MAXSCORE", "single", "float", "1")
    _outcome(root, "FEEDBACK", "multiple", "identifier")
    _outcome(root, "EXPLANATION", "single", "identifier", "explanation")
    root.append(body)
    if not isinstance(question, Self):  # an open question is marked by a person
        root.append(score(question))
    for name, text in remarks.items():
        _modal(root, "FEEDBACK", name, text)
    _modal(root, "EXPLANATION", "explanation", question.explanation)
    return root


def _outcome(root: Element, name: str, cardinality: str, kind: str, default: str | None = None) -> None:
    made = SubElement(root, "outcomeDeclaration", identifier=name, cardinality=cardinality, baseType=kind)
    if default is not None:
        SubElement(SubElement(made, "defaultValue"), "value").text = default


def _modal(root: Element, outcome: str, name: str, text: str) -> None:
    made = SubElement(root, "modalFeedback", outcomeIdentifier=outcome, identifier=name, showHide="show")
    into(made, text)
