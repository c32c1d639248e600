"""What each kind of question declares and shows: its response, its itemBody, and remarks by identifier."""

from xml.etree.ElementTree import Element, SubElement

from ...arrange import Match, Order
from ...model import Multi, Numeric, Output, Question, Self, Single
from .markup import code_into, inline_into, into

Parts = tuple[Element, Element, dict[str, str]]  # responseDeclaration, itemBody, remarks


def body_of(question: Question) -> Parts:
    """The parts of `question`; a remark is shown when its identifier stands in FEEDBACK."""
    return BODIES[type(question)](question)


def _response(cardinality: str, kind: str, right: list[str]) -> Element:
    made = Element("responseDeclaration", identifier="RESPONSE", cardinality=cardinality, baseType=kind)
    if right:
        answer = SubElement(made, "correctResponse")
        for value in right:
            SubElement(answer, "value").text = value
    return made


def _map(response: Element, shares: dict[str, float]) -> None:
    """Points for each part of an answer; never below zero, as in the course's own grading."""
    mapping = SubElement(response, "mapping", lowerBound="0", upperBound="1", defaultValue="0")
    for key, share in shares.items():
        SubElement(mapping, "mapEntry", mapKey=key, mappedValue=f"{share:.6g}")


def _body(question: Question) -> Element:
    made = Element("itemBody")
    into(made, question.prompt)
    if isinstance(question, Output):
        code_into(made, question.code)
    return made


def _choices(question: Single | Multi) -> Parts:
    several = isinstance(question, Multi)
    names = [f"c{i}" for i in range(len(question.choices))]
    response = _response("multiple" if several else "single", "identifier", [names[i] for i in question.key])
    if several:
        share = 1 / len(question.key)
        pairs = zip(names, question.choices, strict=True)
        _map(response, {name: share if each.correct else -share for name, each in pairs})
    body = _body(question)
    most = "0" if several else "1"  # 0 is no limit
    block = SubElement(body, "choiceInteraction", responseIdentifier="RESPONSE", shuffle="false", maxChoices=most)
    for name, each in zip(names, question.choices, strict=True):
        into(SubElement(block, "simpleChoice", identifier=name), each.text)
    return response, body, dict(zip(names, (each.feedback for each in question.choices), strict=True))


def _numeric(question: Numeric) -> Parts:
    body = _body(question)
    line = SubElement(body, "p")
    field = SubElement(line, "textEntryInteraction", responseIdentifier="RESPONSE", expectedLength="12")
    field.tail = f" {question.unit}" if question.unit else None
    remarks = {f"near{i}": near.feedback for i, near in enumerate(question.near)}
    return _response("single", "float", [repr(question.answer)]), body, {**remarks, "otherwise": question.otherwise}


def _output(question: Output) -> Parts:
    body, lines = _body(question), len(question.accept[0].splitlines())
    if lines == 1:
        SubElement(SubElement(body, "p"), "textEntryInteraction", responseIdentifier="RESPONSE", expectedLength="40")
    else:
        SubElement(body, "extendedTextInteraction", responseIdentifier="RESPONSE", expectedLines=str(lines))
    remarks = {f"near{i}": slip.feedback for i, slip in enumerate(question.near)}
    return _response("single", "string", [question.accept[0]]), body, {**remarks, "otherwise": question.otherwise}


def _order(question: Order) -> Parts:
    """Lines that do not belong: then fewer may be ordered than there are."""
    names = [f"l{i}" for i in range(len(question.shown()))]
    body = _body(question)
    block = SubElement(body, "orderInteraction", responseIdentifier="RESPONSE", shuffle="false")
    if question.distractors:
        block.attrib |= {"minChoices": "1", "maxChoices": str(len(question.lines))}
    for name, line in zip(names, question.shown(), strict=True):
        choice = SubElement(block, "simpleChoice", identifier=name)
        (code_into if question.code else into)(choice, line.text)
    return _response("ordered", "identifier", [names[i] for i in question.key]), body, {"otherwise": question.hint}


def _match(question: Match) -> Parts:
    pairs = [f"a{i} b{place}" for i, place in enumerate(question.key)]
    response = _response("multiple", "directedPair", pairs)
    _map(response, dict.fromkeys(pairs, 1 / len(pairs)))
    body = _body(question)
    most = str(len(pairs))
    block = SubElement(body, "matchInteraction", responseIdentifier="RESPONSE", shuffle="false", maxAssociations=most)
    for mark, texts in (("a", [pair.left for pair in question.pairs]), ("b", question.shown())):
        side = SubElement(block, "simpleMatchSet")
        for i, text in enumerate(texts):
            inline_into(SubElement(side, "simpleAssociableChoice", identifier=f"{mark}{i}", matchMax="1"), text)
    return response, body, {"otherwise": question.hint}


def _self(question: Self) -> Parts:
    body = _body(question)
    rubric = SubElement(body, "rubricBlock", view="scorer tutor")
    into(rubric, f"**One good answer.** {question.model_answer}")
    points = SubElement(rubric, "ul")
    for point in question.rubric:
        inline_into(SubElement(points, "li"), point)
    SubElement(body, "extendedTextInteraction", responseIdentifier="RESPONSE", expectedLines="4")
    return _response("single", "string", []), body, {}


BODIES = {
    Single: _choices, Multi: _choices, Numeric: _numeric, Output: _output, Order: _order, Match: _match, Self: _self,
}  # fmt: skip
