"""Frames with their times, upright; hostile files end in a sentence, or where they are damaged."""

import itertools
import os
import shutil
import struct
import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from magface import video
from magface.errors import ImageError
from magface.video import Video, is_video

FPS, COUNT, SIZE = 10, 40, (64, 48)


def write(path, images, fps=FPS, code="mp4v"):
    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*code), fps, (width, height))
    assert writer.isOpened()
    for image in images:
        writer.write(image[..., ::-1])
    writer.release()
    return path


def numbered(count=COUNT, size=SIZE):
    """Frames that say their number by their grey, and up by a red stripe at the top."""
    for number in range(count):
        image = np.full((size[1], size[0], 3), 5 * number, np.uint8)
        image[: size[1] // 4] = (255, 0, 0)
        yield image


def number(image):
    return round(float(image[len(image) // 2 :].mean()) / 5)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write(tmp_path_factory.mktemp("video") / "clip.mp4", list(numbered()))


def turned(content, degrees):
    """Content of an MP4 whose track says that it is to be shown turned clockwise."""
    cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    start = content.index(b"tkhd") + 4 + 40
    matrix = struct.pack(">9i", cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30)
    return content[:start] + matrix + content[start + len(matrix) :]


def test_frames_come_in_order_with_their_times(clip):
    found = list(Video(clip).every(1))
    assert [frame.index for frame in found] == list(range(COUNT))
    assert [number(frame.image) for frame in found] == pytest.approx(list(range(COUNT)), abs=1)
    np.testing.assert_allclose([frame.seconds for frame in found], np.arange(COUNT) / FPS, atol=1e-6)
    assert found[0].image.shape == (SIZE[1], SIZE[0], 3)
    red = found[0].image[4].mean(axis=0)
    assert red[0] > 200 > 60 > red[2]


def test_a_video_says_its_length(clip):
    found = Video(clip)
    assert (found.count, found.seconds, found.early) == (COUNT, COUNT / FPS, "")
    list(found.every(1))
    assert found.early == ""


@pytest.mark.parametrize("every", [1, 3, 39, 40, 1000])
def test_one_of_so_many(clip, every):
    assert [frame.index for frame in Video(clip).every(every)] == list(range(0, COUNT, every))


@pytest.mark.parametrize(
    ("fps", "wanted"), [(5, range(0, 40, 2)), (1, range(0, 40, 10)), (1000, range(40)), (0.3, [0, 34])]
)
def test_so_many_a_second(clip, fps, wanted):
    assert [frame.index for frame in Video(clip).rate(fps)] == list(wanted)


def test_frames_that_come_unevenly_are_chosen_by_their_time(clip, monkeypatch):
    """Ten frames in the first tenth of a second, then one every second."""
    times = [*np.arange(10) / 100, *np.arange(1.0, 31.0)]
    fake(monkeypatch, times)
    assert [frame.index for frame in Video(clip).rate(1)] == [0, *range(10, 40)]
    assert [frame.seconds for frame in Video(clip).rate(1)] == pytest.approx([0, *times[10:]])


class Fake:
    """A capture whose times are made up."""

    def __init__(self, times):
        self.times, self.at = times, -1

    def isOpened(self):
        return True

    def set(self, *_):
        return True

    def get(self, what):
        known = {cv2.CAP_PROP_POS_MSEC: 1000 * self.times[max(self.at, 0)], cv2.CAP_PROP_FPS: FPS}
        return known.get(what, 48)

    def grab(self):
        self.at += 1
        return self.at < len(self.times)

    def retrieve(self):
        return True, np.zeros((48, 64, 3), np.uint8)

    def release(self):
        pass


def fake(monkeypatch, times):
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: Fake(times))


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=30), st.floats(0.01, 1000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_times_rise_and_are_finite(clip, times, fps):
    with pytest.MonkeyPatch.context() as patch:
        fake(patch, times)
        seconds = [frame.seconds for frame in Video(clip).every(1)]
        assert len(seconds) == len(times)
        assert np.isfinite(seconds).all()
        assert all(a <= b for a, b in itertools.pairwise(seconds))
        assert seconds[0] >= 0
        chosen = [frame.index for frame in Video(clip).rate(fps)]
        assert set(chosen) <= set(range(len(times)))


def test_a_file_without_times_goes_on_at_its_pace(clip, monkeypatch):
    fake(monkeypatch, [0.0] * 30)
    np.testing.assert_allclose([frame.seconds for frame in Video(clip).every(1)], np.arange(30) / FPS, atol=1e-9)
    assert [frame.index for frame in Video(clip).rate(5)] == list(range(0, 30, 2))


def test_frames_by_index_stop_at_the_last(clip):
    every = list(Video(clip).every(1))
    found = list(Video(clip).at({30, 7}))
    assert [frame.index for frame in found] == [7, 30]
    for frame in found:
        np.testing.assert_array_equal(frame.image, every[frame.index].image)
    assert list(Video(clip).at([])) == []
    assert [frame.index for frame in Video(clip).at([3, 4000])] == [3]
    found = Video(clip)
    list(found.at([3]))
    assert found.early == ""


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_frames_are_turned_upright(clip, tmp_path, degrees):
    path = tmp_path / "turned.mp4"
    path.write_bytes(turned(clip.read_bytes(), degrees))
    plain, found = next(Video(clip).every(1)).image, next(Video(path).every(1)).image
    np.testing.assert_array_equal(found, np.rot90(plain, -degrees // 90))


@pytest.mark.parametrize(
    ("name", "code"), [("a.avi", "MJPG"), ("a.mkv", "mp4v"), ("a.webm", "vp80"), ("a.dat", "mp4v")]
)
def test_the_content_decides(clip, tmp_path, name, code):
    path = tmp_path / name
    if name == "a.dat":
        path.write_bytes(clip.read_bytes())
    else:
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*code), FPS, SIZE)
        if not writer.isOpened():
            pytest.skip(f"this OpenCV does not write {code}")
        for image in numbered():
            writer.write(image)
        writer.release()
    assert is_video(path)
    assert len(list(Video(path).every(1))) == COUNT


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no video",
        b"\xff\xd8\xff\xe0 a photo",
        b"#EXTM3U\n#EXTINF:10,\n/etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"\x00\x00\x00\x18ftypheic" + bytes(100),
        b"\x00\x00\x00\x1cftypavif" + bytes(100),
    ],
)
def test_what_is_no_video_is_a_sentence(tmp_path, content, capfd):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    assert not is_video(path)
    with pytest.raises(ImageError, match="is not a video that can be read"):
        Video(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "start", [b"\x00\x00\x00\x18ftypisom", b"\x1a\x45\xdf\xa3", b"RIFF\x10\x00\x00\x00AVI ", b"FLV\x01"]
)
def test_a_start_alone_is_damaged_and_says_nothing_else(tmp_path, start):
    path = tmp_path / "clip.mp4"
    path.write_bytes(start + bytes(1000))
    with pytest.raises(ImageError, match=r"clip\.mp4 is damaged, incomplete or of an unknown kind"):
        list(Video(path).every(1))
    code = "import sys; from magface.video import Video; Video(sys.argv[1])"  # decoders begin to be quiet or loud once
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.splitlines()[-1].startswith("magface.errors.ImageError: ")
    assert not any(line.startswith("[") for line in done.stderr.splitlines())


def test_a_folder_a_pipe_and_nothing_are_a_sentence(tmp_path):
    with pytest.raises(ImageError, match="is a folder, pipe or device"):
        is_video(tmp_path)
    with pytest.raises(ImageError, match="No such file"):
        Video(tmp_path / "none.mp4")


def test_a_name_that_is_not_unicode_is_a_sentence(clip, tmp_path):
    path = tmp_path / os.fsdecode(b"od\xffd.mp4")
    try:
        path.write_bytes(clip.read_bytes())
    except OSError:
        pytest.skip("needs a file system that takes any name")
    with pytest.raises(ImageError, match="rename it"):
        Video(path)


@pytest.mark.parametrize("name", ["a%03d.mp4", "a%03d.jpg", "two\nlines.mp4", "concat:a.mp4", "höß 🙂.mp4"])
def test_a_name_is_that_of_one_file(clip, tmp_path, monkeypatch, name):
    (tmp_path / "a001.jpg").write_bytes(b"\xff\xd8\xff another")
    monkeypatch.chdir(tmp_path)
    shutil.copy(clip, name)
    if name == "a%03d.jpg":  # of many pictures
        with pytest.raises(ImageError, match="rename it"):
            Video(name)
    else:
        assert len(list(Video(name).every(1))) == COUNT


def test_an_incomplete_video_gives_what_it_has_and_says_so(tmp_path):
    whole = write(tmp_path / "whole.avi", list(numbered()), code="MJPG")
    path = tmp_path / "cut.avi"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    found = Video(path)
    read = list(found.every(1))
    assert 0 < len(read) < COUNT
    assert f"cut.avi ends after {read[-1].seconds:.1f} of 4.0 seconds" in found.early


def test_frames_that_are_too_large_are_refused(clip, monkeypatch):
    monkeypatch.setattr(video, "MAX_PIXELS", SIZE[0] * SIZE[1] - 1)
    with pytest.raises(ImageError, match="frames of 64 x 48 pixels, more than the limit"):
        Video(clip)


def test_there_are_never_more_frames_than_bytes(clip, monkeypatch):
    fake(monkeypatch, [0.0] * 10**6)
    found = Video(clip)
    found._bytes = 1000
    assert sum(1 for _ in found.every(1)) == 1001


@given(st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_gives_frames_or_a_sentence(clip, tmp_path, data):
    content = bytearray(clip.read_bytes())
    for place in data.draw(st.lists(st.integers(4, len(content) - 1), min_size=1, max_size=40)):
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.mp4"
    path.write_bytes(content[: data.draw(st.integers(12, len(content)))])
    try:
        seen = [frame.image.shape[2] for frame in Video(path).every(1)]
    except ImageError:
        return
    assert set(seen) == {3}
