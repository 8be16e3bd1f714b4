import json
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch.nn import functional as F

from magface.benchmarks.edc import draw
from magface.benchmarks.scores import measures, score
from magface.data.degradations import NAMES
from magface.errors import DataError, ModelError
from magface.train import checkpoint, loop
from magface.train.config import Data, Degradation, Distillation, Loss, Optimization, Order, Recipe
from magface.train.criterion import Criterion, distillation
from magface.train.finetune import class_centres, own_centres, tuned
from magface.train.ranks import Ranks
from magface.train.training import train, training_images
from magface.train.validation import validate
from magface.train.views import to_network
from magface.types import Embeddings

RANGE = {"l_a": 2.0, "u_a": 20.0, "l_m": 0.2, "u_m": 0.9}
FROZEN = Recipe(
    backbone="toy",
    direction="frozen",
    data=Data(min_images=5, validation=0.0),
    degradation=Degradation(share=0.5, views=8),
    loss=Loss(margin=RANGE, centres="fixed"),
    optimization=Optimization(epochs=60, batch=48, learning_rate=1e-2, weight_decay=0.0, save_every=1000),
)
CRFIQA = Loss(name="crfiqa", margin={"unit": 10.0}, centres="fixed")
ONCE = Optimization(epochs=1, batch=48, learning_rate=1e-3)


def finetune(recipe, network, faces, out, **options):
    return train(recipe, network, faces, out, trained=True, **options)


def losses(out):
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


def embed(network, images):
    with torch.no_grad():
        return network(to_network(torch.from_numpy(np.stack(images))))


@pytest.fixture(scope="module")
def trained(toy_faces, toy_network, tmp_path_factory):
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("run")
    network = toy_network()
    finetune(FROZEN, network, toy_faces, out)
    return network, out


def test_loss_falls_and_the_checkpoint_holds_the_network(trained):
    network, out = trained
    curve = losses(out)
    assert len(curve) == 60 * 3
    assert np.mean(curve[-9:]) < 0.95 * np.mean(curve[:9])
    state = checkpoint.load(out / "checkpoint.pt")
    assert state["backbone"] == "toy"
    assert all(torch.equal(value, state["model"][name]) for name, value in network.state_dict().items())


def magnitudes(network, toy_face, name, strengths):
    """Mean magnitude of unseen images of the training people at each strength."""
    images = [toy_face(person, 50) for person in range(12)]
    series = (
        [NAMES[name](image, strength, np.random.default_rng(i)) for i, image in enumerate(images)]
        for strength in strengths
    )
    return [embed(network, degraded).norm(dim=1).mean().item() for degraded in series]


@pytest.mark.parametrize(
    "name", ["darkness", "overexposure", "low_contrast", "gaussian_blur", "motion_blur", "shot_noise"]
)
def test_magnitude_follows_the_strength_of_a_degradation(trained, toy_face, name):
    found = magnitudes(trained[0], toy_face, name, (0.0, 0.25, 0.5, 0.75, 1.0))
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("name", ["sunglasses", "mask", "patch", "truncation", "misalignment", "rotation"])
def test_magnitude_falls_for_hidden_and_moved_faces(trained, toy_face, name):
    clean, full = magnitudes(trained[0], toy_face, name, (0.0, 1.0))
    assert full < 0.95 * clean


def test_frozen_direction_stays(trained, toy_network, toy_face):
    images = [toy_face(person, 60) for person in range(12)]
    before, after = embed(toy_network(), images), embed(trained[0], images)
    torch.testing.assert_close(F.normalize(before), F.normalize(after), atol=1e-6, rtol=0)
    assert not torch.allclose(before.norm(dim=1), after.norm(dim=1), rtol=0.01)


def test_frozen_direction_with_new_degradations_each_epoch(toy_faces, toy_network, tmp_path):
    recipe = replace(FROZEN, degradation=Degradation(share=0.5), optimization=ONCE)
    network = toy_network()
    finetune(recipe, network, toy_faces, tmp_path)
    start = toy_network()
    for name, value in network.state_dict().items():
        assert torch.equal(value, start.state_dict()[name]) != name.startswith("branch."), name


