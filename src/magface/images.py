"""Any photo a person has, as upright RGB; anything else as one clear sentence."""

from __future__ import annotations

import io
import os
import stat
import threading
import warnings
from collections.abc import Callable, Container, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from magface.errors import ImageError, MagfaceError
from magface.threads import READERS, prefetch
from magface.types import U8

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".dib"}
    | {".jp2", ".avif", ".heic", ".heif", ".ppm", ".pgm", ".pbm", ".pnm"}
)
"""Names by which `find` knows an image in a folder; `read` goes by the content alone."""

MAX_PIXELS = 200_000_000

_MAX_BYTES = 1 << 31
_LARGE = 25_000_000
_STRIP = 64

_Used = TypeVar("_Used")

# Only formats of photos: others would start programs (EPS) or match any bytes (TGA).
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "PPM", "WEBP", "TIFF", "JPEG2000", "AVIF")
_COLOURS = {"Gray", "YCbCr", "RGB"}  # others, as CMYK, take more than libjpeg
_ORIENTATION = 0x0112
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_opening = threading.Lock()

# Pillow remarks on oddities of files that it then reads well; photos need no such remarks between a user's lines.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def read(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> U8:
    """Read a photo; its content decides how, not its name.

    Reads what Pillow reads, HEIC where `magface[heic]` is installed, and floating-point TIFF. The first frame of an
    animation counts; transparent parts lie on white; 16-bit and floating-point values are scaled, not clipped.

    Args:
        path: an image file.
        max_pixels: larger photos are refused before they are decoded.

    Returns:
        `(H, W, 3)` uint8 RGB, turned upright as its EXIF orientation says.

    Raises:
        ImageError: the file cannot be read, is no image, is damaged or incomplete, or is too large.

    Example:
        >>> read("no-such-photo.jpg")
        Traceback (most recent call last):
        ...
        magface.errors.ImageError: cannot read no-such-photo.jpg (No such file or directory); check the path.
    """
    name = os.fspath(path)
    return decode(_content(name), name=name, max_pixels=max_pixels)


def decode(content: bytes, *, name: str = "the image", max_pixels: int = MAX_PIXELS) -> U8:
    """Decode the content of an image file, as `read` does.

    Args:
        content: of an image file.
        name: what messages call it.
        max_pixels: larger photos are refused before they are decoded.

    Raises:
        ImageError: see `read`.

    Example:
        >>> file = io.BytesIO()
        >>> Image.new("L", (3, 2), 128).save(file, "PNG")
        >>> decode(file.getvalue()).shape
        (2, 3, 3)
    """
    if not content:
        raise ImageError(f"{name} is empty; copy the photo again.")
    try:
        return _decoded(content, name, max_pixels)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} is not an image that can be read; save it as JPEG or PNG.") from error
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise ImageError(f"{name} is damaged or incomplete ({_reason(error)}); copy the photo again.") from error


def halved(image: U8, width: int, height: int) -> U8:
    """Average an image over blocks of 2x2 pixels as often as it stays at least that large.

    Many times faster than other ratios, so it comes first where a photo becomes much smaller.

    Args:
        image: `(H, W, 3)` uint8.
        width: pixels, >= 1.
        height: likewise.

    Returns:
        `(H', W', 3)` uint8, H' < 2 `height` or W' < 2 `width`; a view of `image` where nothing was to do.

    Example:
        >>> halved(np.zeros((900, 700, 3), np.uint8), 150, 150).shape
        (225, 175, 3)
    """
    while image.shape[0] >= 2 * height and image.shape[1] >= 2 * width:
        rows, columns = image.shape[0] // 2, image.shape[1] // 2
        image = cv2.resize(image[: 2 * rows, : 2 * columns], (columns, rows), interpolation=cv2.INTER_AREA)
    return image


def find(paths: Iterable[str | os.PathLike[str]], *, extensions: Container[str] = EXTENSIONS) -> list[Path]:
    """Image files among files and folders, each once, sorted.

    A file that is named is taken whatever it is called. Folders are searched to the bottom, through links too, for
    `EXTENSIONS`; hidden files and folders are left out, and so are a folder `crops` beside a `faces.parquet`, which an
    earlier analysis wrote, and the folders of an album, which has a `photos.parquet` and a `people.json`.

    Args:
        paths: files and folders.
        extensions: of names, in small letters.

    Raises:
        ImageError: a path does not exist, or a folder cannot be listed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("b.JPG", "a.png", "notes.txt", ".hidden.jpg"):
        ...         Path(folder, name).touch()
        ...     [path.name for path in find([folder])]
        ['a.png', 'b.JPG']
    """
    found: dict[str, Path] = {}
    for path in map(Path, paths):
        if path.is_dir():
            files = walk(path, extensions)
        elif os.path.lexists(path):  # a broken link is the failure of one photo
            files = iter([path])
        else:
            raise ImageError(f"{path} does not exist; check the path.")
        for file in files:
            found.setdefault(os.path.realpath(file), file)
    return sorted(found.values())


