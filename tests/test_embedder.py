import gc
import weakref

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from magface import embedder as module
from magface.embedder import Embedder
from magface.errors import EngineError, ModelError
from magface.models import card, default


@pytest.fixture(scope="module")
def embedder():
    return Embedder()


@pytest.fixture(scope="module")
def crops():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (35, 7, 7, 3), dtype=np.uint8)
    return coarse.repeat(16, axis=1).repeat(16, axis=2)


@pytest.fixture
def files(crops, tmp_path):
    paths = []
    for row, crop in enumerate(crops):
        paths.append(tmp_path / f"{row:03d}.png")
        Image.fromarray(crop).save(paths[-1])
    return paths


def close(a, b):
    return np.abs(a - b).max() <= 1e-4 * np.abs(b).max()


def test_it_knows_its_model(embedder):
    found, fingerprint = card.read(default.path())
    assert (embedder.card, embedder.fingerprint) == (found, fingerprint)
    assert (embedder.engine, embedder.precision) == ("openvino", "f32")


def test_all_ways_give_the_same_embeddings(embedder, crops, files):
    whole = embedder.embed(crops)
    assert whole.vectors.shape == (len(crops), embedder.card.embedding_size)
    assert whole.model == embedder.fingerprint
    assert close(embedder.embed(crops[:2]).vectors, whole.vectors[:2])
    assert close(np.stack(list(embedder.stream(iter(crops)))), whole.vectors)
    embeddings, failures = embedder.embed_files(files)
    assert not failures
    assert close(embeddings.vectors, whole.vectors)
    assert embeddings.model == embedder.fingerprint


@pytest.mark.parametrize(("value", "size", "message"), [(np.nan, 128, "NaN"), (np.inf, 128, "NaN"), (1, 64, "size")])
def test_a_model_that_does_not_give_what_its_card_says(crops, tmp_path, value, size, message):
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "weight"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "wrong",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 112, 112, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", size])],
        [numpy_helper.from_array(np.full((3, size), value, np.float32), "weight")],
    )
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "wrong.onnx"
    path.write_bytes(card.attach(built.SerializeToString(), card.read(default.path())[0]))
    wrong = Embedder(path)
    with pytest.raises(ModelError, match=message):
        wrong.embed(crops[:1])
    with pytest.raises(ModelError, match=message):
        list(wrong.stream(crops))


def test_other_engines_give_the_same_embeddings(embedder, crops):
    other = Embedder(default.path(), engine="onnxruntime")
    assert other.engine == "onnxruntime"
    assert other.fingerprint == embedder.fingerprint
    assert close(other.embed(crops).vectors, embedder.embed(crops).vectors)


def test_nothing_gives_nothing(embedder):
    assert embedder.embed(np.empty((0, 112, 112, 3), np.uint8)).vectors.shape == (0, 128)
    embeddings, failures = embedder.embed_files([])
    assert (embeddings.vectors.shape, failures) == ((0, 128), [])


def test_bad_files_are_reported_and_the_others_keep_their_order(embedder, crops, files, tmp_path):
    spoiled = {2: b"", 7: b"not an image", 20: files[20].read_bytes()[:60]}
    for row, content in spoiled.items():
        files[row].write_bytes(content)
    files[9].unlink()
    Image.new("RGB", (200, 100)).save(files[11])
    done = []
    embeddings, failures = embedder.embed_files(files, progress=done.append)
    bad = [2, 7, 9, 11, 20]
    assert [path for path, _ in failures] == [files[row] for row in bad]
    assert all(reason for _, reason in failures)
    assert "200x100 pixels" in failures[3][1]
    assert "use magface embed without --aligned" in failures[3][1]
    good = [row for row in range(len(files)) if row not in bad]
    assert close(embeddings.vectors, embedder.embed(crops[good]).vectors)
    assert sum(done) == len(files)


def test_only_bad_files_are_no_embeddings(embedder, tmp_path):
    embeddings, failures = embedder.embed_files([tmp_path / "a.jpg", str(tmp_path / "b.jpg")])
    assert (len(embeddings), len(failures)) == (0, 2)


def test_a_stream_holds_a_few_batches_only(embedder):
    alive = []
    most = 0

    def source():
        nonlocal most
        for row in range(20 * module.BATCH):
            crop = np.full((112, 112, 3), row % 256, np.uint8)
            alive.append(weakref.ref(crop))
            if row % module.BATCH == 0:
                gc.collect(0)
                most = max(most, sum(reference() is not None for reference in alive))
            yield crop

    assert sum(1 for _ in embedder.stream(source())) == 20 * module.BATCH
    assert most <= 3 * module.BATCH


@pytest.mark.parametrize("shape", [(3, 112, 112), (112, 112, 3), (2, 3, 112, 112), (1, 96, 112, 3)])
def test_crops_of_another_shape_are_refused(embedder, shape):
    with pytest.raises(EngineError, match="cannot take an input"):
        embedder.embed(np.zeros(shape, np.uint8))


def test_models_without_a_card_or_changed_are_refused(tmp_path):
    content = bytearray(default.path().read_bytes())
    content[100_000] ^= 1
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="hash"):
        Embedder(path)
    with pytest.raises(ModelError, match="check the path"):
        Embedder(tmp_path / "none.onnx")
