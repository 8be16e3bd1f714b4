"""Every kind of photo comes out upright, RGB and right; every kind of damage comes out as one sentence."""

import io
import os
import random
import struct
import sys
import threading
import time
import zlib
from contextlib import suppress

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from magface import images
from magface.errors import ImageError


@pytest.fixture(scope="module")
def picture():
    """(60, 80, 3) uint8 without any symmetry, smooth enough for lossy formats."""
    y, x = np.mgrid[:60, :80]
    return np.stack([x * 3, y * 4, (x + y) // 2 + 60 * ((x < 20) & (y < 15))], axis=-1).astype(np.uint8)


def encoded(image, kind, **options):
    file = io.BytesIO()
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    image.save(file, kind, **options)
    return file.getvalue()


def close(a, b, levels):
    assert a.shape == b.shape
    assert a.dtype == np.uint8
    assert np.abs(a.astype(int) - b).mean() <= levels


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "HEIF"])
def test_reads_the_format(picture, kind):
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    close(images.decode(encoded(picture, kind)), picture, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turns_upright(picture, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(picture, kind, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    close(images.decode(content), np.array(upright), 0)
    assert images.decode(content).shape == ((60, 80, 3) if orientation < 5 else (80, 60, 3))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_unknown_orientation_counts_as_upright(picture, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    close(images.decode(encoded(picture, "PNG", exif=exif)), picture, 0)


@pytest.mark.filterwarnings("ignore::UserWarning")  # pytest drops the filter that the module sets
def test_damaged_exif_does_not_spoil_the_pixels(picture):
    content = encoded(picture, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    close(images.decode(content), picture, 3)


def test_grey_and_one_bit(picture):
    grey = picture[..., 0]
    expected = np.repeat(grey[..., None], 3, axis=2)
    close(images.decode(encoded(grey, "PNG")), expected, 0)
    close(images.decode(encoded(grey, "JPEG")), expected, 2)
    bits = images.decode(encoded(Image.fromarray(grey).convert("1"), "PNG"))
    assert set(np.unique(bits)) == {0, 255}


def test_palette(picture):
    few = Image.fromarray(picture).quantize(32)
    close(images.decode(encoded(few, "PNG")), np.array(few.convert("RGB")), 0)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparent_parts_are_white(picture, kind):
    alpha = np.full((60, 80, 1), 255, np.uint8)
    alpha[:30] = 0
    options = {"lossless": True} if kind == "WEBP" else {}
    read = images.decode(encoded(np.concatenate([picture, alpha], axis=2), kind, **options))
    assert (read[:30] == 255).all()
    close(read[30:], picture[30:], 0)


def test_grey_with_alpha(picture):
    grey = np.stack([picture[..., 0], np.full((60, 80), 128, np.uint8)], axis=-1)
    expected = np.rint(grey[..., 0] * (128 / 255) + 255 * (127 / 255))
    close(images.decode(encoded(grey, "PNG")), np.repeat(expected[..., None], 3, axis=2), 1)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled(picture, kind):
    grey = picture[..., 0]
    deep = encoded(grey.astype(np.uint16) * 257, kind)
    close(images.decode(deep), np.repeat(grey[..., None], 3, axis=2), 0)
    content = cv2.imencode(f".{kind.lower()}", picture[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
    close(images.decode(content), picture, 0)


@pytest.mark.parametrize("full", [1.0, 255.0, 65535.0, 1e6])
def test_floating_point_is_scaled(picture, full):
    values = picture[..., 0].astype(np.float32) / picture[..., 0].max() * full
    read = images.decode(encoded(Image.fromarray(values), "TIFF"))
    close(read, np.repeat((values * (255 / full))[..., None], 3, axis=2), 0.5)


def test_floating_point_colour(picture):
    content = cv2.imencode(".tiff", picture[..., ::-1].astype(np.float32) / 255)[1].tobytes()
    close(images.decode(content), picture, 0)
    with pytest.raises(ImageError, match="limit of 4799"):
        images.decode(content, max_pixels=4799)


def test_not_a_number_is_black():
    values = np.array([[np.nan, np.inf], [-1.0, 1.0]], np.float32)
    assert images.decode(encoded(Image.fromarray(values), "TIFF"))[..., 0].tolist() == [[0, 0], [0, 255]]


def test_cmyk(picture):
    cmyk = Image.fromarray(picture).convert("CMYK")
    close(images.decode(encoded(cmyk, "JPEG", quality=95)), picture, 4)
    close(images.decode(encoded(cmyk, "TIFF")), np.array(cmyk.convert("RGB")), 0)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_first_frame_of_an_animation(kind):
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue", "green")]
    read = images.decode(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
    close(read, np.array(frames[0]), 2)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1)])
def test_extreme_shapes(shape):
    assert images.decode(encoded(np.zeros((*shape, 3), np.uint8), "PNG")).shape == (*shape, 3)
    assert images.decode(encoded(np.zeros((*shape, 3), np.uint8), "JPEG")).shape == (*shape, 3)


def test_content_decides_not_the_name(tmp_path, picture):
    path = tmp_path / "photo.txt"
    path.write_bytes(encoded(picture, "PNG"))
    close(images.read(path), picture, 0)


@pytest.mark.parametrize("height", [1, 63, 64, 65, 512])
def test_pixels_are_those_of_the_decoder(astronaut, height):
    content = encoded(astronaut[:height], "JPEG", quality=90)
    close(images.decode(content), np.array(Image.open(io.BytesIO(content))), 0)


def test_damage_is_not_written_to_stderr(astronaut, capfd):
    for options in ({}, {"progressive": True}, {"restart_marker_rows": 1}):
        content = encoded(astronaut, "JPEG", **options)
        dice = random.Random(0)
        for _ in range(20):
            damaged = bytearray(content)
            for _ in range(20):
                damaged[dice.randrange(1000, len(damaged) - 2)] = dice.randrange(256)
            with suppress(ImageError):
                images.decode(bytes(damaged))
    assert capfd.readouterr().err == ""


def test_large_photos_are_refused_before_they_are_decoded():
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    idat = b"IDAT" + zlib.compress(b"\0" * 1000)
    bomb += struct.pack(">I", len(idat) - 4) + idat + struct.pack(">I", zlib.crc32(idat))
    with pytest.raises(ImageError, match=r"60000 x 60000 pixels.*raise max_pixels"):
        images.decode(bomb)


def test_the_limit_is_ours_and_pillow_keeps_its_own(picture, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    close(images.decode(encoded(picture, "PNG")), picture, 0)
    assert Image.MAX_IMAGE_PIXELS == 10
    with pytest.raises(ImageError, match="limit of 4799"):
        images.decode(encoded(picture, "PNG"), max_pixels=4799)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"exif": "thumbnail"}])
def test_truncated_jpeg_is_an_error(astronaut, share, options):
    if options.get("exif"):  # a thumbnail brings an end marker of its own into the header
        options = {"exif": b"Exif\0\0" + encoded(astronaut[:64, :64], "JPEG")}
    content = encoded(astronaut, "JPEG", **options)
    with pytest.raises(ImageError, match="copy the photo again"):
        images.decode(content[: int(len(content) * share)])


def test_jpeg_with_bytes_behind_its_end(astronaut):
    content = encoded(astronaut, "JPEG")
    trailer = random.Random(0).randbytes(100_000)
    assert (images.decode(content + trailer) == images.decode(content)).all()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "TIFF", "BMP", "JPEG2000", "AVIF"])
def test_truncated_files_are_errors(astronaut, kind):
    content = encoded(astronaut, kind)
    for share in (0.02, 0.5, 0.9):
        with pytest.raises(ImageError):
            images.decode(content[: int(len(content) * share)])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "JPEG2000", "AVIF", "HEIF"])