def test_free_direction_with_distillation(toy_faces, toy_network, tmp_path):
    recipe = replace(
        FROZEN,
        direction="free",
        fixed=("stem.*",),
        degradation=Degradation(share=0.5),
        distillation=Distillation(teacher=60, clean=100, repulsion=100),
        loss=Loss(margin=RANGE, detach_direction=True),
        optimization=replace(ONCE, epochs=8),
    )
    network = toy_network(branched=False)
    finetune(recipe, network, toy_faces, tmp_path)
    start = toy_network(branched=False).state_dict()
    assert torch.equal(network.state_dict()["stem.1.weight"], start["stem.1.weight"])
    assert torch.equal(network.state_dict()["norm.running_mean"], start["norm.running_mean"])
    assert not torch.equal(network.state_dict()["fc.weight"], start["fc.weight"])
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    parts = ("identity", "penalty", "teacher", "clean", "repulsion")
    for line in lines:
        assert line["loss"] == pytest.approx(sum(line[name] for name in parts), rel=1e-5)
    assert np.mean([line["loss"] for line in lines[-3:]]) < np.mean([line["loss"] for line in lines[:3]])


@pytest.mark.parametrize(
    ("settings", "loss"),
    [
        (Degradation(share=0.5), FROZEN.loss),
        (Degradation(share=0.5, views=2), FROZEN.loss),
        (Degradation(share=0.5, views=2), CRFIQA),
    ],
)
def test_stopped_and_resumed_is_the_same_bit_for_bit(toy_faces, toy_network, tmp_path, settings, loss, monkeypatch):
    recipe = replace(FROZEN, degradation=settings, loss=loss, optimization=replace(ONCE, epochs=2, save_every=2))

    def weights(out):
        return checkpoint.load(finetune(recipe, toy_network(), toy_faces, out))["model"].values()

    expected = weights(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "step", fail_at_step(4, loop.Trainer.step))
        with pytest.raises(KeyError):
            weights(tmp_path / "parts")
    assert checkpoint.load(tmp_path / "parts/checkpoint.pt")["step"] == 4
    resumed = weights(tmp_path / "parts")
    assert all(torch.equal(a, b) for a, b in zip(expected, resumed, strict=True))


def fail_at_step(last, take):
    def failing(trainer, step, *arguments):
        if step == last:
            raise KeyError("as if killed")
        return take(trainer, step, *arguments)

    return failing


def test_workers_do_not_change_the_result(toy_faces, toy_network, tmp_path):
    recipe = replace(FROZEN, degradation=Degradation(share=0.5), optimization=ONCE)
    finetune(recipe, toy_network(), toy_faces, tmp_path / "one")
    finetune(replace(recipe, optimization=replace(ONCE, workers=3)), toy_network(), toy_faces, tmp_path / "three")
    assert losses(tmp_path / "one") == losses(tmp_path / "three")


def test_class_centres_are_weighted_by_the_squared_magnitude():
    x = np.array([[3, 0], [0, 1], [0, 5], [7, 7]], np.float32)
    labels, suspect = np.array([0, 0, 1, 1]), np.array([False, False, False, True])
    found = class_centres(x, labels, suspect)
    expected = np.array([9, 1]) / np.hypot(9, 1)
    np.testing.assert_allclose(found, [expected, [0, 1]], atol=1e-6)


def test_distillation_terms_against_plain_loops():
    torch.manual_seed(0)
    x, teacher, labels = torch.randn(6, 4), torch.randn(6, 4), torch.tensor([0, 0, 1, 1, 2, 2])
    clean = torch.arange(6) < 3
    found = distillation(Distillation(teacher=2, clean=3, repulsion=5, above=0.1), x, teacher, labels, clean)
    away = [1 - F.cosine_similarity(x[i], teacher[i], dim=0).item() for i in range(6)]
    pairs = [
        max(0.0, F.cosine_similarity(x[i], x[j], dim=0).item() - 0.1) ** 2
        for i in range(6)
        for j in range(6)
        if labels[i] != labels[j]
    ]
    assert found["teacher"].item() == pytest.approx(2 * np.mean(away), rel=1e-5)
    assert found["clean"].item() == pytest.approx(3 * np.mean(away[:3]), rel=1e-5)
    assert found["repulsion"].item() == pytest.approx(5 * np.mean(pairs), rel=1e-5)


