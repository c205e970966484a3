"""The linear probe: the paper's settings, planted knowledge, heads that are reused, and data that does not fit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from worlds import FakeSubject, ListedExamples, TaughtExamples, coloured, plain, taught, tiny_judge

from models.probes import LinearProbe
from stages.evaluation_metrics import Measure
from stages.evaluations.base import Outcome
from stages.evaluations.linear_probe import Settings, plan_of, run
from stages.evaluations.neighbours import neighbour_scores
from stages.evaluations.probe_crops import Order
from stages.evaluations.probe_training import Batch, scores, train_probes
from stages.manifest import ManifestError

QUICK = Settings(epochs=8, batch_size=8, learning_rate_per_512=3.0, augment=False)


def subject() -> FakeSubject:
    return FakeSubject(tiny_judge())


def colours(measured: int = 4, learned: int = 6) -> TaughtExamples:
    return taught(coloured(measured), coloured(learned))


def by_name(outcome: Outcome) -> dict[str, Measure]:
    return {each.name: each for each in outcome.measures}


# The paper's settings


def test_settings_left_out_are_the_papers() -> None:
    settings = Settings()
    plan = plan_of(settings, Order("0", 1_281_167, settings.batch_size))
    assert settings.augment
    assert plan.steps == 10 * 1251 and plan.warmup_steps == 1251
    assert plan.learning_rate == pytest.approx(0.2) and plan.weight_decay == 0
    assert plan.factor(1250) == 1 and plan.factor(plan.steps - 1) < 1e-7
    assert plan.factor(1251 + (12510 - 1251) // 2) == pytest.approx(0.5, abs=1e-3)


def test_a_warm_up_ends_before_training_does() -> None:
    with pytest.raises(ValidationError, match="warmup_epochs 3 must be fewer than epochs 3"):
        Settings(epochs=3, warmup_epochs=3)


# What comes out


def test_training_equals_plain_torch() -> None:
    plan = plan_of(Settings(epochs=3, batch_size=8), Order("0", 32, 8))
    generator = torch.Generator().manual_seed(0)
    batches = [
        Batch({"encoder": torch.randn(8, 5, generator=generator) * 3 + 1}, torch.arange(8) % 3)
        for _ in range(plan.steps)
    ]
    head = train_probes({"encoder": 5}, 3, batches, plan)["encoder"]
    torch.manual_seed(plan.seed)
    model = nn.Sequential(nn.BatchNorm1d(5, eps=1e-6), nn.Linear(5, 3))
    torch.manual_seed(plan.seed)
    model[1].load_state_dict(LinearProbe(5, 3).head.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1 * 8 / 512, momentum=0.9, nesterov=True)
    rises = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / 4, 1, 3)
    falls = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 8)
    rates = torch.optim.lr_scheduler.SequentialLR(optimizer, [rises, falls], [4])
    for features, labels in batches:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(features["encoder"]), labels).backward()
        optimizer.step()
        rates.step()
    asked = torch.randn(20, 5, generator=generator)
    expected = model.eval()(asked).detach().numpy()
    np.testing.assert_allclose(scores(head, asked.numpy().astype(np.float64), range(3)), expected, atol=1e-6)


@pytest.mark.parametrize("augment", [True, False])
def test_colours_are_read_off_and_stand_beside_what_learned_nothing(augment: bool) -> None:
    examples, asked = colours(), subject()
    outcome = run(asked, examples, QUICK.model_copy(update={"augment": augment}), "colours")
    found = by_name(outcome)
    assert next(iter(found)) == "top1" and "top5" not in found  # of four classes five best say nothing
    assert found["top1"].value == found["raw_pixels_top1"].value == found["mean_class_recall"].value == 1
    assert found["top1"].chance == 0.25 and found["top1"].blind is not None and found["top1"].blind < 0.8
    assert {"knn_top1", "random_encoder_top1", "raw_pixels_knn_top1", "random_encoder_knn_top1"} <= set(found)
    assert outcome.confusion is not None and outcome.confusion.tolist() == (4 * np.eye(4, dtype=int)).tolist()
    assert outcome.keys == [f"{number:04d}" for number in range(16)] and not outcome.examples
    assert all(np.mean(values) == found[name].value for name, values in outcome.scores.items())
    assert asked.said[0][0] == 0 and all(done <= total for done, total, _ in asked.said)


def test_labels_without_meaning_are_not_learned() -> None:
    examples = colours(16, 16)
    for seed, each in enumerate((examples, examples.learned_from)):
        each.labels = np.random.default_rng(seed).permutation(each.labels).tolist()
    row = by_name(run(subject(), examples, QUICK, "noise"))["top1"]
    assert row.low < 0.25 < row.high


def test_the_same_seed_gives_the_same_outcome_and_another_one_other_numbers() -> None:
    def weights(seed: int) -> np.ndarray:
        asked = subject()
        run(asked, colours(), QUICK.model_copy(update={"seed": seed, "augment": True}), "colours")
        return next(head for (what, _), head in asked.kept.items() if what.startswith("encoder linear probe"))

    assert np.array_equal(weights(0), weights(0)) and not np.allclose(weights(0), weights(1))


def test_a_head_is_trained_once_and_measured_on_every_set_with_its_classes() -> None:
    asked, learned = subject(), coloured(6)
    first = run(asked, taught(coloured(4), learned), QUICK, "one")
    made = asked.made
    few = taught(coloured(3, ("blue", "red")), learned)
    second = run(asked, few, QUICK, "other")
    assert asked.made == made + 3  # features of the other pictures, from three encoders; no head
    assert first.facts == second.facts and by_name(second)["top1"].value == 1
    assert second.classes == ["blue", "red"] and np.diag(second.confusion).tolist() == [3, 3]
    assert by_name(second)["top1"].chance == 0.5


def test_answers_are_among_the_classes_that_are_asked_for() -> None:
    """A white picture that is called red is wrong, but no answer is a class that the set does not have."""
    learned = coloured(6)
    measured = ListedExamples([[plain("white", noise=1)]] * 2, classes=("red", "green"), labels=[0, 1])
    outcome = run(subject(), taught(measured, learned), QUICK, "part")
    assert outcome.confusion.sum() == 2 and outcome.confusion.sum(axis=0).max() == 2
    assert len(outcome.examples) == 1 and outcome.examples[0].right is False
    assert {text for _, text in outcome.examples[0].lines} <= {"red", "green", "0000", "0001"}


@dataclass
class Several(TaughtExamples):
    every: Sequence[Sequence[int]] = ()

    def right_labels(self, number: int) -> Sequence[int]:
        return self.every[number]


def test_several_labels_count_and_examples_without_one_do_not() -> None:
    base = colours(1)
    examples = Several(**vars(base), every=[(0,), (2, 1), (), (0, 1, 2)])
    outcome = run(subject(), examples, QUICK, "real")
    assert outcome.scores["top1"] == [1, 1, 0] and outcome.keys == ["0000", "0001", "0003"]
    assert "mean_class_recall" not in by_name(outcome)


@dataclass
class WithIds(TaughtExamples):
    class_ids: Sequence[str] = ()


def test_classes_are_found_again_by_their_ids_whatever_they_are_called() -> None:
    learned = WithIds(**vars(colours(0, 0)) | vars(coloured(6)), class_ids=("n1", "n2", "n3", "n4"))
    measured = coloured(2, ("blue", "red"))
    measured.classes = ("bleu", "rouge")
    examples = WithIds(**vars(taught(measured, learned)), class_ids=("n3", "n1"))
    assert by_name(run(subject(), examples, QUICK, "ids"))["top1"].value == 1


def test_a_batch_larger_than_the_data_is_all_of_them_and_it_is_said() -> None:
    outcome = run(subject(), colours(), QUICK.model_copy(update={"batch_size": 1024}), "colours")
    assert outcome.facts["steps"] == 8 and outcome.facts["learning_rate"] == pytest.approx(3 * 24 / 512)
    assert any("fewer pictures than one batch" in note for note in outcome.notes)


def test_without_baselines_and_neighbours_there_is_one_encoder() -> None:
    asked = subject()
    outcome = run(asked, colours(), QUICK.model_copy(update={"baselines": False, "neighbours": 0}), "colours")
    assert list(by_name(outcome)) == ["top1", "mean_class_recall"] and asked.made == 3


def test_neighbours_vote_with_their_nearness() -> None:
    known = np.array([[1.0, 0], [0, 1], [1, 1], [-1, 0]])
    asked = np.array([[2.0, 0], [0, -3]])
    found = neighbour_scores(known, [0, 1, 1, 0], asked, 3, 3, torch.device("cpu"))
    near = np.exp((np.array([1, 0, np.sqrt(0.5)]) - 1) / 0.07)
    np.testing.assert_allclose(found[0], [near[0], near[1] + near[2], 0], rtol=1e-5)
    every = neighbour_scores(known, [0, 1, 1, 0], asked, 3, 20, torch.device("cpu"))
    np.testing.assert_allclose(every[0, 0], near[0] + np.exp(-2 / 0.07), rtol=1e-5)


# What does not fit


def without_training(examples: TaughtExamples) -> ListedExamples:
    return coloured(2)


def one_example(examples: TaughtExamples) -> TaughtExamples:
    return replace(examples, learned_from=ListedExamples([[plain("red")]], classes=("red", "blue"), labels=[0]))


def one_class(examples: TaughtExamples) -> TaughtExamples:
    alone = ListedExamples([[plain("red")]] * 2, classes=("red",), labels=[0, 0])
    return replace(examples, classes=("red",), learned_from=alone)


def strange_class(examples: TaughtExamples) -> TaughtExamples:
    return replace(examples, classes=("red", "green", "blue", "mauve"))


def double_names(examples: TaughtExamples) -> TaughtExamples:
    return replace(examples, learned_from=replace(examples.learned_from, classes=("crane", "red", "blue", "crane")))


def strange_label(examples: TaughtExamples) -> TaughtExamples:
    learned = examples.learned_from
    return replace(examples, learned_from=replace(learned, labels=[*learned.labels[:-1], 4]))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (without_training, "no training split"),
        (one_example, "has 1 examples; a head needs two"),
        (one_class, "a head learns for colours has the one class 'red', and a class is told from others"),
        (strange_class, r"has the class 'mauve' \(1 such\) that its training data has not"),
        (double_names, "have 3 names"),
        (strange_label, "has label 4, and there are 4 classes"),
    ],
)
def test_data_that_does_not_fit_is_refused(spoil: Callable[[TaughtExamples], ListedExamples], says: str) -> None:
    with pytest.raises(ManifestError, match=says):
        run(subject(), spoil(colours()), QUICK, "colours")


def test_a_head_that_diverges_is_refused() -> None:
    plan = plan_of(QUICK.model_copy(update={"learning_rate_per_512": 1e30}), Order("0", 8, 8))
    batch = Batch({"encoder": torch.randn(8, 3)}, torch.arange(8) % 2)
    with pytest.raises(
        ManifestError, match=r"on the encoder diverged at learning rate .* lower learning_rate_per_512"
    ):
        train_probes({"encoder": 3}, 2, [batch] * plan.steps, plan)


def test_an_encoder_that_gives_no_numbers_is_refused() -> None:
    asked = subject()
    with torch.no_grad():
        asked.vision.embeddings.class_embedding.fill_(float("nan"))
    with pytest.raises(ManifestError, match="not finite"):
        run(asked, colours(), QUICK, "colours")