def read_ahead(
    paths: Iterable[str | os.PathLike[str]],
    use: Callable[[Path, U8], _Used],
    *,
    ahead: int,
    content: Callable[[str], bytes] | None = None,
    readers: int | None = None,
) -> Iterator[tuple[Path, _Used | str]]:
    """Read image files and make something of them in threads: `decode_ahead` for files.

    Args:
        paths: image files.
        use: see `decode_ahead`.
        ahead: likewise.
        content: likewise; `None` reads the file.
        readers: likewise.

    Returns:
        Each path, in order, with what was made of it, or with the reason why there is nothing.
    """
    names = (os.fspath(Path(path)) for path in paths)
    found = decode_ahead(
        names, content or _content, lambda name, image: use(Path(name), image), ahead=ahead, readers=readers
    )
    for name, used in found:
        yield Path(name), used


def decode_ahead(
    names: Iterable[str],
    content: Callable[[str], bytes],
    use: Callable[[str, U8], _Used],
    *,
    ahead: int,
    readers: int | None = None,
) -> Iterator[tuple[str, _Used | str]]:
    """Decode images and make something of them in threads, while the caller works on earlier ones.

    A photo takes about 7 bytes a pixel while it is decoded, so those above 25 megapixels are decoded one at a time, and
    by one thread, since each keeps some of the memory that it once had.

    Args:
        names: what messages call the images.
        content: reads the encoded image of a name, in any thread.
        use: makes something of a name and its image, which it does not keep, in any thread; a `MagfaceError` of either
            is the failure of its image alone.
        ahead: images that are read or being read, and not yet taken, at most.
        readers: threads, >= 1; `None` for one a core, eight at most.

    Returns:
        Each name, in order, with what was made of it, or with the reason why there is nothing.
    """

    def attempt(name: str) -> tuple[str, _Used | str]:
        try:
            encoded = content(name)
            if _pixels(encoded, name) > _LARGE:
                return name, alone.submit(lambda: use(name, decode(encoded, name=name))).result()
            return name, use(name, decode(encoded, name=name))
        except MagfaceError as error:
            return name, str(error)

    with ThreadPoolExecutor(1) as alone:
        yield from prefetch(attempt, names, workers=readers or READERS, limit=ahead)


def _pixels(content: bytes, name: str) -> int:
    """Pixels of an image by its header; its bytes where the header says nothing, as in a scientific TIFF."""
    try:
        with _opened(content, name) as photo:
            return photo.width * photo.height
    except Exception:  # `decode` says what is wrong with it
        return len(content)


def _content(name: str) -> bytes:
    try:
        status = Path(name).stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size >= _MAX_BYTES:  # a pipe waits, a device never ends
            raise ImageError(f"{name} is a folder, pipe or device, or larger than 2 GB; give an image file.")
        return Path(name).read_bytes()
    except (OSError, ValueError, MemoryError) as error:
        raise ImageError(f"cannot read {name} ({_reason(error)}); check the path.") from error


def walk(folder: Path, extensions: Container[str] = EXTENSIONS) -> Iterator[Path]:
    """Files of a folder as `find` takes them, one by one and in no order.

    Args:
        folder: searched to the bottom.
        extensions: of names, in small letters.

    Raises:
        ImageError: a folder cannot be listed.
    """
    seen = set(folder.resolve().parents)
    for place, folders, files in os.walk(folder, followlinks=True, onerror=_unlisted):
        here = Path(place)
        if here.resolve() in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(here.resolve())
        outputs = {"crops"} if "faces.parquet" in files else set()
        outputs |= {"crops", "people", "unknown"} if {"photos.parquet", "people.json"} <= set(files) else set()
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in outputs)
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in extensions:
                yield here / name


def _unlisted(error: OSError) -> None:
    raise ImageError(f"cannot list the folder {error.filename} ({_reason(error)}); check its permissions.") from error


def _decoded(content: bytes, name: str, max_pixels: int) -> U8:
    pixels = _jpeg(content, name, max_pixels)
    if pixels is not None:
        return pixels
    try:
        photo = _opened(content, name)
    except UnidentifiedImageError:
        if content[:4] not in (b"II*\0", b"MM\0*"):
            raise
        return _scientific_tiff(content, name, max_pixels)
    with photo:
        _check_size(photo.width, photo.height, name, max_pixels)
        photo.load()
        return _upright(_rgb(photo), _orientation(photo))


