import pytest
import torch

from magface.backbones import preprocessing


@pytest.mark.parametrize(
    ("name", "pixel", "expected"),
    [
        ("MAGFACE", (0.0, 51.0, 255.0), (1.0, 0.2, 0.0)),
        ("ARCFACE", (0.0, 51.0, 255.0), (-1.0, -0.6, 1.0)),
        ("ADAFACE", (0.0, 51.0, 255.0), (1.0, -0.6, -1.0)),
    ],
)
def test_a_pixel(name, pixel, expected):
    x = torch.tensor(pixel).reshape(1, 3, 1, 1).expand(2, 3, 4, 5)
    y = getattr(preprocessing, name)(x)
    torch.testing.assert_close(y, torch.tensor(expected).reshape(1, 3, 1, 1).expand(2, 3, 4, 5))


@pytest.mark.parametrize("name", ["MAGFACE", "ARCFACE", "ADAFACE"])
def test_memory_format_is_kept_and_the_input_left_alone(name):
    x = (255 * torch.rand(2, 3, 8, 8)).to(memory_format=torch.channels_last)
    before = x.clone()
    assert getattr(preprocessing, name)(x).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(x, before)
