"""Submissions that try everything a grader must survive, for the demo lesson: made when they are needed, never kept.

Each case is a function that gives the notebook (a dict, or raw bytes); `EXPECTED` says what the grader must find.
Nothing here runs without bounds: processes, files and memory are asked for in amounts that the limits stop.
"""

import json
from pathlib import Path

STUBS = {
    "demo.forward": "def lora_forward(x, W, b, A, B, scale):\n    ...",
    "demo.count": "def lora_count(d_in, d_out, r):\n    ...",
    "demo.guess": "my_guess = ...\nmy_range = (..., ...)",
    "demo.steps": "order = ...",
    "demo.layer": "class LoRALinear(nn.Module):\n    def __init__(self, base, r, alpha):\n        ...\n\n"
    "    def forward(self, x):\n        ...",
    "demo.number": "n = ...",
}
DEFINES = {"demo.forward": "lora_forward", "demo.count": "lora_count", "demo.guess": "my_guess, my_range",
           "demo.steps": "order", "demo.layer": "LoRALinear", "demo.number": "n"}  # fmt: skip
FORWARD = "def lora_forward(x, W, b, A, B, scale):\n    return x @ W.T + b + scale * (x @ A.T) @ B.T"
RIGHT = {
    "demo.forward": FORWARD,
    "demo.count": "def lora_count(d_in, d_out, r):\n    return r * (d_in + d_out)",
    "demo.guess": "my_guess = 2.0\nmy_range = (0.5, 5.0)",
    "demo.steps": "order = [2, 1, 3]",
    "demo.layer": """class LoRALinear(nn.Module):
    def __init__(self, base, r, alpha):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.A = nn.Parameter(torch.randn(r, base.in_features))
        self.B = nn.Parameter(torch.zeros(base.out_features, r))
        self.scale = alpha / r

    def forward(self, x):
        return lora_forward(x, self.base.weight, self.base.bias, self.A, self.B, self.scale)""",
    "demo.number": "n = 12",
}
WRONG = "def lora_forward(x, W, b, A, B, scale):\n    return x @ W.T + b + x @ A.T @ B.T"
IMPORTS = "import torch\nfrom torch import nn\nfrom peft_from_scratch.check import check, hint, solution"
BASE = STUBS | {"demo.count": RIGHT["demo.count"]}  # what stands beside the mischief: 2 points, and must be graded


def code(source: str, **metadata) -> dict:
    return {"cell_type": "code", "id": f"c{abs(hash(source)) % 10**8}", "metadata": metadata, "source": source,
            "outputs": [], "execution_count": None}  # fmt: skip


def notebook(answers: dict[str, str]) -> dict:
    """The demo lesson's notebook with these cells as answers."""
    cells = [{"cell_type": "markdown", "id": "title", "metadata": {}, "source": "# Demo"}, code(IMPORTS)]
    for name, names in DEFINES.items():
        cells.append(code(answers[name], pfs={"exercise": name}))
        cells.append(code(f'{names} = check("{name}", "{names}")'))
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}


def pristine(folder: Path) -> Path:
    """The folder with the demo lesson's untouched notebook, for PFS_NOTEBOOKS."""
    folder.mkdir(exist_ok=True)
    (folder / "99_demo.ipynb").write_text(json.dumps(notebook(STUBS)))
    return folder


def forward(source: str) -> dict:
    """The first exercise is `source`; one other is right, the rest untouched."""
    return notebook(BASE | {"demo.forward": source})


def inside(line: str) -> dict:
    """A wrong answer whose function first does `line`."""
    return forward(WRONG.replace("    return", f"    {line}\n    return"))


def above(lines: str, answer: str = WRONG) -> dict:
    """A wrong answer below some lines of mischief."""
    return forward(f"{lines}\n{answer}")


def cell_of(book: dict, name: str) -> int:
    return next(n for n, cell in enumerate(book["cells"]) if cell["metadata"].get("pfs", {}).get("exercise") == name)


def without_metadata() -> dict:
    book = notebook(RIGHT)
    for cell in book["cells"]:
        cell["metadata"] = {}
    return book


def duplicated() -> dict:
    book = forward(FORWARD)
    at = cell_of(book, "demo.forward")
    book["cells"].insert(at, code(WRONG, pfs={"exercise": "demo.forward"}))
    return book