def _jpeg(content: bytes, name: str, max_pixels: int) -> U8 | None:
    """A sound JPEG, in half the time of Pillow and with the same pixels; None for anything else."""
    if not content.startswith(b"\xff\xd8"):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content, strict=True)
        if colours not in _COLOURS:
            return None
        _check_size(width, height, name, max_pixels)
        pixels = simplejpeg.decode_jpeg(content, "RGB", strict=True)
    except ValueError:  # damaged, or of a rare kind: Pillow reads it, or says what is wrong
        return None
    if b"Exif\0\0" not in content:
        return pixels
    with _opened(content, name) as photo:
        return _upright(pixels, _orientation(photo))


def _opened(content: bytes, name: str) -> Image.Image:
    """Header of an image. The limit of Pillow gives way to our own, which is checked next."""
    if content[4:8] == b"ftyp" and content[8:12] in _HEIC_BRANDS:
        _register_heic(name)
    formats = (*_FORMATS, "HEIF") if "HEIF" in Image.OPEN else _FORMATS
    with _opening:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(io.BytesIO(content), formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _register_heic(name: str) -> None:
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise ImageError(f"{name} is a HEIC photo; pip install magface[heic] to read it.") from error
    register_heif_opener()


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(
            f"{name} has {width} x {height} pixels, more than the limit of {max_pixels}; "
            "make it smaller, or raise max_pixels if you trust the file."
        )


def _orientation(photo: Image.Image) -> int:
    try:
        return int(photo.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF does not spoil the pixels
        return 1


def _upright(pixels: U8, orientation: int) -> U8:
    """Undo an EXIF orientation: 1 to 8, anything else counts as 1."""
    if orientation in (5, 6, 7, 8):
        pixels = cv2.transpose(pixels)
    flips = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}
    return cv2.flip(pixels, flips[orientation]) if orientation in flips else pixels


def _rgb(photo: Image.Image) -> U8:
    if photo.mode.startswith(("I", "F")):
        return _eight_bits(np.asarray(photo))
    if photo.has_transparency_data:
        photo = photo.convert("RGBA")
        paper = Image.new("RGBA", photo.size, "white")
        photo = Image.alpha_composite(paper, photo)
    return _array(photo if photo.mode == "RGB" else photo.convert("RGB"))


def _array(photo: Image.Image) -> U8:
    """Pixels of an RGB image, copied in strips that stay in the processor's cache: four times faster than at once."""
    pixels = np.empty((photo.height, photo.width, 3), np.uint8)
    for top in range(0, photo.height, _STRIP):
        strip = photo.crop((0, top, photo.width, min(top + _STRIP, photo.height)))
        pixels[top : top + _STRIP] = np.asarray(strip)
    return pixels


def _eight_bits(values: NDArray[Any]) -> U8:
    """`(H, W, 3)` uint8 of `(H, W)` or `(H, W, C)` values of another type.

    16 bits go by their full range; others by the narrowest usual range that holds them (1 for floats, 255, 65535), or
    by their largest value. Negative values and NaN are black.
    """
    kind = np.result_type(values.dtype, np.float32)
    scaled = np.nan_to_num(values.astype(kind), posinf=0.0, neginf=0.0)
    peak = scaled.max(initial=0)
    sixteen_bits = values.dtype.kind == "u" and values.dtype.itemsize == 2
    usual = [65535] if sixteen_bits else [1, 255, 65535] if values.dtype.kind == "f" else [255, 65535]
    full = next((level for level in usual if peak <= level), peak)
    grey = (np.clip(scaled, 0, full) / full * 255 + 0.5).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2) if grey.ndim == 2 else np.ascontiguousarray(grey[..., :3])


def _scientific_tiff(content: bytes, name: str, max_pixels: int) -> U8:
    """A TIFF of floating-point colours, which Pillow does not know, by OpenCV."""
    directory = TiffImagePlugin.ImageFileDirectory_v2(content[:8])
    file = io.BytesIO(content)
    file.seek(directory.next)
    directory.load(file)
    width, height = (directory.get(tag) for tag in (TiffImagePlugin.IMAGEWIDTH, TiffImagePlugin.IMAGELENGTH))
    floating = 3 in directory.get(TiffImagePlugin.SAMPLEFORMAT, ())
    if not (floating and width and height):
        raise UnidentifiedImageError
    _check_size(width, height, name, max_pixels)
    values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise UnidentifiedImageError
    if values.ndim == 3:
        values = values[..., 2::-1]
    return _upright(_eight_bits(values), directory.get(_ORIENTATION, 1))


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error).strip().partition("\n")[0] or type(error).__name__
    return text.removesuffix(".")
