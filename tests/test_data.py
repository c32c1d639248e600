"""load_data: sizes, balance, no overlap, the same rows for ever; encoding and batches."""

import hashlib
import json
import os
from collections import Counter

import pytest
import torch

from peft_from_scratch.assets import AssetError
from peft_from_scratch.data import batches, encode, encode_answers, encode_blocks, load_data, read, split, toy
from peft_from_scratch.models import load

PINNED = {  # name: sizes of train, dev, test; SHA-256 of all rows, so that results stay comparable for ever
    "reviews": ((2000, 1500, 5000), "4e10639f3681be6d"),
    "imdb": ((2000, 1500, 5000), "0f8c7c891307fcbf"),
    "spam": ((2000, 1000, 1507), "fcfb5a551a2aeb42"),
    "gsm8k": ((6973, 500, 1319), "7bea616660f448c7"),
    "svamp": ((600, 100, 300), "a81ab74e1e35b806"),
    "sotu": ((199, 25, 25), "421bed17a52a099c"),
    "toy": ((800, 200, 400), "80c422bd41ea1551"),
    "sums": ((600, 100, 200), "c213904236f23777"),
}
SOURCES = {"imdb": "reviews", "gsm8k": "math", "svamp": "math"}


def key_of(data) -> str:
    return "text" if "text" in data["train"].column_names else "question"


@pytest.mark.parametrize("name", PINNED)
def test_the_split_is_pinned_and_disjoint(asset, name):
    if name not in ("toy", "sums"):
        asset(SOURCES.get(name, name))
    data, (sizes, sha256) = load_data(name), PINNED[name]
    assert tuple(data) == ("train", "dev", "test") and tuple(len(part) for part in data.values()) == sizes
    texts = [split.words_only(row[key_of(data)]) for part in data.values() for row in part]
    assert len(set(texts)) == len(texts)
    rows = json.dumps({part: data[part].to_list() for part in data}, sort_keys=True)
    assert hashlib.sha256(rows.encode()).hexdigest()[:16] == sha256
    for part in data.values():
        assert part.info.license and "Source: " in part.info.description


@pytest.mark.parametrize(("name", "share"), [("reviews", 0.5), ("imdb", 0.5), ("spam", 0.122), ("toy", 0.5)])
def test_each_split_has_the_balance_of_the_whole(asset, name, share):
    if name != "toy":
        asset(SOURCES.get(name, name))
    for part in load_data(name).values():
        assert sum(part["label"]) / len(part) == pytest.approx(share, abs=0.002)
        assert part.features["label"].num_classes == 2


def test_worked_answers_end_in_their_number(asset):
    asset("math")
    for row in load_data("gsm8k")["test"]:
        assert "<<" not in row["answer"] and row["answer"].rsplit("#### ", 1)[1].strip()
    assert all(row["answer"].isdigit() for row in load_data("svamp")["test"])


@pytest.mark.parametrize(
    ("name", "message"), [("review", "did you mean 'reviews'"), ("/no/such/folder", "a folder must exist")]
)
def test_an_unknown_name_suggests_the_near_one(name, message):
    with pytest.raises(ValueError, match=message):
        load_data(name)


def test_a_hub_name_without_network_says_what_works():
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    with pytest.raises(AssetError, match=r"needs the network the first time; .*reviews"):
        load_data("no-such-organisation/no-such-data")


def test_a_local_folder_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    for name in ("train", "validation", "test"):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / f"{name}.csv").write_text("text,label\na good film,1\na bad film,0\n")
    data = load_data(str(tmp_path / "data"))
    assert set(data) == {"train", "dev", "test"} and data["dev"][0] == {"text": "a good film", "label": 1}


def test_duplicates_go_and_contradictions_go_entirely():
    rows = [("A film.", 1), ("a  film", 1), ("no good", 0), ("No good!", 1), ("other", 0)]
    kept = split.deduplicate([{"text": text, "label": label} for text, label in rows])
    assert [row["text"] for row in kept] == ["A film.", "other"]


def test_shares_add_up():
    for size in range(0, 30):
        assert sum(split.shares(size, {0: 7, 1: 11, 2: 12}).values()) == size


def test_a_split_does_not_depend_on_the_order_of_the_file():
    rows = toy.sentences()
    assert split.stratified(rows, {"train": 50}) == split.stratified(rows[::-1], {"train": 50})


def test_line_break_tags_and_odd_spaces_are_tidied():
    assert read.tidy("one<br /><br />two \t three\n") == "one two three"


def test_a_negation_turns_the_mood_round():
    labels = {row["text"]: row["label"] for row in toy.sentences()}
    assert labels["the film is good ."] == 1 and labels["the film is not good ."] == 0
    assert labels["the plot was never dull ."] == 1
    counts = Counter((("not" in t or "never" in t), label) for t, label in labels.items())
    assert counts[True, 0] == counts[True, 1] and counts[False, 0] == counts[False, 1]


def test_encode_cuts_and_keeps_the_labels():
    _, tokenizer = load("tiny-bert")
    rows = [{"text": "the film was good .", "label": 1}, {"text": "good " * 50, "label": 0}]
    out = encode(rows, tokenizer, max_length=10)
    assert [row["labels"] for row in out] == [1, 0] and [len(row["input_ids"]) for row in out] == [7, 10]
    assert encode([{"text": "the film"}], tokenizer)[0].keys() == {"input_ids"}