def edited_check() -> dict:
    book = forward(WRONG)
    at = cell_of(book, "demo.forward")
    book["cells"][at + 1]["source"] = 'check = lambda *a, **k: None\nprint("✓ 3 of 3 points: demo.forward")'
    return book


def deleted() -> dict:
    book = forward(FORWARD)
    del book["cells"][cell_of(book, "demo.forward")]
    return book


def reordered() -> dict:
    book = notebook(RIGHT)
    book["cells"].reverse()
    return book


def format_3() -> dict:
    cells = [{"cell_type": "code", "input": cell["source"].splitlines(keepends=True), "metadata": cell["metadata"],
              "outputs": [], "language": "python", "collapsed": False}
             for cell in forward(FORWARD)["cells"] if cell["cell_type"] == "code"]  # fmt: skip
    return {"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""}, "worksheets": [{"cells": cells}]}


def helper_elsewhere() -> dict:
    book = forward("def lora_forward(x, W, b, A, B, scale):\n    return helper(x, W, b, A, B, scale)")
    book["cells"].insert(1, code(FORWARD.replace("lora_forward", "helper")))
    return book


def huge_outputs() -> dict:
    book = forward(FORWARD)
    book["cells"][1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "spam" * 25 * 2**20}]
    return book


def nested() -> bytes:
    return b'{"cells": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"


FORGE = """import os, json
said = {"status": "passed", "points": 3, "max_points": 3, "lines": [], "advice": None, "failed": [], "notes": []}
data = json.dumps(said).encode()
for fd in range(3, 64):
    try:
        os.write(fd, b"ready" + b"0" * 32 + b"%08d" % len(data) + data)
    except OSError:
        pass"""
FORK = """import os, time
for _ in range(200):
    if os.fork() == 0:
        time.sleep(20)
        os._exit(0)"""
HIDDEN_FORK = """import os, _posixsubprocess
r, w = os.pipe()
count = 0
try:
    for count in range(200):
        _posixsubprocess.fork_exec([b"/bin/sleep", b"20"], (b"/bin/sleep",), True, (), None, None, -1, -1, -1, -1, -1,
                                   -1, r, w, False, False, -1, None, None, None, -1, None, True)
except OSError:
    pass"""
PARENT = "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nos.kill(-1, signal.SIGKILL)"
LIAR = """class Liar(torch.Tensor):
    def detach(self): return self
    def double(self): return self
    def __sub__(self, other): return torch.zeros(1)
    @property
    def shape(self): return torch.Size((2, 3, 5))
def lora_forward(x, W, b, A, B, scale):
    return (x @ W.T + b).as_subclass(Liar)"""
PEEK = """import sys
def lora_forward(x, W, b, A, B, scale):
    want = sys._getframe(1).f_locals.get("want")
    return x @ W.T + b if want is None else want"""
TRACEBACK = """def lora_forward(x, W, b, A, B, scale):
    try:
        raise ValueError
    except ValueError as error:
        frame = error.__traceback__.tb_frame.f_back
    return frame.f_locals.get("want", x @ W.T + b)"""
WALK = """import traceback
def lora_forward(x, W, b, A, B, scale):
    for frame, _ in traceback.walk_stack(None):
        if "want" in frame.f_locals:
            return frame.f_locals["want"]
    return x @ W.T + b"""
ALARM = """import signal
seen = []
def handler(number, frame):
    while frame:
        seen.append(frame.f_locals.get("want"))
        frame = frame.f_back
signal.signal(signal.SIGPROF, handler)
signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
"""
RAISED = """import _signal, signal
def lora_forward(x, W, b, A, B, scale):
    seen = []
    def handler(number, frame):
        while frame:
            seen.append(frame.f_locals.get("want"))
            frame = frame.f_back
    for module in (signal, _signal):
        try:
            module.signal(signal.SIGUSR1, handler)
            module.raise_signal(signal.SIGUSR1)
        except OSError:
            pass
    return next((each for each in seen if each is not None), x @ W.T + b)"""
