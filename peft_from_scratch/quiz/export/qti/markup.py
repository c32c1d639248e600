"""Prompts as XHTML inside an item; maths as MathML, which QTI contains."""

from xml.etree.ElementTree import Element, fromstring

from ...markup import code, inline, mathml, rich

QTI = "http://www.imsglobal.org/xsd/imsqti_v2p1"


def into(parent: Element, text: str) -> None:
    """Append `text` to `parent` as paragraphs and blocks of code."""
    _append(parent, rich(text, mathml))


def inline_into(parent: Element, text: str) -> None:
    """Append `text` to `parent` as one run of words."""
    _append(parent, inline(" ".join(text.split()), mathml))


def code_into(parent: Element, lines: str) -> None:
    """Append a block of code, its spaces kept."""
    _append(parent, code(lines))


def _append(parent: Element, html: str) -> None:
    wrapped = fromstring(f"<x>{html}</x>")
    if wrapped.text:
        if len(parent):
            parent[-1].tail = (parent[-1].tail or "") + wrapped.text
        else:
            parent.text = (parent.text or "") + wrapped.text
    parent.extend(_plain(each) for each in wrapped)


def _plain(element: Element) -> Element:
    """Clark names would be written with a made-up prefix; MathML says its namespace on its root instead."""
    space, _, name = element.tag.rpartition("}")
    element.tag = name
    if space and name == "math":
        element.set("xmlns", space[1:])
    for child in element:
        _plain(child)
    return element
