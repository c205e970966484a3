"""Run in the peers' own environment: judge captions with Data-Juicer and datatrove, and time it in CPU-seconds.

    python peer_filters.py captions.parquet settings.json results.json

Only their operators run, without their engines, so that nothing of what they do around them is counted.
"""

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pyarrow.parquet as pq

Rule = Callable[[list[str]], list[bool]]


def data_juicer(settings: dict[str, Any]) -> dict[str, Rule]:
    from data_juicer.ops.filter.alphanumeric_filter import AlphanumericFilter
    from data_juicer.ops.filter.special_characters_filter import SpecialCharactersFilter
    from data_juicer.ops.filter.text_length_filter import TextLengthFilter
    from data_juicer.ops.filter.words_num_filter import WordsNumFilter

    operators = {
        "text_length": TextLengthFilter(**settings["text_length"]),
        "alphanumeric": AlphanumericFilter(tokenization=False, **settings["alphanumeric"]),
        "special_characters": SpecialCharactersFilter(**settings["special_characters"]),
        "words_num": WordsNumFilter(tokenization=False, **settings["words_num"]),
    }

    def rule(operator: Any) -> Rule:
        def run(captions: list[str]) -> list[bool]:
            kept: list[bool] = []
            for first in range(0, len(captions), 1000):
                text = captions[first : first + 1000]
                samples = {"text": text, "__dj__stats__": [{} for _ in text]}
                kept += list(operator.process_batched(operator.compute_stats_batched(samples)))
            return kept

        return run

    return {name: rule(operator) for name, operator in operators.items()}


def datatrove(settings: dict[str, Any]) -> dict[str, Rule]:
    from datatrove.data import Document
    from datatrove.pipeline.filters import C4QualityFilter, RegexFilter

    filters = {
        "regex": RegexFilter(settings["regex"]),
        "c4": C4QualityFilter(
            remove_citations=False, filter_no_terminal_punct=False, min_num_sentences=-1, min_words_per_line=-1,
            max_word_length=-1, filter_javascript=False, filter_policy=False,
        ),
    }  # fmt: skip

    def rule(each: Any) -> Rule:
        def run(captions: list[str]) -> list[bool]:
            found = []
            for number, text in enumerate(captions):
                answer = each.filter(Document(text=text, id=str(number)))
                found.append(answer if isinstance(answer, bool) else answer[0])
            return found

        return run

    return {name: rule(each) for name, each in filters.items()}


def main(captions_path: str, settings_path: str, results_path: str) -> None:
    captions = pq.read_table(captions_path)["caption"].to_pylist()
    with open(settings_path) as file:
        settings = json.load(file)
    results: dict[str, Any] = {}
    for peer, package, rules in (
        ("data_juicer", "py-data-juicer", data_juicer(settings)),
        ("datatrove", "datatrove", datatrove(settings)),
    ):
        results[peer] = {"version": version(package), "rules": {}}
        for name, rule in rules.items():
            rule(captions[:1000])  # imports and caches are not what is timed
            started = time.process_time()
            kept = rule(captions)
            seconds = time.process_time() - started
            results[peer]["rules"][name] = {"cpu_seconds": seconds, "kept": "".join("01"[each] for each in kept)}
    from data_juicer.ops.common.special_characters import SPECIAL_CHARACTERS

    results["special_characters"] = sorted(each for each in SPECIAL_CHARACTERS if len(each) == 1)
    with open(results_path, "w") as file:
        json.dump(results, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
