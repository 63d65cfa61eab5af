"""The page on mixtures runs as it stands."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "methods" / "mixtures.md"


def test_the_example_runs(capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf8"), re.M | re.S)
    names: dict = {}
    exec(code, names)
    assert names["chosen"].n_experts == 2
    truth = names["model"].log_likelihood(names["x"], names["y"])
    reduced, better = (
        names[name].log_likelihood(names["x"], names["y"]) for name in ("reduced", "better")
    )
    assert truth - reduced < 10
    assert truth - better < truth - reduced
    assert "std. error" in capsys.readouterr().out
