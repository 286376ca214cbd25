"""The page of a tape in a real browser: clicked through, walked through, looked at for what must not be there.

Skipped, with a word, where Chromium, its driver or selenium is missing. The networks are those of the pictures.
"""

from __future__ import annotations

import importlib.util
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_tape import TwoOutputs

import tensorlite as tl
from tensorlite import nn
from tensorlite.nn import functional as F

TOOL = Path(__file__).resolve().parent.parent / "tools" / "make_tape_pictures.py"
spec = importlib.util.spec_from_file_location("make_tape_pictures", TOOL)
assert spec is not None and spec.loader is not None
pictures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pictures)

SECONDS_TO_OPEN = 2.0  # promised on an idle machine
PATIENCE = 8.0  # how often slower a busy one may be

COLLECT = """
const seen = window.seen = [];
const texts = () => [...document.querySelectorAll('.has-value .value, .has-delta .delta')]
  .map((part) => part.closest('[role=button]').querySelector('.heading').textContent + ': ' + part.textContent);
const note = () => texts().forEach((text) => seen.some((one) => one[0] === text) ||
  seen.push([text, Number(document.documentElement.dataset.place)]));
new MutationObserver(note).observe(document.documentElement, {attributes: true, attributeFilter: ['data-place']});
"""


@pytest.fixture(scope="module")
def driver(request: pytest.FixtureRequest) -> Iterator[Any]:
    running = pictures.browser()
    if running is None:
        missing = "chromium, chromedriver or selenium is missing: the page of the tape is NOT tested"
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print(f"\n{missing}")
        pytest.skip(missing)
    running.set_script_timeout(60)
    yield running
    running.quit()


def plain(text: str) -> str:
    """What the page says, with a hyphen for the minus sign, x for the cross and ordinary blanks."""
    return text.translate({0x2212: "-", 0xd7: "x", 0xa0: " "})


class Page:
    """An open page."""

    def __init__(self, driver: Any, folder: Path) -> None:
        self.driver = driver
        self.folder = folder

    def open(self, tape: Any) -> Page:
        path = self.folder / "tape.html"
        tape.to_html(path)
        self.driver.get(path.as_uri())
        assert self.js("return document.documentElement.dataset.ready") == "true", self.errors()
        return self

    def js(self, script: str, *args: Any) -> Any:
        return self.driver.execute_script(script, *args)

    def keys(self, *keys: str) -> None:
        for key in keys:
            self.js("(document.activeElement ?? document.body).dispatchEvent("
                    "new KeyboardEvent('keydown', {key: arguments[0], bubbles: true, cancelable: true}))", key)

    def card(self, name: str) -> Any:
        return self.driver.find_element("xpath", "//*[local-name()='g'][@role='button']"
                                                 f"[.//*[local-name()='text'][1][text()='{name}']]")

    def click(self, name: str, event: str = "click") -> None:
        self.js("arguments[0].dispatchEvent(new MouseEvent(arguments[1], {bubbles: true}))", self.card(name), event)

    def text(self, selector: str) -> str:
        return plain(self.js("return (e => e.innerText ?? e.textContent)(document.querySelector(arguments[0]))",
                             selector))

    def count(self, selector: str) -> int:
        return int(self.js("return document.querySelectorAll(arguments[0]).length", selector))

    def section(self, title: str) -> str:
        """The text of a section of the panel."""
        found: str = self.js(
            "return [...document.querySelectorAll('#panel section')]"
            ".find((s) => s.querySelector('h3').innerText.startsWith(arguments[0]))?.innerText ?? ''", title)
        return "\n".join(line for line in plain(found).splitlines()[1:] if line)

    def errors(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]


@pytest.fixture
def page(driver: Any, tmp_path: Path) -> Iterator[Page]:
    driver.get_log("browser")
    opened = Page(driver, tmp_path)
    yield opened
    assert opened.errors() == []


# --- the chain rule ---------------------------------------------------------------------------------------------------