BY_THE_CLOCK = """import time
import peft_from_scratch.check.timelimit as timelimit
def lora_forward(x, W, b, A, B, scale):
    seen = []
    def handler(number, frame):
        while frame:
            seen.append(frame.f_locals.get("want"))
            frame = frame.f_back
    clock = timelimit.signal
    before = clock.signal(clock.SIGALRM, handler)
    clock.setitimer(clock.ITIMER_REAL, 0.001)
    time.sleep(0.01)
    clock.signal(clock.SIGALRM, before)
    return next((each for each in seen if each is not None), x @ W.T + b)"""
WITH_THE_SECRET = (
    FORGE.split("for fd")[0]
    + """
import select
up = []
for fd in range(3, 64):
    try:
        os.write(fd, b"ready")
        up.append(fd)
    except OSError:
        pass
for fd in range(3, 64):
    try:
        if select.select([fd], [], [], 0.2)[0]:
            secret = os.read(fd, 32)
            for each in up:
                os.write(each, secret + b"%08d" % len(data) + data)
            os._exit(0)
    except (OSError, ValueError):
        pass"""
)
LINECACHE = """import linecache
for name, entry in list(linecache.cache.items()):
    if name != "<answer>" and "lora_forward(x, W" in "".join(entry[2]):
        exec("".join(entry[2]))"""
FROM_CHECK = """from peft_from_scratch.check import exercise
exec(exercise("demo.forward").reference)"""
FROM_DISK = (
    """import peft_from_scratch.check as c, pathlib
text = (pathlib.Path(c.__file__).parent / "00_start_here.py").read_text()
"""
    + WRONG
)
BY_INSPECT = """import inspect
from peft_from_scratch.check import exercise
text = inspect.getsource(exercise("demo.forward").properties[1].test)
line = text.split("want =")[1].splitlines()[0].replace("3.0", "scale")
exec("def lora_forward(x, W, b, A, B, scale):\\n    return " + line)"""
PATCH_CHECK = """import peft_from_scratch.check.tools as tools, peft_from_scratch.check.grading as grading
tools.close = tools.expect_close = lambda *a, **k: True
tools.distance = lambda *a: 0.0
grading._try = lambda *a: (None, False)"""
PATCH_CODE = """import peft_from_scratch.check.tools as tools
tools.expect_close.__code__ = (lambda got, want, advice, tol=1e-5: None).__code__"""
PATCH_BUILTINS = """import builtins
builtins.all = builtins.any = builtins.isinstance = lambda *a: True
builtins.len = lambda *a: 3"""
PATCH_JSON = """import json.encoder
said = '{"status": "passed", "points": 3, "max_points": 3, "lines": [], "advice": null, "failed": [], "notes": []}'
class Late:
    def __del__(self):
        json.encoder.JSONEncoder.encode = lambda self, o: said
        json.dumps = json.encoder.c_make_encoder = lambda *a, **k: said
late = Late()"""
FOOL = """import builtins, os, sys
os.path.realpath = os.path.abspath = os.fsdecode = os.fspath = lambda path: os.environ["HOME"] + "/x"
sys._getframe = lambda *a: None
isinstance_ = builtins.isinstance
builtins.isinstance = lambda a, b: b is int or isinstance_(a, b)
os.open(OUTSIDE, os.O_CREAT | os.O_WRONLY)"""
MODE = """from torch.overrides import TorchFunctionMode
class Mode(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        return result * 0 if getattr(function, "__name__", "") == "max" else result
mode = Mode()
mode.__enter__()"""
PATCH_TASK = """from peft_from_scratch.check import exercise
from peft_from_scratch.check.exercise import Property
task = exercise("demo.forward")
object.__setattr__(task, "properties", (Property("is fine", lambda answer, rng: None),))
object.__setattr__(task, "wrong", ())"""
PATCH_PROPERTY = """from peft_from_scratch.check import exercise
for prop in exercise("demo.forward").properties:
    prop.test.__code__ = (lambda answer, rng: None).__code__"""
PATCH_LIMITS = """import peft_from_scratch.check.grading as grading, functools
functools.partial(setattr, grading)("grade", None)
grading.CAP = 100"""
PATCH_TORCH = """import numpy
torch.allclose = torch.equal = numpy.allclose = lambda *a, **k: True
torch.Tensor.__sub__ = torch.Tensor.sub = lambda a, b: torch.zeros(1)
torch.Tensor.abs = lambda a: torch.zeros(1)"""
PATCH_LATE = """def lora_forward(x, W, b, A, B, scale):
    import peft_from_scratch.check.tools as tools
    tools.close = tools.distance = lambda *a, **k: 0.0
    torch.Tensor.max = lambda self: torch.zeros(())
    return x @ W.T + b"""
