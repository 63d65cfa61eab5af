"""Targets of tables and arrays: the kind is found or said; what is no target is refused."""

import numpy as np
import pytest
import torch

from moiety.core.errors import UnknownNameError
from moiety.data.files import read_file
from moiety.data.roles import Columns

TABLE = "a,u,v,p,q,k\n1,0.5,2,0,1,x\n2,1.5,3,1,1,y\n3,2.5,5,0,0,x\n"


@pytest.fixture
def read(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(TABLE)
    return lambda target, task="": read_file(path, Columns(target, drop=("k",), task=task))


@pytest.mark.parametrize(
    ("target", "task", "kind", "y"),
    [
        ("u", "", "numbers", [[0.5], [1.5], [2.5]]),
        ("v", "", "classes", [0, 1, 2]),
        ("v", "numbers", "numbers", [[2.0], [3.0], [5.0]]),
        ("u,v", "", "numbers", [[0.5, 2.0], [1.5, 3.0], [2.5, 5.0]]),
        ("p, q", "", "labels", [[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]),
        ("p", "labels", "labels", [[0.0], [1.0], [0.0]]),
        ("p,q", "numbers", "numbers", [[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]),
    ],
)
def test_the_kind_is_said_or_found(read, target, task, kind, y):
    data = read(target, task)
    objective = data.find_objective()
    assert objective.name == kind
    assert data.y is not None
    assert data.y.tolist() == y
    if kind != "classes":
        assert objective.names == tuple(part.strip() for part in target.split(","))
    assert not {part.strip() for part in target.split(",")} & set(data.columns)


@pytest.mark.parametrize(
    ("target", "task", "said"),
    [
        (
            "u",
            "classes",
            "'u' is 0.5 in row 1, which names no class; predict it as a number .--task",
        ),
        ("u,v", "classes", "one target, but .* were named; say --task"),
        ("u", "labels", "label 'u' is 0.5 in row 1"),
        ("u,z", "", "no column target='z'"),
    ],
)
def test_targets_that_a_task_does_not_have_are_refused(read, target, task, said):
    with pytest.raises(ValueError, match=said):
        read(target, task)


def test_words_are_no_numbers(tmp_path):
    path = tmp_path / "words.csv"
    path.write_text("a,y\n1,cat\n2,dog\n")
    with pytest.raises(ValueError, match="target 'y' holds 'cat' in row 1"):
        read_file(path, Columns("y", task="numbers"))
    with pytest.raises(UnknownNameError, match="task 'words'"):
        read_file(path, Columns("y", task="words"))


def test_arrays_have_several_targets(tmp_path):
    path = tmp_path / "arrays.npz"
    x = np.zeros((3, 2), dtype=np.float32)
    np.savez(path, x=x, y=np.array([[0.5, 1], [1, 2], [3, 4]]))
    data = read_file(path)
    assert data.find_objective().names == ("y0", "y1")
    assert data.y is not None
    assert torch.equal(data.y, torch.tensor([[0.5, 1.0], [1.0, 2.0], [3.0, 4.0]]))
    np.savez(path, x=x, y=np.array([0.5, 1.0, 2.0]))
    assert read_file(path).find_objective().names == ("y",)
    np.savez(path, x=x, y=np.zeros((3, 2, 2)))
    with pytest.raises(ValueError, match=r"'y' has shape \[3, 2, 2\]"):
        read_file(path)
