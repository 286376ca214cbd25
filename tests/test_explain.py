"""tl.explain: what it can be asked for, what it says, and that what it reads from the source is what runs."""

from __future__ import annotations

import html.parser
import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_cards import CARDS, DIFFERENTIABLE_OPS, run_rows

import tensorlite as tl
import tensorlite.nn.functional as F
from tensorlite import nn, ops
from tensorlite.autograd.op import Op
from tensorlite.backends import cpu, get
from tensorlite.insight import costs
from tensorlite.insight.cards.dialect import evaluate
from tensorlite.insight.cards.mathml import mathml
from tensorlite.insight.cards.pretty import pretty
from tensorlite.insight.explanation import facts, sources

x = tl.ones(2, requires_grad=True)


class Twice(nn.Module):
    def forward(self, x: tl.Tensor) -> tl.Tensor:
        return F.relu(x) * 2


@pytest.mark.parametrize(("asked", "name"), [
    ("relu", "relu"), (tl.relu, "relu"), (F.relu, "relu"), (tl.Tensor.relu, "relu"), (x.relu, "relu"),
    (ops.relu, "relu"), (nn.ReLU, "relu"), (nn.ReLU(), "relu"), (tl.relu(x).grad_fn, "relu"), (tl.relu(x), "relu"),
    ("tl.relu", "relu"), ("torch.nn.functional.relu", "relu"), ("Tensor.relu_", "relu"), ("nn.ReLU()", "relu"),
    ("ReluBackward0", "relu"), ("LogSoftmaxBackward0", "log_softmax"), (tl.sum, "sum"), (tl.Tensor.softmax, "softmax"),
    ("clip", "clamp"), ("arctan2", "atan2"), (tl.matmul, "matmul"), (x @ x, "reshape"), (x[0], "slice"),
    (nn.Linear(2, 3), "linear"), (nn.LSTM, "lstm"), (nn.GRU(2, 3), "gru"), (nn.Flatten, "flatten"),
    (nn.MultiheadAttention, "scaled_dot_product_attention"), (nn.BatchNorm1d, "batch_norm"), (nn.MSELoss(), "mse_loss"),
    (nn.BCEWithLogitsLoss, "binary_cross_entropy_with_logits"), (F.unfold, "F.unfold"), (nn.Unfold, "F.unfold"),
    ("F.unfold", "F.unfold"), ("unfold", "unfold"), (tl.Tensor.unfold, "unfold"), (F.cross_entropy, "cross_entropy"),
    (tl.randn(2, 3).matmul, "matmul"), (F.gelu, "gelu"), (tl.stack, "stack"),
], ids=str)
def test_what_can_be_asked_for(asked: Any, name: str) -> None:
    assert tl.explain(asked).card is CARDS[name]


NOT_ONE_OPERATION = {"Module", "ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential", "Identity",
                     "SinusoidalEncoding", "RNNBase", "RNNCellBase", "Transformer", "TransformerDecoder",
                     "TransformerDecoderLayer", "TransformerEncoder", "TransformerEncoderLayer"}
LAYERS = [value for value in vars(nn).values() if isinstance(value, type) and issubclass(value, nn.Module)]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)
def test_every_layer_that_is_one_operation_has_a_card(layer: type[nn.Module]) -> None:
    if layer.__name__ in NOT_ONE_OPERATION:
        with pytest.raises(tl.ArgumentError, match="is not one operation; explain a layer"):
            tl.explain(layer)
    else:
        assert tl.explain(layer).parts


@pytest.mark.parametrize(("asked", "message"), [
    ("rulu", "no card for 'rulu'.*did you mean 'relu'"), ("F.sofmax", "did you mean 'softmax'"),
    (tl.argmax, "no card for 'argmax', or it has no derivative"), ("qqqq", "CARDS lists all"),
    (3, "expected the name of an operation.*got int"), (Twice, "Twice is not one operation"),
    (Twice(), "Twice is not one operation"), (x, "got Tensor"), (print, "no card for 'print'"),
], ids=str)
def test_what_has_no_card_is_refused_in_words(asked: Any, message: str) -> None:
    with pytest.raises(tl.ArgumentError, match=message):
        tl.explain(asked)


