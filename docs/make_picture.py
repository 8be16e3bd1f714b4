"""Take docs/report.png: the report on the photos of the demonstration, as Chromium shows it.

Example: python docs/make_picture.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from magface import Recognizer, analyze

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "report.png"
WIDTH, HEIGHT = 1080, 1500


def main() -> None:
    """Write the photos, the report and the picture; only the picture is kept."""
    with tempfile.TemporaryDirectory() as place:
        photos = Path(place, "demo", "photos")
        subprocess.run([sys.executable, str(ROOT / "examples" / "demo_photos.py"), str(photos)], check=True)
        report = analyze(Recognizer(), sorted(photos.iterdir()), Path(place, "demo", "report")).report
        report.write_text(report.read_text(encoding="utf-8").replace(f"{place}/", ""), encoding="utf-8")
        shot = Path(place, "shot.png")
        options = ["--headless=new", "--no-sandbox", "--hide-scrollbars", f"--user-data-dir={place}/profile"]
        size = f"--window-size={WIDTH},{HEIGHT}"
        subprocess.run(
            ["chromium", *options, size, f"--screenshot={shot}", report.as_uri()],
            check=True,
            stderr=subprocess.DEVNULL,
            timeout=120,
        )
        with Image.open(shot) as picture:
            few = picture.convert("RGB").quantize(256, dither=Image.Dither.FLOYDSTEINBERG)
        few.save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