N3_IN_ORDER = ["z1: (1.0, 1.9)", "a1: (1.0, 1.9)", "z2: 2.61", "L: 0.07605", "L: ∂ 1.0", "z2: ∂ -0.39", "b2: ∂ -0.39",
               "W2: ∂ (-0.39, -0.741)", "a1: ∂ (-0.234, -0.351)", "z1: ∂ (-0.234, -0.351)", "b1: ∂ (-0.234, -0.351)",
               "W1: ∂ [[-0.234, -0.468],   [-0.351, -0.702]]"]


def test_every_number_of_n3_appears_in_order_while_it_plays(page: Page) -> None:
    page.open(pictures.n3())
    page.js(COLLECT)
    page.js("document.querySelector('#speed').value = '16'; document.querySelector('#play').click()")
    page.driver.execute_async_script(
        "const done = arguments[0]; const wait = () => document.querySelector('#play.playing') "
        "? setTimeout(wait, 20) : done(); wait()")
    first_seen = {plain(text): place for text, place in page.js("return window.seen")}
    places = [first_seen[text] for text in N3_IN_ORDER]
    assert places == [2, 3, 5, 8, 9, 12, 13, 14, 14, 15, 16, 17]


def test_each_step_of_n3_reads_like_the_chain_rule(page: Page) -> None:
    page.open(pictures.n3())
    page.keys("Home")
    captions = []
    for _ in range(int(page.js("return document.querySelector('#position').max"))):
        page.keys("ArrowRight")
        captions.append(page.text("#caption").replace("   ·   ", "; "))
    assert captions == [
        "W1 @ x = (0.9, 1.7)ᵀ", "z1 = W1 @ x + b1 = (1.0, 1.9)", "a1 = z1.relu() = (1.0, 1.9)", "W2 @ a1 = 2.31",
        "z2 = W2 @ a1 + b2 = 2.61", "z2 - y = -0.39", "(z2 - y)² = 0.1521", "L = (z2 - y) ** 2 / 2 = 0.07605",
        "∂L/∂L = 1.0: backward starts here", "∂L/∂(z2 - y)² = δ / 2 = 0.5", "∂L/∂(z2 - y) = δ·2·(z2 - y) = -0.39",
        "∂L/∂z2 = δ = -0.39", "∂L/∂(W2 @ a1) = δ = -0.39; ∂L/∂b2 = δ = -0.39",
        "∂L/∂W2 = δ @ a1ᵀ = (-0.39, -0.741); ∂L/∂a1 = W2ᵀ @ δ = (-0.234, -0.351)",
        "∂L/∂z1 = δ·[a1 > 0] = (-0.234, -0.351)", "∂L/∂(W1 @ x) = δ = (-0.234, -0.351)ᵀ; ∂L/∂b1 = δ = (-0.234, -0.351)",
        "∂L/∂W1 = δ @ xᵀ = [[-0.234, -0.468], [-0.351, -0.702]]"]


def test_a_graph_that_fits_stays_in_sight_while_it_is_walked(page: Page) -> None:
    page.open(pictures.n3())
    at_first = page.js("return document.querySelector('#content').getAttribute('transform')")
    for key in ("Home", *["ArrowRight"] * 9, "End"):
        page.keys(key)
        page.driver.execute_async_script("setTimeout(arguments[0], 40)")
        assert page.js("return document.querySelector('#content').getAttribute('transform')") == at_first


def test_a_step_shows_the_parameters_that_its_gradients_reach(page: Page) -> None:
    page.open(pictures.n5())
    for key in ("Home", "+", "+", *["ArrowRight"] * 9):  # zoomed in, so that the picture is wider than the window
        page.keys(key)
        page.driver.execute_async_script("setTimeout(arguments[0], 350)")
    lefts = [page.js("return arguments[0].getBoundingClientRect().left", page.card(name)) for name in ("x", "weight")]
    assert page.text("#caption").startswith("∂L/∂0.weight") and min(lefts) > 0