def test_a_card_in_the_terminal_says_everything() -> None:
    text = repr(tl.explain("relu"))
    assert text.splitlines()[0] == "op 'relu'"
    for piece in ("max(x, 0)", "∂L/∂x = g·[out > 0]", "so only the result is kept for backward", "0 at x = 0",
                  "any shape", "8 bytes per element of float32, 4 read and 4 written",
                  "lambda g, out: relu_grad(g, out)", 'return be.elementwise("relu", x)', "np.maximum(x,",
                  "struct relu {", "struct relu_grad {", "return y <= T(0) ? T(0) : g;"):
        assert piece in text, piece
    assert max(map(len, text.partition("forward")[0].splitlines())) <= 100
    titles = [part.title for part in tl.explain("relu").parts]
    assert titles == ["formula", "derivatives", "where", "derivation", "subgradient", "shapes", "dtypes", "costs",
                      "forward", "rules", "on the CPU", "on CUDA", "audit"]


def test_a_composed_function_says_of_what_it_is_made() -> None:
    text = repr(tl.explain(F.mse_loss))
    assert text.startswith("function 'mse_loss'")
    assert "made of      sub, square, mean, sum" in text and "∂L/∂input = 2·d·s" in text


def test_nodes_of_a_users_functions_are_refused_in_words() -> None:
    node = Cube.apply(x).grad_fn
    with pytest.raises(tl.ArgumentError, match="is a result of your autograd"):
        tl.explain(node)


@pytest.mark.parametrize("name", sorted(CARDS))
def test_every_card_can_be_shown(name: str) -> None:
    explanation = tl.explain(name)
    assert CARDS[name].derivation.split()[0] in repr(explanation)
    check_html(explanation._repr_html_())


def doubled(x: np.ndarray) -> np.ndarray:
    """2x."""
    return 2 * x


def test_an_operation_of_a_user_says_what_is_known_of_it() -> None:
    relu = tl.kernel("relu_of_mine", "x + x", reference=doubled, derivative=lambda g: g * 2)
    relu.name = "relu"  # a name that the library has
    text = repr(tl.explain(relu(x).grad_fn))
    for piece in ("out = 2x.", "∂L/∂x = by the rule below", "lambda g: g * 2", "return 2 * x", "# test_explain.py:"):
        assert piece in text, piece
    assert "max(x, 0)" not in text


class Cube(tl.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: tl.Tensor) -> tl.Tensor:
        return x * x * x

    @staticmethod
    def backward(ctx: Any, g: tl.Tensor) -> tl.Tensor:
        return g


def test_where_kernel_sources_are_missing_the_rest_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Path:
        raise tl.TensorliteError("kernel sources not found")

    monkeypatch.setattr(sources.kernel_sources, "folder", missing)
    text = repr(tl.explain("exp"))
    assert "on CUDA" not in text and "on the CPU" in text


@pytest.mark.parametrize(("name", "said"), [
    ("exp", "int64 -> float32; float16"), ("add", "brought to their common one"), ("neg", "bool refused"),
    ("maximum", "kept"), ("sigmoid", "bool, uint8, int8, int16, int32, int64 -> float32"), ("linear", "autocast"),
])
def test_dtypes_are_those_that_the_op_takes(name: str, said: str) -> None:
    (part,) = [part for part in tl.explain(name).parts if part.title == "dtypes"]
    assert said in "; ".join(part.lines)