@pytest.fixture
def encoded():
    lengths = torch.randint(1, 40, (333,), generator=torch.Generator().manual_seed(0)).tolist()
    return [{"input_ids": list(range(1, n + 1)), "labels": n % 2} for n in lengths]


@pytest.mark.parametrize("seed", [None, 0, 5])
def test_every_row_is_in_one_batch_and_can_be_put_back(encoded, seed):
    out = batches(encoded, 16, pad_id=0, shuffle_seed=seed)
    assert [len(batch["index"]) for batch in out].count(16) == 20 and len(out) == 21
    index = torch.cat([batch["index"] for batch in out])
    assert sorted(index.tolist()) == list(range(333))
    lengths = torch.empty(333, dtype=torch.long)
    lengths[index] = torch.cat([batch["attention_mask"].sum(1) for batch in out])
    assert lengths.tolist() == [len(row["input_ids"]) for row in encoded]
    for batch in out:
        assert batch["input_ids"].shape == batch["attention_mask"].shape
        assert torch.equal(batch["input_ids"] > 0, batch["attention_mask"] == 1)
        assert batch["labels"].tolist() == [encoded[i]["labels"] for i in batch["index"]]


def test_batches_are_bucketed_and_follow_their_seed(encoded):
    def order(seed):
        return [batch["index"].tolist() for batch in batches(encoded, 16, 0, shuffle_seed=seed)]

    padded = sum(batch["input_ids"].numel() for batch in batches(encoded, 16, 0, shuffle_seed=1))
    assert padded < 1.15 * sum(len(row["input_ids"]) for row in encoded)
    assert order(1) == order(1) and order(1) != order(2)
    widths = [batch["input_ids"].shape[1] for batch in batches(encoded, 16, 0)]
    assert widths == sorted(widths)


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        batches([], 0, 0)
    assert batches([], 4, 0) == []


def test_answers_learn_the_answer_and_its_end_only():
    _, tokenizer = load("tiny-llama")
    row = encode_answers([{"question": "what is 3 plus 4 ?", "answer": "7"}], tokenizer)[0]
    learned = [i for i, label in zip(row["input_ids"], row["labels"], strict=True) if label != -100]
    assert tokenizer.decode(learned).split() == ["7", "<|im_end|>"]
    assert [label for label in row["labels"] if label != -100] == learned
    assert tokenizer.decode(row["input_ids"]).split()[:3] == ["<|im_start|>", "user", "what"]


def test_a_template_without_continuation_is_refused():
    _, tokenizer = load("tiny-llama")
    tokenizer.chat_template = "{{ messages | length }}{% if add_generation_prompt %}?{% endif %}"
    with pytest.raises(ValueError, match="does not continue a question with its answer"):
        encode_answers([{"question": "a", "answer": "b"}], tokenizer)


def test_answers_are_cut_at_the_end_and_hopeless_ones_left_out():
    _, tokenizer = load("tiny-llama")
    rows = [
        {"question": "what is 3 plus 4 ?", "answer": "7 " * 50},
        {"question": "what " * 99, "answer": "7"},
    ]
    out = encode_answers(rows, tokenizer, max_length=40)
    assert len(out) == 1 and len(out[0]["input_ids"]) == len(out[0]["labels"]) == 40
    with pytest.raises(ValueError, match="leaves room for an answer"):
        encode_answers(rows, tokenizer, max_length=5)


def test_answer_batches_ignore_their_padding():
    model, tokenizer = load("tiny-llama", "generate")
    rows = encode_answers(load_data("sums")["test"].select(range(6)), tokenizer)
    rows[0] = {key: value[:-3] for key, value in rows[0].items()}
    (batch,) = batches(rows, 6, tokenizer.pad_token_id)
    assert (batch["labels"][batch["attention_mask"] == 0] == -100).all()
    batch.pop("index")
    assert model(**batch).loss.isfinite()


def test_smollm2_answers(asset):
    asset("smollm2")
    _, tokenizer = load("smollm2", "generate")
    row = encode_answers([{"question": "1 + 1?", "answer": "It is 2."}], tokenizer)[0]
    learned = [label for label in row["labels"] if label != -100]
    assert tokenizer.decode(learned) == "It is 2.<|im_end|>"


def test_blocks_are_full_and_running_text():
    _, tokenizer = load("tiny-gpt2")
    rows = [{"text": "the film was good ."}, {"text": "the plot is dull ."}]
    out = encode_blocks(rows, tokenizer, 4)
    assert [len(row["input_ids"]) for row in out] == [4, 4] and out[0]["labels"] == out[0]["input_ids"]
    assert len(encode_blocks(rows, tokenizer, 4, count=1)) == 1


def test_tiny_bert_learns_the_toy_task():
    model, tokenizer = load("tiny-bert")
    data, optimizer = load_data("toy"), torch.optim.AdamW(model.parameters(), lr=2e-3)
    for epoch in range(10):
        for batch in batches(encode(data["train"], tokenizer), 32, 0, shuffle_seed=epoch):
            batch.pop("index")
            model(**batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    (batch,) = batches(encode(data["test"], tokenizer), 400, 0)
    batch.pop("index")
    assert (model(**batch).logits.argmax(-1) == batch["labels"]).float().mean() > 0.9