def test_the_panel_shows_how_a_gradient_is_formed(page: Page) -> None:
    page.open(pictures.n3())
    page.click("a1")
    panel = page.text("#panel")
    assert "a1 = z1.relu()" in panel and "make_tape_pictures.py:" in panel and "float32" in panel
    assert page.section("Forward").splitlines() == ["a1 = max(z1, 0)", "= max((1.0, 1.9), 0)", "= (1.0, 1.9)"]
    assert page.section("To z1").splitlines()[:3] == [
        "∂L/∂z1 = δ·[a1 > 0]", "= (-0.234, -0.351)·[(1.0, 1.9) > 0]", "= (-0.234, -0.351)"]
    assert "∂L/∂a1" in page.section("Arriving") and "nothing passes" in page.section("Why")
    assert "out (2) float32, 8 B" in page.section("Saved for backward").replace("\n", " ")
    page.js("[...document.querySelectorAll('#panel .link')].find((link) => link.innerText === 'z1').click()")
    assert page.text("#panel h2") == "z1"
    page.click("W2")
    assert "∂L/∂W2" in page.section("Gradient") and "(-0.39, -0.741)" in page.section("Gradient")
    assert page.section("Used by") == "W2 @ a1"


@pytest.mark.parametrize("name", ["n1", "n2", "n4", "n5"])
def test_the_other_networks_can_be_walked_to_the_end(page: Page, name: str) -> None:
    tape = pictures.NETWORKS[name]()
    page.open(tape)
    page.keys("Home")
    assert page.count(".card.op.has-value") == 0 and page.count(".has-delta") == 0
    while not page.js("return document.querySelector('#step').disabled"):
        page.keys("ArrowRight")
        assert page.count(".current") == 1 and page.text("#caption")
    assert page.count(".card.op:not(.has-value)") == 0 and page.count(".card.parameter:not(.has-delta)") == 0
    tape.tensor.backward()
    for leaf in tape.leaves:
        name = tape.names.of(leaf).partition(".")[2] or tape.names.of(leaf)
        card = page.driver.find_element("xpath", f"//*[@role='button'][starts-with(@aria-label, '{name}, parameter')]")
        page.js("arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true}))", card)
        words = page.section("Gradient").split()
        if "norm" in words:
            shown = float(words[words.index("norm") + 1])
            assert shown == pytest.approx(leaf.grad.norm().item(), rel=1e-3)


# --- folding ----------------------------------------------------------------------------------------------------------


def transformer(layers: int = 12) -> tuple[Any, Any]:
    tl.manual_seed(0)
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 128, batch_first=True), layers)
    x = tl.randn(2, 16, 64)
    with tl.tape():
        loss = model(x).square().mean()
    return loss.tape(), model


def test_twelve_layers_open_fast_folded_to_one_box_and_unfold(page: Page, capsys: pytest.CaptureFixture[str]) -> None:
    tape, _ = transformer()
    page.open(tape)
    seconds = float(page.js("return document.documentElement.dataset.readyAfter")) / 1000
    with capsys.disabled():
        print(f"\n12 layers: open after {seconds:.2f} s, {(page.folder / 'tape.html').stat().st_size / 1e6:.2f} MB")
    assert seconds < SECONDS_TO_OPEN * PATIENCE
    assert (page.folder / "tape.html").stat().st_size < 3_000_000
    assert page.count(".closed") == 1 and page.text(".badge") == "x12"
    page.click("layers.0 … 11")
    panel = page.text("#panel")
    assert "repetition" in panel and "288" in panel and "144, 401,664 numbers" in panel
    page.click("layers.0 … 11", "dblclick")
    assert page.count(".closed") == 12
    page.click("layers.3", "dblclick")
    assert page.count(".closed") > 12 and page.count(".card") > 3
    page.js("document.querySelector('#unfold').click()")
    assert page.count(".closed") == 0 and page.count(".card") > 300
    assert_nothing_overlaps(page)
    page.js("document.querySelector('#fold').click()")
    assert page.count(".card.op") <= 2 and page.count(".closed") == 1
    assert int(page.js("return document.querySelector('#position').max")) < 10


