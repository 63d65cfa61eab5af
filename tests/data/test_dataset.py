import json

import pytest
import torch

from moiety.data.dataset import Dataset, FeatureScale, divide_rows, fit_scale


def data(y, **more):
    y = torch.tensor(y)
    return Dataset(
        "d",
        torch.randn(len(y), 3, generator=torch.Generator().manual_seed(0)),
        y,
        tuple("abcdefghij"),
        **more,
    )


def test_a_dataset_refuses_columns_that_do_not_fit():
    with pytest.raises(ValueError, match="groups has shape"):
        data([0, 1], groups=torch.tensor([0]))
    with pytest.raises(ValueError, match=r"y\[1\] = 12, but classes count from 0 to 9"):
        data([0, 12])
    with pytest.raises(ValueError, match="give \\[N, D\\]"):
        Dataset("d", torch.zeros(3))


def test_scale_of_tables_and_images():
    x = torch.tensor([[1.0, 7.0], [3.0, 7.0], [99.0, 0.0]])
    scale = fit_scale(x, torch.tensor([0, 1]))
    assert scale.apply(x)[:2].tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    images = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    done = fit_scale(images).apply(images)
    assert torch.allclose(done.mean((0, 2, 3)), torch.zeros(3), atol=1e-6)
    assert torch.allclose(done.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-6)
    with pytest.raises(ValueError, match="2 features or channels"):
        scale.apply(images)


def test_scale_survives_json_bit_for_bit():
    scale = fit_scale(torch.rand(7, 3, generator=torch.Generator().manual_seed(0)))
    back = FeatureScale.from_json(json.loads(json.dumps(scale.to_json())))
    assert torch.equal(back.mean, scale.mean)
    assert torch.equal(back.std, scale.std)


@pytest.mark.parametrize("size", [10, 137, 1797])
def test_divide_is_exact_stratified_and_total(size):
    torch_rng = torch.Generator().manual_seed(size)
    y = torch.randint(4, (size,), generator=torch_rng).square().tolist()
    fractions = {"public": 0.2, "train": 0.5, "test": 0.3}
    parts = divide_rows(data(y), fractions=fractions, seed=3)
    assert torch.cat([*parts.values()]).sort().values.tolist() == list(range(size))
    for name, share in fractions.items():
        assert abs(len(parts[name]) - share * size) < 1
        for label in set(y):
            here = sum(y[i] == label for i in parts[name].tolist())
            assert abs(here - share * y.count(label)) <= 4
    again = divide_rows(data(y), fractions=fractions, seed=3)
    assert all(torch.equal(again[name], parts[name]) for name in parts)


def test_divide_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="sum to 1"):
        divide_rows(data([0, 1]), fractions={"a": 0.5, "b": 0.6}, seed=0)
    with pytest.raises(ValueError, match="give more rows"):
        divide_rows(data([0, 1]), fractions={"a": 0.9, "b": 0.1}, seed=0)


def test_divide_some_rows_only():
    rows = torch.tensor([1, 3, 5, 7])
    parts = divide_rows(data([0, 1] * 5), fractions={"a": 0.5, "b": 0.5}, seed=0, rows=rows)
    assert torch.cat([*parts.values()]).sort().values.tolist() == [1, 3, 5, 7]