# --- what is read from the source ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(DIFFERENTIABLE_OPS))
def test_every_rule_and_kernel_has_its_source(name: str) -> None:
    op = DIFFERENTIABLE_OPS[name]
    rules = sources.rules_of(op)
    assert {part for key in rules for part in key.split(", ")} == set(op.rule_of)
    for source in (sources.forward_of(op), *rules.values()):
        path, _, line = source.place.partition(":")
        file = Path(tl.__file__).parent.parent / path
        assert source.text.splitlines()[0] in file.read_text().splitlines()[int(line) - 1] + "\n" + "\n".join(
            file.read_text().splitlines()[int(line) - 1:int(line) + 3])
    for kernel in sources.kernels_of(op):
        assert sources.cpu_kernel(kernel).text
        source = sources.cuda_kernel(kernel)
        assert source.place.startswith("kernels/") and source.text


def test_the_source_of_a_lambda_is_that_lambda() -> None:
    rules = sources.rules_of(DIFFERENTIABLE_OPS["atan2"])
    assert rules["x"].text == "lambda g, x, y: mul(g, _div(y, _square_radius(x, y)))"
    assert rules["y"].text == "lambda g, x, y: neg(mul(g, _div(x, _square_radius(x, y))))"
    assert sources.rules_of(DIFFERENTIABLE_OPS["add"])["x"].text == "lambda g: g"


class Listener:
    """Notes the kernels that run while an op's forward function does; for `run_rows`."""

    def __init__(self) -> None:
        self.ran: dict[str, set[str]] = {}
        self.call = Op.__call__
        self.backend = get("cpu")
        self.inside: str | None = None

    def __enter__(self) -> Listener:
        self.backend.observers = (*self.backend.observers, self.hear)
        Op.__call__ = lambda op, *inputs, **params: self.watch(op, inputs, params)
        return self

    def __exit__(self, *exc: Any) -> None:
        Op.__call__ = self.call
        self.backend.observers = self.backend.observers[:-1]

    def hear(self, backend: Any, kernel: str, *_: Any) -> None:
        if self.inside is not None:
            self.ran.setdefault(self.inside, set()).add(kernel)

    def watch(self, op: Op, inputs: tuple[Any, ...], params: dict[str, Any]) -> Any:
        before, forward = self.inside, op.forward

        def within(*args: Any, **kwargs: Any) -> Any:
            self.inside = op.name
            try:
                return forward(*args, **kwargs)
            finally:
                self.inside = before

        op.forward = within
        try:
            return self.call(op, *inputs, **params)
        finally:
            op.forward = forward


NAMED_BY_A_PARAMETER = {"rnn": ("relu", "tanh")}


def test_the_kernels_that_are_shown_are_those_that_run() -> None:
    listener = run_rows(Listener())
    assert len(listener.ran) > 90
    for name, ran in listener.ran.items():
        if name in DIFFERENTIABLE_OPS:
            shown = sources.kernels_of(DIFFERENTIABLE_OPS[name])
            known = {*shown, "copy", *NAMED_BY_A_PARAMETER.get(name, ())}  # copies are made of what is not dense
            assert ran <= known, name
            assert not ran - {"copy"} or shown[0] in ran, name


@pytest.mark.parametrize("kernel", sorted(facts.PRODUCTS))
def test_flops_are_those_that_the_profiler_counts(kernel: str) -> None:
    product = facts.PRODUCTS[kernel]
    counted = facts.cost_of_example(kernel).flops
    assert evaluate(product.flops, product.sizes) == counted > 0
    assert f"{counted:,} flops" in facts.costs_of(kernel)


def test_every_kernel_whose_flops_are_counted_is_explained() -> None:
    assert set(facts.PRODUCTS) >= (costs.PRODUCTS | costs.CONVOLUTIONS) & set(cpu.KERNELS)


# --- the audit, the page, the typesetting ----------------------------------------------------------------------------


