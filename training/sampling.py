"""Documents with questions to learn reading strategies on, drawn from the task records.

    python -m training.sampling --tasks TASKS --out chosen.jsonl.xz

Documents that training kept back come first: what the model says of a text that it was trained on
is surer than what it will say of a user's. Each line of the result is a document once, with the
records asked of it (without their "doc"), and whether it was kept back.
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from training.shards import Record, read_shard, shards, write_shard
from training.tasks import is_kept_back

# Documents of a set, and records of a document, at most.
CAPS: dict[str, tuple[int, int]] = {
    "fairytaleqa": (50, 4), "cuad": (50, 5), "covid_qa": (40, 3), "proposal_sections": (120, 1),
    "medquad": (100, 2), "docfaq": (60, 1), "fairytaleqa_noanswer": (60, 2),
    "squadshifts_new_wiki_noanswer": (140, 1), "squadshifts_new_wiki": (120, 1),
    "policyqa": (40, 2), "pubmedqa": (60, 1), "tatqa": (30, 2), "wikitablequestions": (40, 1),
    "fetaqa": (40, 1), "qed_nq": (120, 1), "adversarialqa_p3": (40, 1), "quoref_p3": (20, 1),
    "qmsum": (50, 4), "squality": (40, 5), "scitldr": (250, 1), "proposal": (160, 1),
    "docpage": (250, 1), "mts_dialog": (250, 1), "aci_bench": (67, 1),
}  # fmt: skip


def set_of(record: Record) -> str:
    """The set a record belongs to: one name for the many repositories of proposals and pages."""
    first, _, rest = record["source"].partition("_")
    if first == "proposal":
        return "proposal_sections" if rest.endswith("_sections") else "proposal"
    return first if first in ("docpage", "docfaq") else record["source"]


def grouped(records: Iterable[Record]) -> list[dict[str, Any]]:
    """The documents of records, each once in order of appearance: {"text", "records"}."""
    found: dict[str, dict[str, Any]] = {}
    for record in records:
        entry = found.setdefault(record["doc"], {"text": record["doc"], "records": []})
        entry["records"].append({key: value for key, value in record.items() if key != "doc"})
    return list(found.values())


def draw(tasks: Path, longest: int) -> list[dict[str, Any]]:
    """Documents of at most `longest` characters with records, for each set up to its caps."""
    sets: dict[str, list[Record]] = defaultdict(list)
    for path in shards(tasks):
        for record in read_shard(path):
            name = set_of(record)
            if name in CAPS and len(record["doc"]) <= longest:
                sets[name].append(record)
    drawn = []
    for name, records in sorted(sets.items()):
        most, each = CAPS[name]
        documents = grouped(records)
        random.Random(name).shuffle(documents)
        documents.sort(key=lambda document: not is_kept_back(document))
        for document in documents[:most]:
            back = is_kept_back(document)
            chosen = document["records"]
            if len(chosen) > (2 * each if back else each):
                chosen = random.Random(document["text"]).sample(chosen, 2 * each if back else each)
            drawn.append({**document, "set": name, "kept_back": back, "records": chosen})
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help=".jsonl or .jsonl.xz")
    parser.add_argument("--longest", type=int, default=120_000, help="characters of a document")
    args = parser.parse_args()
    print(write_shard(args.out, draw(args.tasks, args.longest)), "documents")


if __name__ == "__main__":
    main()