def test_validation_people_and_suspect_images_do_not_train(toy_faces):
    recipe = Recipe(data=Data(min_images=12, validation=0.4), optimization=Optimization(batch=4))
    marked = replace(toy_faces, suspect=np.arange(len(toy_faces)) == 0)
    train = training_images(recipe, marked)
    assert marked.people[0] not in train.people
    assert not set(train.people) & set(marked.split(0.4)[1].people)
    more = training_images(replace(recipe, data=Data(min_images=11, validation=0.0)), marked)
    assert marked.names[0] not in more.names
    with_suspect = training_images(replace(recipe, data=Data(min_images=11, validation=0.0, suspect=True)), marked)
    assert marked.names[0] in with_suspect.names


def test_what_does_not_fit_is_said(toy_faces, toy_network, tmp_path):
    with pytest.raises(DataError, match="needs a trained network"):
        train(FROZEN, toy_network(), toy_faces, tmp_path, trained=False)
    with pytest.raises(DataError, match="without torchrun"):
        finetune(FROZEN, toy_network(), toy_faces, tmp_path, ranks=Ranks(0, 2))
    with pytest.raises(DataError, match="less than one batch"):
        finetune(replace(FROZEN, data=Data(min_images=99)), toy_network(), toy_faces, tmp_path)
    with pytest.raises(ModelError, match="no magnitude branch"):
        finetune(FROZEN, toy_network(branched=False), toy_faces, tmp_path)
    free = replace(FROZEN, direction="free", degradation=Degradation(share=0.5), fixed=("blocks.*",))
    with pytest.raises(DataError, match=r"blocks\.\*"):
        finetune(free, toy_network(), toy_faces, tmp_path)
    loss = Loss(margin={**RANGE, "l_a": 20.0, "u_a": 5.0})
    with pytest.raises(DataError, match="0 < l_a < u_a"):
        finetune(replace(FROZEN, loss=loss), toy_network(), toy_faces, tmp_path)


def test_own_centres_leave_the_image_itself_out():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(7, 5)).astype(np.float32)
    labels = np.array([0, 0, 0, 1, 1, 1, 1])
    suspect = np.array([0, 0, 0, 0, 1, 0, 0], bool)
    found = own_centres(x, labels, suspect)
    for i in range(7):
        others = [j for j in range(7) if labels[j] == labels[i] and j != i and not suspect[j]]
        total = sum(np.linalg.norm(x[j]) * x[j] for j in others)
        np.testing.assert_allclose(found[i], total / np.linalg.norm(total), rtol=1e-5)


STEPPED = replace(
    FROZEN,
    degradation=Degradation(share=0.5, views=2, steps=4),
    order=Order(weight=30, step=0.05),
    loss=Loss(margin={**RANGE, "easy_margin": False}, negatives="orthogonal"),
    optimization=replace(ONCE, epochs=12),
)


def test_order_makes_more_steps_fall(toy_faces, toy_network, toy_face, tmp_path):
    shares = {}
    for weight in (0.0, 30.0):
        network = toy_network()
        recipe = replace(STEPPED, order=replace(STEPPED.order, weight=weight))
        finetune(recipe, network, toy_faces, tmp_path / str(weight), cache=tmp_path)
        series = [magnitudes(network, toy_face, name, (0.0, 0.25, 0.5, 0.75, 1.0)) for name in NAMES]
        shares[weight] = np.mean(np.diff(series, axis=1) < 0)
    assert shares[30.0] > shares[0.0]


