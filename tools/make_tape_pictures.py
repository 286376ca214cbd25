"""Make the pages of the five networks of docs/chain_rule.md, and pictures of them where Chromium is installed.

    python tools/make_tape_pictures.py [PAGES_FOLDER]      # pages; pictures go to docs/images/tape_*.png

The networks stand here so that the pages, their tests and their pictures are of the same ones. Pictures need selenium,
Chromium and its driver; without them only the pages are made.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorlite as tl
from tensorlite import nn
from tensorlite.nn import functional as F

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"


def n1() -> Any:
    """A classifier, 2 → 3 (ReLU) → 1 (sigmoid), with cross entropy."""
    x, y = tl.tensor([1.0, 2.0]), tl.tensor([1.0])
    W1 = tl.tensor([[0.5, -0.4], [0.8, 0.2], [-0.6, 0.4]], requires_grad=True)
    b1 = tl.tensor([0.1, 0.0, 0.3], requires_grad=True)
    W2 = tl.tensor([[0.7, -0.5, 0.9]], requires_grad=True)
    b2 = tl.tensor([0.1], requires_grad=True)
    with tl.tape():
        z1 = W1 @ x + b1
        a1 = z1.relu()
        z2 = W2 @ a1 + b2
        p = z2.sigmoid()
        L = F.binary_cross_entropy(p, y)
    return L.tape()


def n2() -> Any:
    """Sigmoid layers, and samples with weights: exclusive or, where the last sample counts three times."""
    x, y = tl.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]]), tl.tensor([[0.0], [1], [1], [0]])
    weight = tl.tensor([[1.0], [1], [1], [3]])
    tl.manual_seed(1)
    W1, b1 = tl.randn(3, 2).requires_grad_(), tl.zeros(3, requires_grad=True)
    W2, b2 = tl.randn(1, 3).requires_grad_(), tl.zeros(1, requires_grad=True)
    with tl.tape():
        a1 = F.linear(x, W1, b1).sigmoid()
        p = F.linear(a1, W2, b2).sigmoid()
        error = -(y * p.log() + (1 - y) * (1 - p).log())
        L = (weight * error).mean()
    return L.tape()


def n3() -> Any:
    """Small enough for pencil and paper: 2 → 2 (ReLU) → 1 (linear)."""
    x, y = tl.tensor([1.0, 2.0]), tl.tensor(3.0)
    W1 = tl.tensor([[0.5, 0.2], [0.3, 0.7]], requires_grad=True)
    b1 = tl.tensor([0.1, 0.2], requires_grad=True)
    W2 = tl.tensor([0.6, 0.9], requires_grad=True)
    b2 = tl.tensor(0.3, requires_grad=True)
    with tl.tape():
        z1 = W1 @ x + b1
        a1 = z1.relu()
        z2 = W2 @ a1 + b2
        L = (z2 - y) ** 2 / 2
    return L.tape()


def n4() -> Any:
    """Sigmoid layers of any depth: 3 → 4 → 4 → 2."""
    tl.manual_seed(0)
    layers = [layer for before, after in ((3, 4), (4, 4), (4, 2)) for layer in (nn.Linear(before, after), nn.Sigmoid())]
    model = nn.Sequential(*layers)
    x, y = tl.tensor([[0.0, 1, 1], [1, 1, 1]]), tl.tensor([[0.0, 0], [1, 1]])
    with tl.tape():
        output = model(x)
        loss = F.mse_loss(output, y)
    return loss.tape()


def n5() -> Any:
    """The framework form: five lines on random data."""
    tl.manual_seed(0)
    x, y = tl.randn(10, 5), tl.randint(0, 2, (10,))
    model = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 2))
    criterion = nn.CrossEntropyLoss()
    with tl.tape():
        prediction = model(x)
        loss = criterion(prediction, y)
    return loss.tape()


NETWORKS: dict[str, Callable[[], Any]] = {"n1": n1, "n2": n2, "n3": n3, "n4": n4, "n5": n5}


def browser(width: int = 1280, height: int = 720) -> Any:
    """A headless Chromium, driven by selenium; None where one of the three is missing."""
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs or importlib.util.find_spec("selenium") is None:
        return None
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    arguments = ["--headless=new", f"--window-size={width},{height}", "--disable-gpu", "--disable-dev-shm-usage",
                 "--hide-scrollbars", "--force-device-scale-factor=1", "--disable-background-networking"]
    if os.getuid() == 0:
        arguments.append("--no-sandbox")  # Chromium's does not run for root
    for argument in arguments:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=programs[1]))


def picture(driver: Any, place: int | None = None, click: str = "") -> bytes:
    """The open page as PNG, after so many steps of the walk, with the panel of the card of a name open."""
    if click:
        card = f"//*[local-name()='g'][contains(@class, 'card')][.//*[text()='{click}']]"
        driver.find_element("xpath", card).click()
    if place is not None:
        driver.execute_script("const s = document.querySelector('#position'); s.value = arguments[0];"
                              "s.dispatchEvent(new Event('input'))", place)
    driver.execute_async_script("setTimeout(arguments[0], 700)")  # until what glides has come to rest
    return driver.get_screenshot_as_png()


def small(png: bytes) -> bytes:
    """The same picture in 256 colours, where Pillow is installed."""
    if importlib.util.find_spec("PIL") is None:
        return png
    from PIL import Image

    packed = io.BytesIO()
    colours = Image.open(io.BytesIO(png)).convert("RGB")
    colours.quantize(256, dither=Image.Dither.NONE).save(packed, "PNG", optimize=True)
    return packed.getvalue()


# Of which page, after how many steps, with which card's panel open.
PICTURES: dict[str, tuple[str, int | None, str]] = {
    "tape_n1": ("n1", None, ""), "tape_n2": ("n2", None, ""), "tape_n3": ("n3", None, ""), "tape_n4": ("n4", None, ""),
    "tape_n5": ("n5", None, ""), "tape_n3_forward": ("n3", 2, "z1"), "tape_n3_backward": ("n3", 14, "a1"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="?", type=Path, help="the folder for the pages; by default a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.pages or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name, network in NETWORKS.items():
            network().to_html(folder / f"tape_{name}.html")
        driver = browser()
        if driver is None:
            print("no pictures: selenium, chromium and chromedriver are needed")
            return
        try:
            for name, (page, place, click) in PICTURES.items():
                driver.get((folder / f"tape_{page}.html").resolve().as_uri())
                data = small(picture(driver, place, click))
                (IMAGES / f"{name}.png").write_bytes(data)
                print(f"{name}.png: {len(data) / 1000:.0f} kB")
        finally:
            driver.quit()


if __name__ == "__main__":
    main()
