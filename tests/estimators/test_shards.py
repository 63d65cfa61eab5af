"""Files whose columns are not all numbers."""

import numpy as np
import pandas as pd
import pytest

from moiety.estimators import DistributedMixtureOfExpertsRegressor
from moiety.estimators.opening import open_shard
from tests.estimators.worlds import draw, gaussian_mixture


@pytest.fixture
def frame():
    x, y = draw(gaussian_mixture(11), 300, 0)
    return pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "y": y})


def read(path):
    return list(open_shard(path, 0, "y").blocks())


@pytest.mark.parametrize("kind", ["float64", "Int64"])
def test_nulls_are_refused_by_column(frame, tmp_path, kind):
    path = tmp_path / "rows.parquet"
    spoilt = frame["b"].round().astype(kind)
    spoilt[3] = None
    frame.assign(b=spoilt).to_parquet(path)
    with pytest.raises(ValueError, match=r"covariate 1 \('b'\): nan"):
        DistributedMixtureOfExpertsRegressor(2).fit([path])


def test_missing_responses_are_refused(frame, tmp_path):
    path = tmp_path / "rows.parquet"
    names = pd.Series(np.where(frame["y"] > 0, "up", "down"), dtype=object)
    names[3] = None
    frame.assign(y=names).to_parquet(path)
    with pytest.raises(ValueError, match="missing responses"):
        read(path)
    frame.assign(y=frame["y"].mask(frame.index == 3)).to_parquet(path)
    with pytest.raises(ValueError, match="infinite responses"):
        read(path)


@pytest.mark.parametrize(("values", "kind"), [(True, "bool"), ("red", "string")])
def test_columns_that_are_no_numbers_are_named(frame, tmp_path, values, kind):
    path = tmp_path / "rows.parquet"
    frame.assign(b=values).to_parquet(path)
    with pytest.raises(ValueError, match=f"covariate 'b' has the type .*{kind}"):
        read(path)


def test_a_stored_index_is_no_covariate(frame, tmp_path):
    path = tmp_path / "rows.parquet"
    frame[frame["a"] > 0].to_parquet(path)
    assert open_shard(path, 0, "y").columns == ("a", "b")
    frame.set_index("b").to_parquet(path)
    assert open_shard(path, 0, "y").columns == ("a",)
    assert read(path)[0][0].shape == (300, 1)


def test_a_csv_with_an_index_or_words_is_refused(frame, tmp_path):
    path = tmp_path / "rows.csv"
    frame.to_csv(path)
    with pytest.raises(ValueError, match="without a name \\('Unnamed: 0'\\)"):
        read(path)
    frame.assign(b="red").to_csv(path, index=False)
    with pytest.raises(ValueError, match="covariate 'b' has the type"):
        read(path)
