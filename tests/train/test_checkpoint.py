import pickle

import pytest
import torch
from torch import nn

from magface.errors import DataError
from magface.train import checkpoint
from magface.train.checkpoint import Origin, State
from magface.train.precision import LossScaler
from magface.train.ranks import Ranks

RECIPE = {"seed": 0, "loss": {"l_a": 5.0, "lambda_g": None}, "fixed": ()}
ORIGIN = Origin("toy", RECIPE, "abc")


class Head(nn.Module):
    """Rows of class centres, as a head that is split holds them."""

    def __init__(self, rows=slice(0, 7)):
        super().__init__()
        self.rows = rows
        self.centres = nn.Parameter(torch.randn(rows.stop - rows.start, 2))


def state(width=3, head=None):
    model, head = nn.Linear(width, 2), head or nn.Linear(2, 1)
    optimizers = torch.optim.AdamW(model.parameters()), torch.optim.AdamW(head.parameters())
    return State(model, head, optimizers, LossScaler("fp16"))


def stepped(run):
    parameters = [*run.model.parameters(), *run.head.parameters()]
    sum((p * torch.randn_like(p)).sum() for p in parameters).backward()
    for optimizer in run.optimizers:
        optimizer.step()
    run.scaler.update(overflowed=True)
    return run


def moments(module, optimizer):
    return [optimizer.state[p]["exp_avg"] for p in module.parameters()]


def test_everything_comes_back(tmp_path):
    path, run = tmp_path / "c.pt", stepped(state())
    checkpoint.save(path, run, 7, ORIGIN, Ranks())
    expected = torch.rand(3)
    other = state()
    assert checkpoint.restore(path, other, ORIGIN, Ranks()) == 7
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(other.model.weight, run.model.weight)
    for module, ours, theirs in zip(("model", "head"), run.optimizers, other.optimizers, strict=True):
        both = moments(getattr(run, module), ours), moments(getattr(other, module), theirs)
        assert all(torch.equal(a, b) for a, b in zip(*both, strict=True))
    assert other.scaler.scale == run.scaler.scale
    loaded = checkpoint.load(path)
    assert (loaded["format"], loaded["backbone"]) == ("magface-checkpoint-2", "toy")
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]


class Several(Ranks):
    """A rank whose fellows have been here already, or will come."""

    def any(self, *flags):
        return list(flags)

    def wait(self):
        pass


SPLIT = [slice(0, 2), slice(2, 4), slice(4, 7)]


def save_three(path, step, centres):
    """A checkpoint of three ranks, the first of which is the last to write."""
    for rank in (2, 1, 0):
        run = state(head=Head(SPLIT[rank]))
        with torch.no_grad():
            run.head.centres.copy_(centres[SPLIT[rank]])
        run = stepped(run)
        checkpoint.save(path, run, step, ORIGIN, Several(rank, 3))
        yield run


def test_class_centres_and_their_moments_go_to_another_number_of_ranks(tmp_path):
    path = tmp_path / "c.pt"
    runs = list(save_three(path, 1, torch.arange(14.0).reshape(7, 2)))[::-1]
    whole = torch.cat([run.head.centres for run in runs])
    moment = torch.cat([moments(run.head, run.optimizers[1])[0] for run in runs])
    for rank, rows in enumerate([slice(0, 3), slice(3, 7)]):
        other = state(head=Head(rows))
        assert checkpoint.restore(path, other, ORIGIN, Several(rank, 2)) == 1
        assert torch.equal(other.head.centres, whole[rows])
        assert torch.equal(moments(other.head, other.optimizers[1])[0], moment[rows])
    alone = state(head=Head())
    checkpoint.restore(path, alone, ORIGIN, Ranks())
    assert torch.equal(alone.head.centres, whole)


def test_parts_of_an_earlier_checkpoint_go_only_when_the_new_one_is_in_place(tmp_path):
    path = tmp_path / "c.pt"
    list(save_three(path, 1, torch.zeros(7, 2)))
    before = {p.name for p in tmp_path.iterdir()}
    later = save_three(path, 2, torch.zeros(7, 2))
    next(later), next(later)  # killed before the first rank wrote
    assert before < {p.name for p in tmp_path.iterdir()}
    assert checkpoint.restore(path, state(head=Head()), ORIGIN, Ranks()) == 1
    next(later)
    assert checkpoint.restore(path, state(head=Head()), ORIGIN, Ranks()) == 2
    assert len(list(tmp_path.iterdir())) == 4
    checkpoint.save(path, stepped(state(head=Head())), 3, ORIGIN, Ranks())
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]


def test_a_missing_part_is_said(tmp_path):
    path = tmp_path / "c.pt"
    list(save_three(path, 1, torch.zeros(7, 2)))
    (tmp_path / "c.1-1of3.pt").unlink()
    with pytest.raises(DataError, match=r"c\.1-1of3\.pt .* missing or damaged"):
        checkpoint.restore(path, state(head=Head()), ORIGIN, Ranks())


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "c.pt"
    checkpoint.save(path, stepped(state()), 1, ORIGIN, Ranks())

    def full(content, file):
        file.write_bytes(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(DataError, match="make room"):
        checkpoint.save(path, stepped(state()), 2, ORIGIN, Ranks())
    assert checkpoint.load(path)["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]


def test_of_another_run_is_refused(tmp_path):
    path, run = tmp_path / "c.pt", state()
    checkpoint.save(path, run, 7, ORIGIN, Ranks())
    changed = {**RECIPE, "seed": 1, "loss": {"l_a": 6.0, "lambda_g": None}}
    with pytest.raises(DataError, match=r"loss\.l_a, seed changed"):
        checkpoint.restore(path, run, Origin("toy", changed, "abc"), Ranks())
    with pytest.raises(DataError, match="other images"):
        checkpoint.restore(path, run, Origin("toy", RECIPE, "xyz"), Ranks())
    with pytest.raises(DataError, match="another network"):
        checkpoint.restore(path, state(width=5), ORIGIN, Ranks())


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
    checkpoint.save(path, state(), 7, ORIGIN, Ranks())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="damaged"):
        checkpoint.load(path)