def assert_nothing_overlaps(page: Page) -> None:
    """Cards do not lie on each other, and every edge leads to the right."""
    assert page.js("""
      const cards = [...document.querySelectorAll('.card, .closed')].map((card) => {
        const [x, y] = card.getAttribute('transform').match(/-?\\d[\\d.]*/g).map(Number);
        const front = card.querySelector('.front');
        const [width, height] = ['width', 'height'].map((name) => Number(front.getAttribute(name)));
        return { x, y, width, height, name: card.getAttribute('aria-label') };
      });
      const over = (a, b) => a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
      return cards.flatMap((a, i) => cards.slice(i + 1).filter((b) => over(a, b)).map((b) => [a.name, b.name]));
    """) == []
    assert page.js("""
      return [...document.querySelectorAll('.edge')].filter((edge) => {
        const numbers = edge.getAttribute('d').match(/-?[\\d.]+/g).map(Number);
        return !(numbers[0] <= numbers.at(-2));
      }).length""") == 0


def lenet() -> tuple[Any, Any]:
    tl.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(),
                          nn.AvgPool2d(2), nn.Flatten(), nn.Linear(400, 84), nn.Tanh(), nn.Linear(84, 10))
    images, labels = tl.randn(4, 1, 28, 28), tl.randint(0, 10, (4,))
    with tl.tape():
        loss = F.cross_entropy(model(images), labels)
    return loss.tape(), model


def test_modules_are_boxes_and_large_tensors_histograms(page: Page) -> None:
    tape, _ = lenet()
    page.open(tape)
    assert page.count(".box") == 10  # the model and nine of its parts: the tenth only reshapes
    assert "Conv2d(1, 6" in page.js("return document.querySelectorAll('.box-title')[1].textContent")
    assert_nothing_overlaps(page)
    page.js("document.querySelector('#reshapes').click()")
    assert page.count(".box") == 11 and page.count(".card.minor") == 1
    page.click("conv2d")
    assert page.count("#panel .histogram") >= 2 and page.text("#panel .path").endswith(".0")
    assert "first of 4 x 6 matrices" in page.section("Value") and "norm" in page.section("Arriving")


# --- keys, search, looks ----------------------------------------------------------------------------------------------


def test_all_can_be_done_with_keys(page: Page) -> None:
    tape, _ = transformer(4)
    page.open(tape)
    page.keys("Home")
    assert page.js("return document.documentElement.dataset.place") == "0"
    page.keys(" ")
    assert page.count("#play.playing") == 1
    page.keys(" ")
    assert page.count("#play.playing") == 0
    page.keys("End")
    last = int(page.js("return document.documentElement.dataset.place"))
    page.keys("ArrowLeft", "ArrowLeft", "ArrowRight")
    assert int(page.js("return document.documentElement.dataset.place")) == last - 1
    page.keys("ArrowDown", "ArrowDown")
    assert page.count(".selected") == 1 and page.js("return document.activeElement.matches('.closed.selected')")
    page.keys("Enter")
    assert page.count(".closed") == 4
    page.keys("Escape")
    assert page.count("#panel.empty") == 1
    page.keys("?")
    assert page.js("return document.querySelector('#keys').open")
    page.js("document.querySelector('#keys').close()")
    before = page.js("return document.querySelector('#content').getAttribute('transform')")
    page.keys("+")
    assert page.js("return document.querySelector('#content').getAttribute('transform')") != before


