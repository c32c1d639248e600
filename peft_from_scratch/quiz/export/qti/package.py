"""The zip: a manifest that lists everything, a test that orders the items, and the items."""

import io
import zipfile
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from ...model import Quiz
from .item import QTI, item, name_of

CONTENT = "http://www.imsglobal.org/xsd/imscp_v1p1"
INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
WHERE = (  # some importers look for the schema's name, none fetches it
    f"{CONTENT} http://www.imsglobal.org/xsd/imscp_v1p1.xsd {QTI} http://www.imsglobal.org/xsd/qti/qtiv2p1/imsqti_v2p1.xsd"
)
BEGINNING = (1980, 1, 1, 0, 0, 0)  # zip's first day: the same bank gives the same bytes


def to_qti(quiz: Quiz) -> bytes:
    """The whole bank as one package."""
    files = {"imsmanifest.xml": _manifest(quiz), "test.xml": _test(quiz)}
    files |= {_file(question.id): item(question) for question in quiz.questions}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as package:
        for name, root in files.items():
            package.writestr(zipfile.ZipInfo(name, BEGINNING), _text(root), zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _file(question_id: str) -> str:
    return f"items/{question_id}.xml"


def _text(root: Element) -> str:
    if root.tag == "manifest":  # in an item, a line break more would show in its code
        indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _manifest(quiz: Quiz) -> Element:
    root = Element("manifest", {"xmlns": CONTENT, "xmlns:xsi": INSTANCE, "xsi:schemaLocation": WHERE})
    root.set("identifier", f"peft-from-scratch-{quiz.quiz}")
    meta = SubElement(root, "metadata")
    SubElement(meta, "schema").text = "QTIv2.1 Package"
    SubElement(meta, "schemaversion").text = "1.0.0"
    SubElement(root, "organizations")
    resources = SubElement(root, "resources")
    test = _resource(resources, f"test-{quiz.quiz}", "imsqti_test_xmlv2p1", "test.xml")
    for question in quiz.questions:
        SubElement(test, "dependency", identifierref=name_of(question))
        _resource(resources, name_of(question), "imsqti_item_xmlv2p1", _file(question.id))
    return root


def _resource(parent: Element, name: str, kind: str, href: str) -> Element:
    made = SubElement(parent, "resource", identifier=name, type=kind, href=href)
    SubElement(made, "file", href=href)
    return made


def _test(quiz: Quiz) -> Element:
    title = f"Quiz {quiz.quiz}: {quiz.title}"
    root = Element("assessmentTest", {"xmlns": QTI, "identifier": f"test-{quiz.quiz}", "title": title})
    part = SubElement(root, "testPart", identifier="all", navigationMode="nonlinear", submissionMode="individual")
    section = SubElement(part, "assessmentSection", identifier="questions", title=title, visible="true")
    for question in quiz.questions:
        SubElement(section, "assessmentItemRef", identifier=name_of(question), href=_file(question.id))
    return root