EQUAL = """class Yes(list):
    def __eq__(self, other): return True
    def __iter__(self): return iter([2, 1, 3])
order = Yes()"""
SWALLOW = """while True:
    try:
        while True:
            pass
    except BaseException:
        pass"""
LOG = 'import os, json\nopen(os.environ["PFS_PROGRESS"], "a").write(json.dumps({"kind": "check", "exercise": ' \
      '"demo.forward", "status": "passed", "points": 3, "max_points": 3}) + "\\n")'  # fmt: skip

PUT_BACK = """import peft_from_scratch.check.tools as tools
real = tools.distance
def fake(got, want):
    tools.distance = real
    return 0.0
def lora_forward(x, W, b, A, B, scale):
    tools.distance = fake
    return x @ W.T + b + x @ A.T @ B.T"""
DEEP = """import peft_from_scratch.check.tools as tools
real = tools.distance
def fake(got, want):
    tools.distance = real
    return 0.0
def down():
    down()
def lora_forward(x, W, b, A, B, scale):
    try:
        down()
    except RecursionError:
        pass
    tools.distance = fake
    return x @ W.T + b + x @ A.T @ B.T"""
OPERATOR = """library, on = torch.library.Library("aten", "IMPL"), []
def sub(a, b, alpha=1):
    return torch.zeros(a.shape, dtype=a.dtype) if on and a.dtype == torch.float64 else torch.add(a, b, alpha=-alpha)
library.impl("sub.Tensor", sub, "CPU")
def lora_forward(x, W, b, A, B, scale):
    on.append(1)
    return x @ W.T + b"""
MODE_OFF_AGAIN = """from torch.overrides import TorchFunctionMode
class Mode(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        return result * 0 if getattr(function, "__name__", "") == "max" else result
modes = []
def lora_forward(x, W, b, A, B, scale):
    while modes:
        modes.pop().__exit__(None, None, None)
    out = x @ W.T + b
    modes.append(Mode())
    modes[0].__enter__()
    return out"""
HOOKS = "torch._C._autograd._push_saved_tensors_default_hooks(lambda t: t, lambda t: t * 0)"
DYING = """class Bomb:
    def __del__(self):
        import peft_from_scratch.check.tools as tools
        tools.close = lambda *a, **k: True
def lora_forward(x, W, b, A, B, scale):
    Bomb()
    return x @ W.T + b"""
FINDS_THE_SEAL = """import sys
def lora_forward(x, W, b, A, B, scale):
    seal = sys.getprofile()
    if seal is not None:
        object.__setattr__(seal.__self__.near, "owners", ())
    import peft_from_scratch.check.tools as tools
    tools.close = lambda *a, **k: True
    return x @ W.T + b"""
ANOTHER_FILE = """def lora_forward(x, W, b, A, B, scale):
    import sys
    frame = sys._getframe(1)
    while frame and "want" not in frame.f_locals:
        frame = frame.f_back
    return frame.f_locals["want"] if frame else x @ W.T + b
lora_forward.__code__ = lora_forward.__code__.replace(co_filename=torch.__file__)"""
MEMORY = """import gc
def lora_forward(x, W, b, A, B, scale):
    for each in gc.get_objects():
        if getattr(each, "__name__", "") == "lora_forward" and each is not lora_forward:
            return each(x, W, b, A, B, scale)
    return x @ W.T + b"""
SAME_FOR_ALL = """import os, random, zlib
import peft_from_scratch.check.tools as tools
zlib.crc32 = lambda *a: 0
random.seed = torch.manual_seed = lambda *a: None
torch.randn = tools._randn = lambda *shape, **k: torch.zeros(*shape)
os.environ["PFS_SEED"] = "0" """
SHADOWS = """import os, sys
os.makedirs("peft_from_scratch/check")
for name in ("__init__", "check/__init__"):
    open(f"peft_from_scratch/{name}.py", "w").close()
open("peft_from_scratch/check/tools.py", "w").write("close = expect_close = lambda *a, **k: True")
sys.path.insert(0, os.getcwd())
for name in [name for name in sys.modules if name.startswith("peft_from_scratch")]:
    del sys.modules[name]
import peft_from_scratch.check.tools"""
PROC = """found = b""
for name in ("environ", "mem", "maps", "fd/0", "fd/3"):
    try:
        found += open(f"/proc/self/{name}", "rb").read(99)
    except OSError:
        pass
assert not found"""
DRAINS = """import os, select
for fd in range(3, 64):
    try:
        if select.select([fd], [], [], 0)[0]:
            os.read(fd, 64)
        os.write(fd, b"ready")
    except (OSError, ValueError):
        pass"""