def test_the_rows_of_the_audit_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"op": "exp", "dtype": "float32", "device": "cpu", "forward_ulp": 0.5, "gradient_error": 2, "note": "libm",
           "double_gradient": "ok", "parity": {"same": "values nan"}, "captured": "same"}
    other = {**row, "device": "cuda:sim", "forward_ulp": None, "gradient_error": None,
             "parity": {"same": "values inf", "differs": "nan"}}
    monkeypatch.setattr(facts, "_audit", lambda: [row, other, {**row, "op": "log"}])
    text = repr(tl.explain("exp"))
    (head,) = [line for line in text.splitlines() if "dtype" in line and "ulp" in line]
    assert head.split() == ["dtype", "device", "ulp", "gradient", "second", "PyTorch", "captured", "why"]
    lines = [line.split() for line in text.splitlines() if line.strip().startswith("float32 ")]
    assert lines == [["float32", "cpu", "0.5", "2", "ok", "same", "same", "libm"],
                     ["float32", "cuda:sim", "∞", "ok", "same:", "values,", "inf;", "differs:", "nan", "same", "libm"]]
    assert "not audited" in repr(tl.explain("sqrt"))
    check_html(tl.explain("exp")._repr_html_())


def test_the_published_audit_reads_well() -> None:
    (audit,) = [part for part in tl.explain("tanh").parts if part.title == "audit"]
    head, _, *rows = audit.sources[0].text.splitlines()
    place = head.index("PyTorch")
    assert {row[place:].split()[0] for row in rows} == {"same"}


def test_the_audit_that_is_shown_is_that_of_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text('{"environment": {}, "rows": [{"op": "exp", "dtype": "float16"}]}')
    monkeypatch.setattr(facts.resources, "files", lambda package: tmp_path)
    facts._audit.cache_clear()
    assert facts.audit_of("exp") == [{"op": "exp", "dtype": "float16"}]
    (tmp_path / "audit.json").unlink()
    facts._audit.cache_clear()
    assert facts.audit_of("exp") == []
    facts._audit.cache_clear()