def test_damage_gives_a_photo_or_an_image_error(picture, kind):
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    content = encoded(picture, kind)
    dice = random.Random(kind)
    for _ in range(40):
        damaged = bytearray(content)
        for _ in range(dice.choice([1, 5, 50])):
            damaged[int(len(damaged) * dice.random() ** 3)] = dice.randrange(256)
        try:
            read = images.decode(bytes(damaged), max_pixels=10_000_000)
        except ImageError as error:
            message = str(error)
        else:
            message = "."
            assert read.dtype == np.uint8
            assert read.shape[2] == 3
        assert message.endswith(".")
        assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello, this is no image", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage", "not an image"),
        (b"II*\0", "damaged"),
        (b"\xff\xd8\xff", "not an image"),
    ],
)
def test_what_is_no_image_is_said(tmp_path, content, message):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=rf"photo\.jpg .*{message}"):
        images.read(path)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_infinite_and_enormous_values_of_a_tiff(kind):
    colours = np.full((4, 6, 3), 0.5, kind)
    colours[0], colours[1], colours[2] = np.nan, -np.inf, np.inf
    found = images.decode(cv2.imencode(".tiff", colours)[1].tobytes())
    assert found[:3].max() == 0
    assert (found[3] == 128).all()
    colours[0] = np.finfo(kind).max
    colours[1] = -np.finfo(kind).max
    found = images.decode(cv2.imencode(".tiff", colours)[1].tobytes())
    assert (found[0] == 255).all()
    assert found[1:].max() == 0


def test_folders_and_missing_files_are_said(tmp_path):
    for path, message in (
        (tmp_path, "is a folder"),
        (tmp_path / "none.jpg", "cannot read"),
        ("bad\0name.jpg", "cannot read"),
    ):
        with pytest.raises(ImageError, match=message):
            images.read(path)