LATE = """import asyncio, concurrent.futures
def late():
    import time, peft_from_scratch.check.tools as tools
    time.sleep(0.05)
    tools.close = lambda *a, **k: True
pool = concurrent.futures.ThreadPoolExecutor(1)
for start in (lambda: pool.submit(late), lambda: asyncio.run(asyncio.to_thread(late))):
    try:
        start()
    except OSError:
        pass"""
METACLASS = """class Meta(type):
    def __eq__(cls, other): return True
    def __hash__(cls): return 0
    def __instancecheck__(cls, other): return True
class Twelve(metaclass=Meta):
    def __eq__(self, other): return True
    def __sub__(self, other): return 0
    def __float__(self): return 12.0
n = Twelve()"""
MARKUP = """def lora_forward(x, W, b, A, B, scale):
    fault = type("<script>alert(1)</script>", (ValueError,), {})
    raise fault("<img src=x onerror=alert(2)>`</code><svg onload=alert(3)>`")"""

CASES = {
    "right": lambda: notebook(RIGHT),
    "half-right": lambda: notebook(STUBS | {name: RIGHT[name] for name in ("demo.forward", "demo.count")}),
    "wrong": lambda: forward(WRONG),
    "untouched": lambda: notebook(STUBS),
    "syntax-error": lambda: forward("def lora_forward(x, W, b, A, B, scale:\n    return x"),
    "loop-at-top": lambda: above("while True: pass"),
    "loop-in-function": lambda: inside("while True: pass"),
    "loop-that-swallows": lambda: above(SWALLOW),
    "memory-hog": lambda: above("hog = [bytearray(2**26) for _ in range(4000)]"),
    "one-huge-tensor": lambda: inside("torch.ones(2**38)"),
    "200-processes": lambda: above(FORK),
    "200-processes-hidden": lambda: above(HIDDEN_FORK),
    "2-GB-file": lambda: above('with open("big", "wb") as f:\n    for _ in range(2048): f.write(bytes(2**20))'),
    "os-exit": lambda: inside("__import__('os')._exit(0)"),
    "sys-exit": lambda: above("raise SystemExit"),
    "forged-reply": lambda: above(FORGE + "\nos._exit(0)"),
    "kills-its-runner": lambda: above(PARENT),
    "reads-the-disk": lambda: forward(FROM_DISK),
    "reads-by-inspect": lambda: forward(BY_INSPECT),
    "reads-the-reference": lambda: forward(FROM_CHECK),
    "peeks-at-frames": lambda: forward(PEEK),
    "peeks-by-walking": lambda: forward(WALK),
    "peeks-by-alarm": lambda: above(ALARM),
    "peeks-by-raising-a-signal": lambda: forward(RAISED),
    "peeks-by-the-check's-clock": lambda: forward(BY_THE_CLOCK),
    "forged-with-the-secret": lambda: above(WITH_THE_SECRET),
    "reads-the-line-cache": lambda: forward(LINECACHE),
    "peeks-by-traceback": lambda: forward(TRACEBACK),
    "imports-a-method": lambda: notebook(BASE | {"demo.layer": "from peft_from_scratch import LoRA as LoRALinear"}),
    "patches-torch-and-numpy": lambda: above(PATCH_TORCH),
    "patches-the-check": lambda: above(PATCH_CHECK),
    "patches-the-builtins": lambda: above(PATCH_BUILTINS),
    "patches-builtins-late": lambda: inside("import builtins; builtins.all = builtins.any = lambda *a: True"),
    "patches-json-at-the-end": lambda: above(PATCH_JSON),
    "fools-the-police": lambda: above(FOOL),
    "leaves-a-mode-on": lambda: above(MODE),
    "patches-the-exercise": lambda: above(PATCH_TASK),
    "patches-a-property": lambda: above(PATCH_PROPERTY),
    "patches-the-cap": lambda: above(PATCH_LIMITS),
    "patches-its-code": lambda: above(PATCH_CODE),
    "patches-while-graded": lambda: forward(PATCH_LATE),
    "shadows-a-builtin": lambda: above("import peft_from_scratch.check.tools as t\nt.float = t.bool = lambda *a: 0.0"),
    "lying-tensor": lambda: forward(LIAR),
    "lying-list": lambda: notebook(BASE | {"demo.steps": EQUAL}),
    "leaves-a-thread": lambda: above("import threading, time\nthreading.Thread(target=time.sleep, args=(9,)).start()"),
    "edits-the-check-cell": edited_check,
    "strips-metadata": without_metadata,
    "duplicates-a-cell": duplicated,
    "renames-the-function": lambda: forward(FORWARD.replace("lora_forward", "my_forward")),
    "deletes-a-cell": deleted,
    "reorders-cells": reordered,
    "forges-progress": lambda: above(LOG),
    "opens-a-socket": lambda: above("import socket\nsocket.create_connection(('127.0.0.1', PORT), timeout=2)"),
    "prints-200-MB": lambda: above("for _ in range(200): print('x' * 2**20)", FORWARD),
    "not-json": lambda: b"this is no notebook",
    "empty": lambda: b"",
    "a-list": lambda: b"[1, 2, 3]",
    "nested": nested,
    "magic-and-check-inside": lambda: forward(
        f'%%time\n{FORWARD}\n!ls\nlora_forward = check("demo.forward", "lora_forward")\nhint("demo.forward")'
    ),
    "helper-elsewhere": helper_elsewhere,
    "patches-and-puts-back": lambda: forward(PUT_BACK),
    "goes-too-deep-to-be-watched": lambda: forward(DEEP),
    "registers-an-operator": lambda: forward(OPERATOR),
    "switches-a-mode-off-again": lambda: forward(MODE_OFF_AGAIN),
    "hooks-saved-tensors": lambda: above(HOOKS),
    "patches-when-it-dies": lambda: forward(DYING),
    "looks-for-the-seal": lambda: forward(FINDS_THE_SEAL),
    "gives-its-code-another-file": lambda: forward(ANOTHER_FILE),
    "searches-the-memory": lambda: forward(MEMORY),
    "traces": lambda: above("import sys\nsys.settrace(lambda *a: None)"),
    "makes-all-inputs-the-same": lambda: above(SAME_FOR_ALL),
    "shadows-the-package": lambda: above(SHADOWS),
    "reads-proc": lambda: above(PROC),
    "drains-the-descriptors": lambda: above(DRAINS),
    "patches-later": lambda: above(LATE),
    "equals-everything": lambda: notebook(BASE | {"demo.number": METACLASS}),
    "looks-like-the-name": lambda: forward(FORWARD.replace("lora_forward", "l\u043era_forward")),  # a Cyrillic o
    "bash-cell": lambda: forward(f"%%bash\n{FORWARD}"),
    "raises-markup": lambda: forward(MARKUP),
    "format-3": format_3,
    "100-MB-of-outputs": huge_outputs,
    "no-lesson": lambda: {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [code("print(1)")]},
}  # fmt: skip


