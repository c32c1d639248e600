"""The site in a browser, from its folder, with the network off: no request, no error, keyboard, phone, dark, axe."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from quiz_banks import banks
from test_site import site  # noqa: F401  (a fixture)

from peft_from_scratch.course.errors import CourseError
from peft_from_scratch.course.files import write
from peft_from_scratch.course.npm import Package, members
from peft_from_scratch.course.site.layout import frame
from peft_from_scratch.course.site.search import entries, index_script
from peft_from_scratch.quiz.web.page import quiz_script, quiz_section

NEEDED = {
    "playwright-core": Package(
        "playwright-core",
        "1.65.1",
        "sha512-hqPpz7blSMPxWVdoeE1yiBSzXsKiVOd2k+kjCvmUywD2GPO2Dd9HfcWnq9NN0GHbNZDFgZ9JfBFr+X5/BLo0qw==",
    ),
    "axe-core": Package(
        "axe-core",
        "4.14.1",
        "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
    ),
}
PAGES = ("index", "practice", "methods", "search", "learner-errors")


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """A folder with the script and the two packages that it needs."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    folder = tmp_path_factory.mktemp("browser")
    try:
        for name, package in NEEDED.items():
            for member, content in members(package).items():
                write(folder / name / member, content)
    except CourseError as error:
        pytest.skip(str(error))
    shutil.copy(Path(__file__).parent / "browser" / "site.js", folder)
    return folder


@pytest.mark.slow
def test_pages_in_a_browser(site, driver):  # noqa: F811
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("neither chromium nor google-chrome is installed")
    bank = banks()[0]
    body = f"<h1>Quiz</h1><p>A needle.</p>{quiz_section(bank)}"
    write(site / "quiz.html", frame("Quiz", body, scripts=quiz_script([bank])))
    index = (site / "assets" / "index.js").read_text(encoding="utf-8")
    write(site / "assets" / "index.js", index + index_script(entries("quiz.html", "Quiz", body)))
    lesson = next(path.name for path in site.glob("lesson-00-*.html"))
    pages = ["quiz.html", lesson, *(f"{name}.html" for name in PAGES)]
    command = ["node", "site.js", str(site), browser, *pages]
    done = subprocess.run(command, capture_output=True, text=True, cwd=driver, timeout=300)
    assert done.returncode == 0, done.stderr[-1500:]
    seen = json.loads(done.stdout)
    assert {page: faults for page, faults in seen["faults"].items() if faults} == {}
    keys = seen["keyboard"]
    assert all(keys[step] for step in ("skip", "reached", "wrong", "right", "order", "ordered", "kept")), keys
    assert keys["score"] == "Solved 2 of 6, 1 at the first try." and keys["theme"] == "dark"
    assert keys["found"] == "Quiz" and keys["faults"] == []