def test_crfiqa_learns_the_order_of_classifiability(toy_faces, toy_network, toy_face, tmp_path):
    recipe = replace(FROZEN, loss=CRFIQA, optimization=replace(FROZEN.optimization, epochs=25))
    network = toy_network()
    finetune(recipe, network, toy_faces, tmp_path)
    curve = losses(tmp_path)
    assert np.mean(curve[-10:]) < 0.5 * np.mean(curve[:5])
    chosen = training_images(recipe, toy_faces)
    clean = embed(toy_network(), [chosen.read(row) for row in range(len(chosen))]).numpy()
    centres = torch.from_numpy(class_centres(clean, chosen.labels, chosen.suspect))
    people, names = zip(*product(range(12), NAMES), strict=True)
    rng = np.random.default_rng(0)
    worse = [NAMES[name](toy_face(person, 30), 0.8, rng) for person, name in zip(people, names, strict=True)]
    before, after = embed(toy_network(), worse), embed(network, worse)
    cosine, own = F.normalize(after) @ centres.T, F.one_hot(torch.tensor(people), 12).bool()
    ratio = cosine[own] / (1 + cosine.masked_fill(own, -1).amax(1))
    assert spearmanr(after.norm(dim=1), ratio).statistic > 0.55
    assert spearmanr(before.norm(dim=1), ratio).statistic < 0.3


def test_order_is_the_mean_of_what_fails_to_fall(toy_network):
    network = toy_network()
    criterion = Criterion(STEPPED, network, network, None, np.zeros(1, np.int64), None, None, Ranks())
    rng = np.random.default_rng(0)
    features = rng.normal(size=(3, 5, 16, 7, 7)).astype(np.float16)
    embeddings = rng.normal(size=(3, 5, 24)).astype(np.float32)
    found = criterion.disorder(features, embeddings).item()
    branch, total = toy_network().branch, 0.0
    for row in range(3):
        a = [
            np.linalg.norm(f) * branch(torch.from_numpy(h).float()[None]).exp().item()
            for f, h in zip(embeddings[row], features[row], strict=True)
        ]
        total += sum(max(0.0, 0.05 + np.log(after / before)) for before, after in pairwise(a))
    assert found == pytest.approx(total / 12, rel=1e-4)


def test_validation_measures_only_the_people_kept_out(toy_faces, toy_network):
    recipe = replace(FROZEN, data=Data(min_images=5, validation=0.5))
    network = toy_network()
    found = validate(recipe, network, toy_faces)
    held = toy_faces.split(0.5)[1]
    vectors = embed(network, [held.read(i) for i in range(len(held))]).numpy()
    scores = score(Embeddings(vectors), *draw(held.labels, 20_000, 200_000, seed=0))
    assert found == {"all": {m.name: m.value for m in measures(scores) if m.value is not None}}
    assert validate(replace(recipe, data=Data(validation=0.0)), network, toy_faces) == {}


def test_a_user_who_sets_nothing_gets_a_range_around_the_magnitudes(toy_faces, toy_network, tmp_path):
    network, said = toy_network(branched=False), []
    clean = embed(network, [toy_faces.read(i) for i in range(len(toy_faces))]).norm(dim=1).numpy()
    recipe = replace(FROZEN, direction="free", loss=Loss(), degradation=Degradation(share=0.5), optimization=ONCE)
    finetune(recipe, network, toy_faces, tmp_path, say=said.append)
    chosen, reasons = tuned(Loss(), clean)
    assert said == list(reasons)
    assert chosen["l_a"] < np.percentile(clean, 1) < np.percentile(clean, 99) < chosen["u_a"]
    first = (tmp_path / "log.jsonl").read_text().splitlines()[0]
    assert json.loads(first)["outside"] < 0.3


def test_what_a_recipe_sets_stays():
    a = np.geomspace(5, 15, 100).astype(np.float32)
    assert tuned(Loss(name="arcface", margin={"m": 0.4}), a) == ({"m": 0.4}, ())
    assert tuned(Loss(margin=RANGE), a) == (RANGE, ())
    chosen, reasons = tuned(Loss(margin={"u_a": 40.0}), a)
    assert chosen.keys() == {"l_a", "u_a", "l_m", "u_m"}
    assert chosen["u_a"] == 40
    assert [reason.split()[0] for reason in reasons] == ["l_a", "l_m"]
