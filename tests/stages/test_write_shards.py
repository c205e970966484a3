"""Which rows share a shard: a fair mixture, of a bounded number of parts."""

from stages.write_shards import Parameters, Row, blocks


def rows() -> list[Row]:
    return [
        (f"{source}{part}{number}", source, f"{part}")
        for source in ("a", "b")
        for part in range(3)
        for number in range(20)
    ]


def parts_of(shard: list[Row]) -> set[tuple[str, str]]:
    return {(source, part) for _, source, part in shard}


def test_every_row_lands_once_whatever_the_block() -> None:
    for size in (1, 4, 32):
        made = list(blocks(rows(), Parameters(policy="clean", rows_per_shard=7, parts_per_block=size)))
        assert sorted(row for shard in made for row in shard) == sorted(rows())
        assert all(1 <= len(shard) <= 7 and len(parts_of(shard)) <= size for shard in made)


def test_one_block_mixes_all_sources_and_the_order_of_rows_does_not_matter() -> None:
    parameters = Parameters(policy="clean", rows_per_shard=40)
    made = list(blocks(rows(), parameters))
    assert all({source for source, _ in parts_of(shard)} == {"a", "b"} for shard in made)
    assert list(blocks(rows()[::-1], parameters)) == made
    assert list(blocks(rows(), parameters.model_copy(update={"seed": 1}))) != made