def test_the_mouse_clicks_drags_and_zooms(page: Page) -> None:
    actions = pytest.importorskip("selenium.webdriver").ActionChains(page.driver)
    page.open(pictures.n3())
    place = "return document.querySelector('#content').getAttribute('transform')"
    page.card("z1").click()
    assert page.text("#panel h2") == "z1"
    before = page.js(place)
    actions.drag_and_drop_by_offset(page.card("a1"), -60, 40).perform()
    dragged = page.js(place)
    assert dragged != before and page.text("#panel h2") == "z1"  # a drag is no click
    actions.scroll_from_origin(page_origin(page), 0, -300).perform()
    assert float(page.js(place).split("scale(")[1][:-1]) > float(dragged.split("scale(")[1][:-1])
    page.js("document.querySelector('#graph').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    assert page.count("#panel.empty") == 1


def page_origin(page: Page) -> Any:
    """The middle of the graph, for the wheel."""
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    return ScrollOrigin.from_element(page.driver.find_element("id", "graph"))


def test_search_opens_the_way_to_what_it_finds(page: Page) -> None:
    tape, _ = transformer(4)
    page.open(tape)
    page.keys("/")
    field = page.driver.find_element("id", "search")
    assert page.driver.switch_to.active_element == field
    field.send_keys("layers.2 in_proj_weight")
    assert page.count("#matches [role=option]") == 1
    field.send_keys("\n")
    assert page.text("#panel h2") == "layers.2.self_attn.in_proj_weight" and page.count(".card.selected") == 1
    field.send_keys("nothing like this")
    assert "nothing found" in page.text("#matches")


def test_a_reader_of_the_screen_is_told(page: Page) -> None:
    page.open(pictures.n5())
    assert page.js("return [...document.querySelectorAll('button')].filter("
                   "(b) => !(b.getAttribute('aria-label') ?? b.innerText).trim()).length") == 0
    assert page.count("#graph [role=button]:not([aria-label])") == 0
    assert page.count("#graph [role=button][tabindex='0']") == 1
    assert page.js("return document.querySelector('#caption').ariaLive") == "polite"
    page.keys("ArrowLeft")
    page.keys("ArrowLeft")
    spoken = page.js("return document.querySelector('#position').getAttribute('aria-valuetext')")
    assert "∂L/∂2.weight = δᵀ @ max(linear, 0)" in spoken
    assert page.js("return document.documentElement.lang") == "en"


def test_light_and_dark_and_a_narrow_window(page: Page) -> None:
    page.open(pictures.n3())
    ground = "return getComputedStyle(document.body).backgroundColor"
    first = page.js(ground)
    for scheme in ("dark", "light"):  # as the system has it
        system = {"name": "prefers-color-scheme", "value": scheme}
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [system]})
        page.driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
        assert (page.js(ground) == first) == (scheme == "light")
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    page.js("document.querySelector('#theme').click()")
    assert page.js(ground) != first
    page.js("document.querySelector('#theme').click()")
    assert page.js(ground) == first
    size = page.driver.get_window_size()
    page.driver.set_window_size(520, 800)
    try:
        page.click("z1")
        assert page.js("return document.documentElement.scrollWidth <= innerWidth")
        assert page.js("return document.querySelector('#graph').clientHeight > 100")
        assert page.js("return document.querySelector('#panel').clientHeight > 100")
    finally:
        page.driver.set_window_size(size["width"], size["height"])


# --- what must not happen ---------------------------------------------------------------------------------------------

EVIL = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"


