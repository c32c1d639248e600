"""The faults that a mutation run puts into a page, one at a time; each is one that a person could make.

scale        a * b -> a, b        a / b -> a * b        2.0 -> 4.0
sign         a + b <-> a - b      -a -> a
term         a + b -> a, b        a - b -> a                                  (a dropped residual)
transpose    x.T -> x             x.transpose(..) -> x
order        a @ b -> b @ a       reshape(a, b) -> reshape(b, a)              a, b = W.shape -> b, a = W.shape
detach       x.detach() -> x      return y -> return y.detach()
start        nn.init.normal_(A) -> zeros_(A), and the reverse                 zeros <-> ones, new_weight made random
reduction    sum <-> mean, min <-> max, any <-> all, and the like             dim=0 -> dim=-1
off by one   n -> n + 1           x[0] -> x[1]          x[:n] -> x[:n - 1]    range(n) -> range(n - 1)
freeze       nn.Parameter <-> a tensor that does not train                    buffers saved <-> not saved
cast         x.to(y.dtype) -> x   x.float() -> x        dtype=.. dropped
condition    if c -> if not c     not c -> c            and <-> or            is <-> is not, == <-> !=
bound        < <-> <=             > <-> >=
check        raise ... -> pass
gradients    @torch.no_grad(), with torch.no_grad(): dropped
statement    a call, x += y, or state[..] = y is forgotten
copy         x.clone() -> x       copy.deepcopy(x) -> x
function     triu <-> tril, sin <-> cos, sqrt(x) -> x, x ** 2 -> x, and the like
"""

import ast

from . import arithmetic, flow, tensors
from .page import Mutant, Page

RULES = {
    ast.BinOp: (arithmetic.binary,),
    ast.UnaryOp: (arithmetic.unary,),
    ast.Constant: (arithmetic.number,),
    ast.Attribute: (tensors.attribute,),
    ast.Call: (arithmetic.dims, tensors.called, tensors.keywords, tensors.starts, tensors.freezes),
    ast.Subscript: (arithmetic.subscript,),
    ast.If: (flow.branch,),
    ast.IfExp: (flow.branch,),
    ast.While: (flow.branch,),
    ast.comprehension: (flow.comprehension,),
    ast.Compare: (flow.comparison,),
    ast.BoolOp: (flow.boolean,),
    ast.Raise: (flow.raised,),
    ast.Expr: (flow.expression,),
    ast.Assign: (flow.assignment,),
    ast.AugAssign: (flow.assignment,),
    ast.Return: (tensors.returned,),
    ast.With: (flow.context,),
    ast.FunctionDef: (flow.decorated,),
}


def mutants(text: str, differentiated: bool = True) -> list[Mutant]:
    """Every fault, in the order of the page; where two operators write the same text it counts once."""
    page = Page(text)
    found: dict[str, Mutant] = {}
    for node in page.nodes:
        for rule in RULES.get(type(node), ()):
            for fault in rule(node, page) if differentiated or rule is not tensors.returned else ():
                mutant = page.mutant(*fault)
                if mutant and mutant.text != text:
                    found.setdefault(mutant.text, mutant)
    return sorted(found.values(), key=lambda m: m.line)
