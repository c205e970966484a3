"""The linear probe as a module: what it reads, how it starts, and that folding it changes nothing."""

import torch

from models.probes import LinearProbe, class_and_mean


def test_features_are_the_class_token_beside_the_mean_of_the_patches() -> None:
    hidden = torch.tensor([[[1.0, 2.0], [10.0, 20.0], [30.0, 60.0]]])
    assert class_and_mean(hidden).tolist() == [[1.0, 2.0, 20.0, 40.0]]
    assert class_and_mean(torch.zeros(2, 257, 3200)).shape == (2, 6400)


def test_a_probe_starts_as_the_paper_has_it() -> None:
    torch.manual_seed(0)
    probe = LinearProbe(600, 500)
    assert probe.norm.eps == 1e-6
    assert abs(probe.head.weight.std().item() - 0.01) < 1e-4
    assert not probe.head.bias.any()


def test_the_affine_map_says_what_the_trained_probe_says() -> None:
    torch.manual_seed(0)
    probe = LinearProbe(7, 3)
    features = torch.randn(64, 7) * 5 + 3
    optimizer = torch.optim.SGD(probe.parameters(), 0.5)
    for _ in range(20):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(probe(features), torch.arange(64) % 3).backward()
        optimizer.step()
    probe.eval()
    head = probe.affine()
    folded = features.double() @ head[:, :-1].T + head[:, -1]
    torch.testing.assert_close(folded, probe(features).double(), atol=1e-5, rtol=1e-5)
    assert head.shape == (3, 8) and head.dtype == torch.float64