def test_no_name_or_line_can_become_a_script(page: Page, tmp_path: Path) -> None:
    program = tmp_path / "evil.py"
    program.write_text(f"loss = (Evil.apply(model(x)) * w).sum()  # {EVIL}\ntape = loss.tape()\n", encoding="utf-8")

    def forward(ctx: Any, x: Any) -> Any:
        return x * 2.0

    function = type(EVIL, (tl.autograd.Function,), {
        "forward": staticmethod(forward), "backward": staticmethod(lambda ctx, g: g * 2.0)})
    model = type(EVIL, (nn.Sequential,), {})()
    model.add_module(EVIL.replace(".", ""), nn.Linear(2, 2))
    names = {"Evil": function, "model": model, "x": tl.ones(1, 2), "w": tl.ones(2, requires_grad=True)}
    with tl.tape():
        tape = runpy.run_path(str(program), names)["tape"]
    page.open(tape)
    page.js("document.querySelector('#unfold').click()")
    for item in page.driver.find_elements("css selector", "#graph [role=button]"):
        page.js("arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true}))", item)
    page.keys("Home", *["ArrowRight"] * 10)
    page.driver.find_element("id", "search").send_keys("script")
    assert page.count("#matches [role=option]") > 0
    assert page.js("return window.hacked") is None
    assert page.count("script") == 2 and page.count("img") == 0
    assert "</script>" in page.text("#matches")


def test_a_page_needs_no_network_and_runs_no_other_script(page: Page) -> None:
    page.open(pictures.n3())
    text = (page.folder / "tape.html").read_text(encoding="utf-8")
    assert "http:" not in text.replace("http://www.w3.org/2000/svg", "") and "https:" not in text
    assert "default-src 'none'" in text
    page.js("const s = document.createElement('script'); s.textContent = 'window.hacked = 1'; document.body.append(s)")
    assert page.js("return window.hacked") is None
    assert "Content Security Policy" in " ".join(page.errors())


def test_a_graph_that_is_freed_or_was_not_watched_says_so(page: Page) -> None:
    w = tl.ones(3, requires_grad=True)
    loss = (w * w).exp().sum()
    page.open(loss.tape())
    assert "with tl.tape()" in page.text("#notes") and page.count(".has-delta") > 0
    page.click("mul")
    assert "not kept" in page.text("#panel") or page.section("Value") == ""
    loss.backward()
    page.open(loss.tape())
    assert "second time" in page.text("#notes") and page.count(".has-delta") <= 2
    page.click("mul")
    assert "freed" in page.section("Saved")
    page.keys("Home", "ArrowRight", "End")


def watched(function: Callable[[Any], Any], *shape: int) -> Any:
    w = tl.ones(*shape, requires_grad=True)
    with tl.tape():
        loss = function(w)
    return loss.tape()


ODD: dict[str, Callable[[], Any]] = {
    "several numbers": lambda: watched(lambda w: w * 2.0, 3),
    "empty": lambda: watched(lambda w: (w * 2.0).sum(), 0, 3),
    "nan and inf": lambda: watched(lambda w: ((w - 1.0) / 0.0 + w.new_tensor([1.0, float("inf")])).sum(), 2),
    "one operation": lambda: watched(lambda w: w.sum(), 2),
    "used twice": lambda: watched(lambda w: (w * w + w).sum(), 2),
    "two results": lambda: watched(lambda w: (lambda pair: (pair[0] * pair[1]).sum())(TwoOutputs.apply(w)), 2),
    "only a view": lambda: watched(lambda w: w.reshape(()), 1),
    "a long loop": lambda: watched(lambda w: [w := w * 1.5 for _ in range(60)][-1].sum(), 2),
    "checkpoint": lambda: watched(lambda w: tl.autograd.checkpoint(lambda t: (t * 2).exp(), w).sum(), 2),
    "half precision": lambda: watched(lambda w: (w.to(tl.bfloat16) * 2.0).sum(), 70),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_graphs_open_and_can_be_walked(page: Page, name: str) -> None:
    page.open(ODD[name]())
    page.keys("Home", *["ArrowRight"] * 6, "End", "u")
    for item in page.driver.find_elements("css selector", "#graph [role=button]")[:8]:
        page.js("arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true}))", item)
        assert page.text("#panel h2")
    assert_nothing_overlaps(page)
    if name == "several numbers":
        assert "sum of its elements" in page.text("#notes")
    if name == "two results":
        page.click("TwoOutputs")
        assert "def backward" in page.js("return document.querySelector('#panel details pre').textContent")