@pytest.mark.skipif(os.name == "nt", reason="needs pipes and devices in the file system")
def test_what_would_wait_or_never_end_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    with (tmp_path / "large.jpg").open("wb") as file:
        file.truncate(2**31)
    for name in ("pipe", "device", "large"):
        with pytest.raises(ImageError, match=f"{name}.jpg is a folder, pipe or device, or larger than 2 GB"):
            images.read(tmp_path / f"{name}.jpg")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs permissions that bind")
def test_unreadable_file_is_said(tmp_path):
    path = tmp_path / "photo.jpg"
    path.touch(mode=0)
    with pytest.raises(ImageError, match="Permission denied"):
        images.read(path)


def test_heic_without_its_extra_says_what_to_install(picture, monkeypatch):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    content = encoded(picture, "HEIF")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"pip install magface\[heic\]"):
        images.decode(content)


def test_find_expands_folders(tmp_path):
    for name in ("b/2.JPG", "b/1.png", "a.webp", ".hidden/x.jpg", "b/.x.jpg", "notes.txt", "crops/own.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = images.find([tmp_path, tmp_path / "a.webp", str(tmp_path / "notes.txt")])
    names = [path.relative_to(tmp_path).as_posix() for path in found]
    assert names == ["a.webp", "b/1.png", "b/2.JPG", "crops/own.jpg", "notes.txt"]
    (tmp_path / "faces.parquet").touch()
    assert tmp_path / "crops/own.jpg" not in images.find([tmp_path])


def test_find_survives_links_that_lead_back(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").touch()
    try:
        (tmp_path / "photos/again").symlink_to(tmp_path / "photos")
        (tmp_path / "photos/above").symlink_to(tmp_path)
        (tmp_path / "photos/b.jpg").symlink_to(tmp_path / "photos/a.jpg")
    except OSError:
        pytest.skip("needs links")
    (tmp_path / "beside.jpg").touch()
    assert len(images.find([tmp_path / "photos"])) == 1
    assert len(images.find([tmp_path / "photos", tmp_path])) == 2


def test_find_leaves_broken_links_to_be_said(tmp_path):
    links = [tmp_path / "circle.jpg", tmp_path / "nowhere.jpg"]
    try:
        for link, target in zip(links, ("circle.jpg", "gone.jpg"), strict=True):
            link.symlink_to(target)
    except OSError:
        pytest.skip("needs links")
    assert images.find([tmp_path]) == images.find(links) == links
    for link in links:
        with pytest.raises(ImageError, match="cannot read"):
            images.read(link)


def test_find_refuses_a_path_that_does_not_exist(tmp_path):
    with pytest.raises(ImageError, match="does not exist"):
        images.find([tmp_path / "none"])


@pytest.mark.parametrize(("large", "together"), [(99, 1), (100, 4)])
def test_large_photos_are_held_one_at_a_time(tmp_path, monkeypatch, large, together):
    monkeypatch.setattr(images, "READERS", 4)
    monkeypatch.setattr(images, "_LARGE", large)
    Image.new("RGB", (10, 10)).save(tmp_path / "a.png")
    held, most, turn = 0, 0, threading.Lock()

    def use(path, image):
        nonlocal held, most
        with turn:
            held += 1
            most = max(most, held)
        time.sleep(0.02)
        with turn:
            held -= 1
        return image.shape

    paths = [tmp_path / "a.png"] * 20
    assert list(images.read_ahead(paths, use, ahead=8)) == [(path, (10, 10, 3)) for path in paths]
    assert most == together


def test_a_failure_is_that_of_its_file_alone_however_large(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "_LARGE", 0)
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8\xff torn")
    Image.new("RGB", (10, 10)).save(tmp_path / "a.png")
    paths = [tmp_path / "torn.jpg", tmp_path / "a.png", tmp_path / "none.png"] * 3
    found = [result for _, result in images.read_ahead(paths, lambda path, image: image.size, ahead=4)]
    assert [isinstance(result, str) for result in found] == [True, False, True] * 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_pixels_are_known_from_the_header(picture, kind):
    assert images._pixels(encoded(picture, kind), "a") == picture.shape[0] * picture.shape[1]


def test_halving_averages_and_stops_in_time():
    image = np.random.default_rng(0).integers(0, 256, (70, 47, 3), dtype=np.uint8)
    once = images.halved(image, 20, 20)
    blocks = image[:70, :46].reshape(35, 2, 23, 2, 3).mean((1, 3))
    assert np.abs(once - blocks).max() <= 0.5
    assert images.halved(image, 24, 20) is image
    assert images.halved(image, 5, 5).shape == (8, 5, 3)


def test_find_looks_for_other_endings_too(tmp_path):
    for name in ("a.jpg", "b.MP4", "c.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in images.find([tmp_path], extensions={".mp4", ".jpg"})] == ["a.jpg", "b.MP4"]
    assert [path.name for path in images.find([tmp_path])] == ["a.jpg"]
