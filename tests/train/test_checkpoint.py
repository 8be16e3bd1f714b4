import pickle

import pytest
import torch
from torch import nn

from magface.errors import DataError
from magface.train import checkpoint

RECIPE = {"seed": 0, "loss": {"l_a": 5.0, "lambda_g": None}, "fixed": ()}


def parts(width=3):
    model, head = nn.Linear(width, 2), nn.Linear(2, 1)
    return {"model": model, "head": head, "optimizer": torch.optim.AdamW([*model.parameters(), *head.parameters()])}


def stepped(run):
    run["head"](run["model"](torch.randn(4, 3))).sum().backward()
    run["optimizer"].step()
    return run


def save(path, run, **changes):
    checkpoint.save(path, **run, **{"backbone": "toy", "step": 7, "recipe": RECIPE, "data": "abc", **changes})


def test_everything_comes_back(tmp_path):
    path, run = tmp_path / "c.pt", stepped(parts())
    save(path, run)
    expected = torch.rand(3)
    other = parts()
    assert checkpoint.restore(path, **other, recipe=RECIPE, data="abc") == 7
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(other["model"].weight, run["model"].weight)
    moments = [next(iter(r["optimizer"].state.values()))["exp_avg"] for r in (run, other)]
    assert torch.equal(*moments)
    loaded = checkpoint.load(path)
    assert (loaded["format"], loaded["backbone"]) == ("magface-checkpoint-1", "toy")
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]


def test_of_another_run_is_refused(tmp_path):
    path, run = tmp_path / "c.pt", parts()
    save(path, run)
    with pytest.raises(DataError, match=r"loss\.l_a, seed changed"):
        checkpoint.restore(
            path, **run, recipe={**RECIPE, "seed": 1, "loss": {"l_a": 6.0, "lambda_g": None}}, data="abc"
        )
    with pytest.raises(DataError, match="other images"):
        checkpoint.restore(path, **run, recipe=RECIPE, data="xyz")
    with pytest.raises(DataError, match="another network"):
        checkpoint.restore(path, **parts(width=5), recipe=RECIPE, data="abc")


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize("content", ["missing", b"", b"not a checkpoint", pickle.dumps({"a": 1}, 2), "evil", "other"])
def test_what_is_no_checkpoint_is_refused_and_not_executed(tmp_path, content, capsys):
    path = tmp_path / "c.pt"
    if content == "evil":
        torch.save({"format": checkpoint.FORMAT, "model": Evil()}, path)
    elif content == "other":
        torch.save({"state_dict": {}}, path)
    elif content != "missing":
        path.write_bytes(content)
    with pytest.raises(DataError, match="checkpoint"):
        checkpoint.load(path)
    assert "executed" not in capsys.readouterr().out


def test_truncated_file_is_refused(tmp_path):
    path = tmp_path / "c.pt"
    save(path, parts())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="damaged"):
        checkpoint.load(path)
