"""Run in the peers' own environment: judge captions with Data-Juicer and datatrove, and time it in CPU-seconds.

    python peer_filters.py captions.parquet settings.json results.json

Only their operators run, without their engines, so that nothing of what they do around them is counted;
`--pipeline FOLDER settings.json results.json` runs datatrove's own executor instead.
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
    from data_juicer.ops.filter.alphanumeric_filter import AlphanumericFilter  # type: ignore[import-not-found]
    from data_juicer.ops.filter.average_line_length_filter import AverageLineLengthFilter  # type: ignore[import-not-found]
    from data_juicer.ops.filter.maximum_line_length_filter import MaximumLineLengthFilter  # type: ignore[import-not-found]
    from data_juicer.ops.filter.special_characters_filter import SpecialCharactersFilter  # type: ignore[import-not-found]
    from data_juicer.ops.filter.text_length_filter import TextLengthFilter  # type: ignore[import-not-found]
    from data_juicer.ops.filter.words_num_filter import WordsNumFilter  # type: ignore[import-not-found]

    operators = {
        "text_length": TextLengthFilter(**settings["text_length"]),
        "alphanumeric": AlphanumericFilter(tokenization=False, **settings["alphanumeric"]),
        "special_characters": SpecialCharactersFilter(**settings["special_characters"]),
        "words_num": WordsNumFilter(tokenization=False, **settings["words_num"]),
        "average_line_length": AverageLineLengthFilter(**settings["average_line_length"]),
        "maximum_line_length": MaximumLineLengthFilter(**settings["maximum_line_length"]),
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


def datatrove_filters(settings: dict[str, Any]) -> dict[str, Any]:
    from datatrove.pipeline.filters import (  # type: ignore[import-not-found]
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        RegexFilter,
    )

    return {
        "regex": RegexFilter(settings["regex"]),
        "c4": C4QualityFilter(
            remove_citations=False, filter_no_terminal_punct=False, min_num_sentences=-1, min_words_per_line=-1,
            max_word_length=-1, filter_javascript=False, filter_policy=False,
        ),
        "gopher_lines": GopherQualityFilter(
            min_doc_words=None, max_doc_words=None, min_avg_word_length=None, max_avg_word_length=None,
            max_symbol_word_ratio=None, max_non_alpha_words_ratio=None, min_stop_words=None,
        ),
        "fineweb": FineWebQualityFilter(short_line_length=settings["fineweb"]["short_line_length"]),
    }  # fmt: skip


def datatrove(settings: dict[str, Any]) -> dict[str, Rule]:
    from datatrove.data import Document  # type: ignore[import-not-found]

    def rule(each: Any) -> Rule:
        def run(captions: list[str]) -> list[bool]:
            found = []
            for number, text in enumerate(captions):
                answer = each.filter(Document(text=text, id=str(number)))
                found.append(answer if isinstance(answer, bool) else answer[0])
            return found

        return run

    return {name: rule(each) for name, each in datatrove_filters(settings).items()}


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
    from data_juicer.ops.common.special_characters import SPECIAL_CHARACTERS  # type: ignore[import-not-found]
    from datatrove.utils.text import TERMINAL_PUNCTUATION  # type: ignore[import-not-found]

    results["stops"] = sorted(each for each in TERMINAL_PUNCTUATION if len(each) == 1)
    results["special_characters"] = sorted(each for each in SPECIAL_CHARACTERS if len(each) == 1)
    with open(results_path, "w") as file:
        json.dump(results, file)


def pipeline(folder: str, settings_path: str, results_path: str) -> None:
    """Run the datatrove filters as a pipeline over the parquet files of a folder, and count what is left."""
    from datatrove.executor import LocalPipelineExecutor  # type: ignore[import-not-found]
    from datatrove.pipeline.readers import ParquetReader  # type: ignore[import-not-found]

    with open(settings_path) as file:
        settings = json.load(file)
    kept = [0]

    def count(data: Any, rank: int = 0, world_size: int = 1) -> Any:
        for document in data:
            kept[0] += 1
            yield document

    steps = [ParquetReader(folder, text_key="text", id_key="id"), *datatrove_filters(settings).values(), count]
    LocalPipelineExecutor(steps, tasks=1, workers=1, logging_dir=results_path + ".logs").run()
    with open(results_path, "w") as file:
        json.dump({"kept": kept[0]}, file)


if __name__ == "__main__":
    pipeline(*sys.argv[2:]) if sys.argv[1] == "--pipeline" else main(*sys.argv[1:])