class Reader(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        assert not {name for name, _ in attrs} & {"src", "href"}, "the page loads something"
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check_html(text: str) -> None:
    reader = Reader()
    reader.feed(text)
    assert not reader.open and "script" not in reader.tags and "url(" not in text


def test_the_page_is_one_file(tmp_path: Path) -> None:
    tl.explain("relu").to_html(tmp_path / "relu.html")
    text = (tmp_path / "relu.html").read_text(encoding="utf-8")
    check_html(text)
    assert "∂L/∂x = g·[out &gt; 0]" in text and "template &lt;class T&gt;" in text
    assert re.search(r"<title>relu · tensorlite</title>", text)


@pytest.mark.parametrize(("name", "lifted"), [("relu", (1, 2)), ("log", (1, 1)), ("tan", (3, 3)), ("floor", (9, 1))])
def test_functions_of_a_number_are_drawn(name: str, lifted: tuple[int, int]) -> None:
    curves = re.findall(r' d="(M[^"]*)"/>', tl.explain(name)._repr_html_())[1:]
    assert len(curves) == 2
    for curve in curves:
        points = [tuple(map(float, point.split())) for point in re.findall(r"[ML]([-\d.]+ [-\d.]+)", curve)]
        assert len(points) > 100 and all(0 <= a <= 560 and -20 <= b <= 280 for a, b in points)
    assert (curves[0].count("M"), curves[1].count("M")) == lifted


@pytest.mark.parametrize("name", ["linear", "where", "clamp", "sum", "mse_loss", "rnn"])
def test_other_functions_are_not_drawn(name: str) -> None:
    assert "<svg" not in tl.explain(name)._repr_html_()


@pytest.mark.parametrize(("formula", "piece"), [
    ("exp(-x)", "<msup><mi>e</mi><mrow><mo>-</mo><mi>x</mi></mrow></msup>"),
    ("sqrt(x + 1)", "<msqrt><mi>x</mi><mo>+</mo><mn>1</mn></msqrt>"),
    ("g*(a + b)", "<mi>g</mi><mo>·</mo><mrow><mo>(</mo><mi>a</mi><mo>+</mo><mi>b</mi><mo>)</mo></mrow>"),
    ("a - (b - c)", "<mo>(</mo><mi>b</mi><mo>-</mo><mi>c</mi><mo>)</mo>"),
    ("g*(x < 0)", "<mrow><mo>[</mo><mi>x</mi><mo>&lt;</mo><mn>0</mn><mo>]</mo></mrow>"),
    ("where(x > 0, 1, a)", "<mtable><mtr><mtd><mn>1</mn></mtd><mtd><mtext>where&nbsp;</mtext>"),
    ("einsum('ij,jk->ik', x, y)", "<munder><mo>∑</mo><mi>j</mi></munder>"),
    ("(a + b)**2", "<mo>(</mo><mi>a</mi><mo>+</mo><mi>b</mi><mo>)</mo></mrow></mrow><mrow><mn>2</mn></mrow></msup>"),
    ("s*(q @ k)", "<mrow><mo>(</mo><mi>q</mi><mo>@</mo><mi>k</mi><mo>)</mo></mrow>"),
    ("abs(x)", "<mrow><mo>|</mo><mi>x</mi><mo>|</mo></mrow>"),
    ("T(x)", "<msup><mrow><mi>x</mi></mrow><mi>T</mi></msup>"),
])
def test_formulas_are_set_as_mathematics(formula: str, piece: str) -> None:
    assert piece in mathml(formula)
    check_html(mathml(formula, "∂L/∂x"))


@pytest.mark.parametrize(("formula", "text"), [
    ("a*(b + c)", "a·(b + c)"), ("a - (b - c)", "a - (b - c)"), ("a/(b*c)", "a / (b·c)"), ("a/b*c", "(a / b)·c"),
    ("a*b/c", "a·b / c"), ("-a*b", "-a·b"), ("-(a + b)", "-(a + b)"), ("x**2", "x²"), ("(x + 1)**2", "(x + 1)²"),
    ("x**(y - 1)", "x^(y - 1)"), ("sqrt(x)", "√x"), ("sqrt(x + 1)", "√(x + 1)"), ("abs(x)", "|x|"),
    ("sum(g*out)", "Σ (g·out)"), ("sum(x == out)", "Σ [x = out]"), ("where(x > 0, 1, a)", "1 where x > 0, else a"),
    ("g*where(x > 0, 1, a)", "g·(1 where x > 0, else a)"), ("g*(x > 0)", "g·[x > 0]"), ("T(x) @ g", "xᵀ @ g"),
    ("scale*(q @ T(k))", "scale·(q @ kᵀ)"), ("(x == 0) & (y >= 0)", "x = 0 and y ≥ 0"), ("~(x == 0)", "not (x = 0)"),
    ("einsum('ij,jk->ik', x, y)", "Σ_j x_ij·y_jk"), ("floor(x/y)", "⌊x / y⌋"), ("log(x)*pi", "ln(x)·π"),
    ("shape_of(x)", "shape of x"), ("x[key]", "x[key]"),
])
def test_formulas_are_typeset(formula: str, text: str) -> None:
    assert pretty(formula) == text


def test_what_is_typeset_can_be_read_back() -> None:
    """Typeset text of plain arithmetic, read as a formula again, has the value of the formula."""
    values = {"g": 1.7, "x": 0.6, "y": -1.3, "out": 2.1}
    for name in ("add", "mul", "div", "sigmoid", "tanh", "remainder", "logaddexp", "atan", "asinh", "silu_grad"):
        for formula in CARDS[name].derivatives.values():
            text = pretty(formula).replace("·", "*").replace("²", "**2").replace("σ", "sigmoid")
            text = re.sub(r"⌊(.*)⌋", r"floor(\1)", re.sub(r"√\((.*)\)$", r"sqrt(\1)", text))
            more = {**values, "alpha": 3.0, "grad": 0.9}
            where = CARDS[name].where
            assert evaluate(text, more, where) == pytest.approx(evaluate(formula, more, where)), (name, text)


def test_explain_is_documented_where_it_is_found() -> None:
    assert tl.explain is tl.insight.explain
    assert "Raises ArgumentError" in inspect.getdoc(tl.explain)
