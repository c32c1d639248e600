"""`python -m peft_from_scratch compare claims`: what the literature says, each as an experiment, and its verdict here.

Exact claims are computed on the spot; others read the sweep's lines; some need runs of their own, which `--run` makes,
resumably. A claim without its runs is not decided, and says what would decide it.
"""

import argparse
import json
import os
from pathlib import Path

from ...assets import AssetError, suggestion
from ..provenance import code
from .algebra import ALGEBRA
from .claim import EXPECTED, NOT_DECIDED, Claim, Finding, Missing
from .counted import COUNTED
from .evidence import Evidence
from .forgetting import FORGETTING
from .made import MADE
from .swept import SWEPT
from .trained import TRAINED

EVERY = (*COUNTED, *ALGEBRA, *SWEPT, *MADE, *TRAINED, *FORGETTING)
CLAIMS = {c.name: c for c in sorted(EVERY, key=lambda c: EXPECTED.index(c.expected))}


def run(args: argparse.Namespace) -> int:
    """Test the claims (`--only`: some), print each verdict as it falls, and keep them in claims.json."""
    try:
        chosen = chosen_claims(args.only)
        evidence = Evidence(args.results, args.run_missing)
        for claim in chosen:
            path = keep(evidence, claim, tested(claim, evidence))
    except (ValueError, AssetError, OSError) as error:
        print(f"{error}. What was finished is kept in {args.results}, and the same command goes on from there")
        return 2
    print(f"verdicts: {path}")
    return 0


def chosen_claims(names: str) -> list[Claim]:
    """All, or those with these names. ValueError for an unknown one."""
    asked = [name.strip() for name in names.split(",") if name.strip()]
    for name in asked:
        if name not in CLAIMS:
            raise ValueError(f"there is no claim called {name!r}{suggestion(name, CLAIMS)}")
    return [CLAIMS[name] for name in asked] or list(CLAIMS.values())


def tested(claim: Claim, evidence: Evidence) -> Finding:
    try:
        return claim.test(evidence)
    except Missing as missing:
        return Finding(NOT_DECIDED, str(missing))


def keep(evidence: Evidence, claim: Claim, found: Finding) -> Path:
    """Print a verdict, and set it among those that are there."""
    print(f"{found.verdict:12s} [{claim.expected}] {claim.text}\n             {found.figures}", flush=True)
    path = evidence.folder / evidence.device / "claims.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = json.loads(path.read_text(encoding="utf-8"))["claims"] if path.exists() else []
    lines = {line["name"]: line for line in kept}
    told = dict(name=claim.name, text=claim.text, expected=claim.expected, source=claim.source)
    lines[claim.name] = told | found._asdict()
    in_order = [lines[name] for name in CLAIMS if name in lines]
    beside = path.with_suffix(".part")
    text = json.dumps({"code": code(), "claims": in_order}, indent=1, ensure_ascii=False)
    beside.write_text(text + "\n", encoding="utf-8")
    os.replace(beside, path)
    return path
