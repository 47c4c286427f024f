"""The pages as pictures, light, dark and on a phone: python .ci/screenshots.py OUT FOLDER.

FOLDER holds zoo.html and report.html; OUT gets the pictures, those of many bytes with 256 colours.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

MOST = 300_000  # bytes
DESKTOP, PHONE = {"width": 1380, "height": 1240}, {"width": 390, "height": 1000}
SCENES = {  # the page, its width, its colours, what is scrolled to
    "zoo_light": ("zoo.html", DESKTOP, "light", None),
    "zoo_dark": ("zoo.html", DESKTOP, "dark", None),
    "zoo_table": ("zoo.html", DESKTOP, "light", "#table"),
    "zoo_phone": ("zoo.html", PHONE, "light", "#table"),
    "verification_light": ("report.html", DESKTOP, "light", None),
    "verification_dark": ("report.html", DESKTOP, "dark", None),
    "verification_phone": ("report.html", PHONE, "light", None),
}


def main() -> None:
    out, folder = Path(sys.argv[1]), Path(sys.argv[2])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (page_file, size, scheme, place) in SCENES.items():
            scale = 2 if size is PHONE else 1
            page = browser.new_page(viewport=size, color_scheme=scheme, device_scale_factor=scale)
            page.goto((folder / page_file).resolve().as_uri())
            if place:
                page.evaluate("place => document.querySelector(place).scrollIntoView()", place)
            picture = Image.open(io.BytesIO(page.screenshot()))
            path = out / f"{name}.png"
            picture = picture.convert("RGB")
            picture.save(path, optimize=True)
            if path.stat().st_size > MOST:
                picture.quantize(256).save(path, optimize=True)
            print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