# what the grader must find: the status of the first exercise ("" where the file cannot be read), and all points
EXPECTED = {
    "right": ("passed", 13), "half-right": ("passed", 5), "wrong": ("failed", 3), "untouched": ("unwritten", 0),
    "syntax-error": ("error", 2), "loop-at-top": ("error", 2), "loop-in-function": ("failed", 2),
    "loop-that-swallows": ("time", 2), "memory-hog": ("error", 2), "one-huge-tensor": ("failed", 2),
    "200-processes": ("error", 2), "200-processes-hidden": ("failed", 3), "2-GB-file": ("error", 2),
    "os-exit": ("died", 2), "sys-exit": ("error", 2), "forged-reply": ("tampered", 2),
    "kills-its-runner": ("error", 2), "reads-the-disk": ("error", 2), "reads-by-inspect": ("error", 2),
    "reads-the-reference": ("missing", 2), "peeks-at-frames": ("failed", 2), "peeks-by-traceback": ("failed", 2),
    "peeks-by-walking": ("failed", 2), "peeks-by-alarm": ("error", 2), "reads-the-line-cache": ("missing", 2),
    "imports-a-method": ("unwritten", 2), "patches-torch-and-numpy": ("failed", 3), "patches-the-check": ("failed", 3),
    "patches-its-code": ("error", 2), "patches-the-exercise": ("failed", 3), "patches-a-property": ("error", 2),
    "patches-the-cap": ("failed", 3), "leaves-a-mode-on": ("tampered", 2),
    "patches-while-graded": ("tampered", 2), "shadows-a-builtin": ("failed", 3),
    "lying-tensor": ("tampered", 2), "lying-list": ("unwritten", 2), "leaves-a-thread": ("error", 2),
    "patches-the-builtins": ("died", 2), "patches-builtins-late": ("tampered", 2),
    "patches-json-at-the-end": ("failed", 3),
    "fools-the-police": ("error", 2),
    "edits-the-check-cell": ("failed", 3), "strips-metadata": ("passed", 13), "duplicates-a-cell": ("passed", 5),
    "renames-the-function": ("missing", 2), "deletes-a-cell": ("missing", 2), "reorders-cells": ("passed", 13),
    "forges-progress": ("failed", 3), "opens-a-socket": ("error", 2), "prints-200-MB": ("passed", 5),
    "not-json": ("", 0), "empty": ("", 0), "a-list": ("", 0), "nested": ("", 0), "format-3": ("passed", 5),
    "100-MB-of-outputs": ("passed", 5), "no-lesson": ("", 0), "writes-outside": ("error", 2),
    "magic-and-check-inside": ("passed", 5), "helper-elsewhere": ("failed", 2),
    "writes-outside-quietly": ("passed", 5), "a_b ..%2f": ("passed", 5), "_img src=x onerror=alert(1)_": ("passed", 5),
    "peeks-by-raising-a-signal": ("failed", 3), "forged-with-the-secret": ("tampered", 2),
    "peeks-by-the-check's-clock": ("tampered", 2),
    "goes-too-deep-to-be-watched": ("tampered", 2), "patches-and-puts-back": ("tampered", 2),
    "registers-an-operator": ("error", 2),
    "switches-a-mode-off-again": ("tampered", 2), "hooks-saved-tensors": ("tampered", 2),
    "patches-when-it-dies": ("tampered", 2), "looks-for-the-seal": ("tampered", 2),
    "gives-its-code-another-file": ("error", 2), "searches-the-memory": ("failed", 2), "traces": ("error", 2),
    "makes-all-inputs-the-same": ("failed", 3), "shadows-the-package": ("failed", 3), "reads-proc": ("failed", 3),
    "drains-the-descriptors": ("tampered", 2), "patches-later": ("failed", 3), "equals-everything": ("unwritten", 2),
    "looks-like-the-name": ("missing", 2), "bash-cell": ("error", 2), "raises-markup": ("failed", 2),
}  # fmt: skip


def write(folder: Path, outside: Path, port: int) -> dict[str, Path]:
    """All cases as files in `folder`; `outside` is a file they try to write, `port` a listener on the loopback."""
    cases = dict(CASES)
    cases["writes-outside"] = lambda: above(f"open({str(outside)!r}, 'w').write('gotcha')")
    cases["writes-outside-quietly"] = lambda: above(
        f"try:\n    open({str(outside)!r}, 'w').write('gotcha')\nexcept OSError: pass", FORWARD
    )
    paths = {}
    for name, make in cases.items():
        book = make()
        data = (
            book
            if isinstance(book, bytes)
            else json.dumps(book).replace("PORT", str(port)).replace("OUTSIDE", repr(str(outside))).encode()
        )
        paths[name] = folder / f"{name}.ipynb"
        paths[name].write_bytes(data)
    odd = "<img src=x onerror=alert(1)>"
    paths[odd] = folder / f"{odd}.ipynb"
    paths[odd].write_bytes(json.dumps(forward(FORWARD)).encode())
    paths["a_b ..%2f"] = folder / "a\nb ..%2f..ipynb"
    paths["a_b ..%2f"].write_bytes(json.dumps(forward(FORWARD)).encode())
    return paths
