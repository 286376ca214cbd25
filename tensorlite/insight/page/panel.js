// What is known of one node or box: the panel on the right.

/** An element with attributes, listeners (functions) and children; text children are text, whatever they hold. */
function html(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value !== false && value !== undefined) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

class Panel {
  constructor(element, model, select) {
    this.element = element;
    this.model = model;
    this.select = select;
  }

  show(item) {
    this.element.classList.toggle("empty", !item);
    const close = html("button", { class: "close", "aria-label": "Close the panel", title: "Close (Esc)", click: () => this.select(null) }, "×");
    if (!item) this.element.replaceChildren();
    else this.element.replaceChildren(close, ...(item.isBox ? this.#box(item) : this.#node(item)));
    this.element.scrollTop = 0;
  }

  // --- nodes

  #node(node) {
    const card = this.model.data.cards[node.op] ?? {};
    const sections = [this.#heading(node), this.#where(node)];
    if (node.formula) sections.push(this.#forward(node));
    if (node.value || node.kind !== "op") {
      sections.push(section(node.changed ? "Value (changed in place since)" : "Value", tensorBlock(node.value, "value")));
    }
    for (const output of node.outputs ?? []) sections.push(this.#output(output));
    if (node.kind !== "input") sections.push(this.#delta(node));
    for (const gradient of node.gradients ?? []) sections.push(this.#gradient(node, gradient));
    if (card.derivation) sections.push(this.#why(card));
    if (node.inputs.length) sections.push(section("Inputs", this.#inputs(node)));
    if (node.users.length) sections.push(section("Used by", list(this.model.usersOf(node).map((user) => this.#link(user)))));
    if (node.kind === "op") sections.push(section("Saved for backward", this.#saved(node)));
    if (node.params) sections.push(section("Parameters", facts(Object.entries(node.params))));
    if (card.source) sections.push(folded("The rule in tensorlite", html("pre", {}, html("code", {}, card.source))));
    return sections;
  }

  #heading(node) {
    const kind = { op: "operation", parameter: "parameter", input: "input" }[node.kind];
    const name = node.name ?? node.title;
    return html("div", { class: "title" }, html("p", { class: `kind ${node.kind}` }, node.kind === "op" && node.name ? node.title : kind),
      html("h2", {}, name),
      facts([["Shape", shapeText(node.shape)], ["Type", node.dtype], ["Size", bytesText(node.bytes ?? 0)]]));
  }

  #where(node) {
    const line = this.model.data.lines[node.line];
    const parts = [];
    if (line) parts.push(html("pre", { class: "line" }, html("code", {}, line.code)), html("p", { class: "place" }, line.place));
    if (node.path) parts.push(html("p", { class: "path" }, "in ", html("code", {}, node.path)));
    return html("div", { class: "where" }, ...parts);
  }

  #forward(node) {
    return section("Forward", html("div", { class: "formula" }, ...equation(node.name ?? "out", node.formula, node.value, this.model)));
  }

  #output(output) {
    const parts = [tensorBlock(this.model.data.tensors[output.value], "value")];
    const delta = this.model.data.tensors[output.delta];
    if (delta) parts.push(tensorBlock(delta, "delta"));
    return section(`Result ${output.name ?? ""}`, ...parts);
  }

  #delta(node) {
    const title = node.kind === "op" ? "Arriving gradient δ" : "Gradient";
    const block = node.delta ? tensorBlock(node.delta, "delta") : html("p", { class: "missing" }, "not known");
    const parts = [html("p", { class: "formula" }, gradientName(node)), block];
    const uses = node.users.flatMap((user) => (user.gradients ?? []).filter((each) => user.inputs[each.input].node === node));
    if (uses.length > 1) parts.push(html("p", { class: "remark" }, `The sum of what comes from its ${uses.length} uses.`));
    if (node.index === this.model.data.root) parts.push(html("p", { class: "remark" }, "Backward starts here."));
    return section(title, ...parts);
  }

  #gradient(node, gradient) {
    const input = node.inputs[gradient.input];
    const { node: target, tensor } = this.model.handedOn(node, gradient);
    const through = target === input.node ? "" : html("span", { class: "through" }, ` through ${input.node.title}`);
    const title = html("span", {}, "To ", target ? this.#link(target) : input.label, through);
    const parts = [];
    if (gradient.formula) {
      const name = target ? gradientName(target) : `∂L/∂${input.label}`;
      parts.push(html("div", { class: "formula" }, ...equation(name, gradient.formula, tensor, this.model)));
    }
    parts.push(tensorBlock(tensor, "delta"));
    return section(title, ...parts);
  }

  #why(card) {
    const lines = card.derivation.split("\n").map((line) => html("p", {}, line));
    const where = Object.entries(card.where ?? {}).map(([name, meaning]) => html("p", {}, `where ${name} = ${meaning}`));
    const choice = card.subgradient ? [html("p", {}, html("strong", {}, "Where no derivative exists: "), card.subgradient)] : [];
    const rules = Object.entries(card.derivatives).map(([name, text]) => html("p", { class: "formula" }, `∂L/∂${name} = ${text}`));
    return section("Why", html("p", { class: "formula" }, `out = ${card.formula}`), ...rules, ...where, ...lines, ...choice);
  }

  #inputs(node) {
    const rows = node.inputs.map((input) => {
      const what = input.node ? this.#link(this.model.withReshapes ? input.node : this.model.receiver(input.node)) : input.number !== undefined ? numberText(input.number, "int64") : "none";
      return html("tr", {}, html("th", { scope: "row" }, input.label), html("td", {}, what), html("td", { class: "muted" }, input.shape ? shapeText(input.shape) : ""));
    });
    return html("table", { class: "plain" }, ...rows);
  }

  #saved(node) {
    if (node.freed) return html("p", { class: "missing" }, "freed by backward");
    if (!node.saved) return html("p", { class: "missing" }, "nothing");
    const total = node.saved.reduce((sum, each) => sum + each.bytes, 0);
    return facts([...node.saved.map((each) => [each.label, `${shapeText(each.shape)} ${each.dtype}, ${bytesText(each.bytes)}${each.changed ? ", changed since" : ""}`]),
      ...(node.saved.length > 1 ? [["together", bytesText(total)]] : [])]);
  }

  #link(item, name = item.name ?? dashed(item.alias?.replace(/^\((.*)\)$/, "$1") ?? item.title)) {
    return html("button", { class: "link", click: () => this.select(item, "reveal") }, name);
  }

  // --- boxes

  #box(box) {
    const operations = box.nodes.filter((node) => node.kind === "op");
    const parameters = box.nodes.filter((node) => node.kind === "parameter");
    const numbers = parameters.reduce((sum, node) => sum + count(node.shape), 0);
    const kind = { module: "module", repeat: "repetition", turn: "one repetition" }[box.kind];
    const rows = [["Operations", operations.length], ["Parameters", `${parameters.length}, ${plural(numbers, "number")}`]];
    if (box.path) rows.push(["Path", box.path]);
    if (box.count) rows.unshift(["Repetitions", box.count]);
    const norm = gradientNorm(parameters);
    if (norm !== null) rows.push(["Norm of their gradients", numberText(norm, "float32", 4)]);
    const toggle = html("button", { class: "primary", click: () => this.select(box, "toggle") }, box.open ? "Fold" : "Open");
    const sections = [html("div", { class: "title" }, html("p", { class: "kind" }, kind), html("h2", {}, box.name),
      box.type ? html("p", { class: "formula" }, box.type) : "", facts(rows), toggle)];
    const outside = (node) => !box.nodes.includes(node);
    const into = new Set(operations.flatMap((node) => node.inputs.map((input) => input.node)).filter((node) => node && outside(node)));
    const from = operations.filter((node) => node.users.some(outside));
    if (into.size) sections.push(section("Comes in", list([...into].map((node) => this.#link(node)))));
    if (from.length) sections.push(section("Goes out", list(from.map((node) => this.#link(node)))));
    if (parameters.length) sections.push(section("Parameters", this.#parameters(box, parameters.slice(0, 60))));
    return sections;
  }

  #parameters(box, parameters) {
    const inside = `${(box.path ?? "").split(".").slice(1).join(".")}.`;
    const nameOf = ({ name }) => (name.startsWith(inside) ? name.slice(inside.length) : name);
    const norm = (tensor) => (tensor ? numberText(normOf(tensor), "float32", 3) : "");
    const head = html("tr", {}, ...["", "shape", "|value|", "|gradient|"].map((text) => html("th", { scope: "col" }, text)));
    return html("table", { class: "plain" }, head, ...parameters.map((node) => html("tr", {}, html("td", {}, this.#link(node, nameOf(node))),
      html("td", { class: "muted" }, shapeText(node.shape)), html("td", { class: "number" }, norm(node.value)), html("td", { class: "number" }, norm(node.delta)))));
  }
}

const section = (title, ...children) => html("section", {}, html("h3", {}, title), ...children);
const list = (items) => html("ul", { class: "links" }, ...items.map((item) => html("li", {}, item)));
const folded = (title, ...children) => html("details", {}, html("summary", {}, title), ...children);

function facts(rows) {
  return html("dl", { class: "facts" }, ...rows.map(([name, value]) => html("div", {}, html("dt", {}, name), html("dd", {}, String(value)))));
}

/** The Euclidean norm of a tensor; of a single number its size. */
const normOf = (tensor) => tensor.stats?.norm ?? Math.abs(Number(tensor.values?.[0] ?? NaN));

function gradientNorm(parameters) {
  const known = parameters.filter((node) => node.delta).map((node) => normOf(node.delta));
  return known.length ? Math.hypot(...known) : null;
}

/** "name = formula in names", what its abbreviations mean, "= formula in numbers", "= result". */
function equation(name, formula, result, model) {
  const named = (parts) => parts.map((part) => (typeof part === "string" ? dashed(part) : html("b", {}, dashed(part.name))));
  const lines = [html("p", {}, `${name} = `, ...named(formula.parts))];
  for (const [short, meaning] of formula.where ?? []) lines.push(html("p", { class: "numbers" }, `where ${short} = `, ...named(meaning)));
  const numbers = formula.where ? null : inNumbers(formula.parts, model);
  if (numbers) lines.push(html("p", { class: "numbers" }, `= ${numbers}`));
  if (numbers && result?.values) lines.push(html("p", { class: "numbers result" }, `= ${tensorText(result)}`));
  return lines;
}

/** A formula with values in place of names, if all of them are small. */
function inNumbers(parts, model) {
  const words = parts.map((part, i) => {
    if (typeof part === "string") return dashed(part);
    const tensor = model.data.tensors[part.tensor];
    if (!tensor?.values || tensor.values.length > 8 || !tensor.values.length) return null;
    const text = tensorText(tensor);
    const next = parts[i + 1];
    const alone = i === 0 && (typeof next !== "string" || !/^[²³ʸ^ᵀ]/.test(next));
    return text.startsWith("−") && !alone ? `(${text})` : text;
  });
  for (let i = 1; i < words.length; i += 1) { // the transpose of what is written as a transpose
    if (words[i - 1]?.endsWith("ᵀ") && words[i]?.startsWith("ᵀ")) [words[i - 1], words[i]] = [words[i - 1].slice(0, -1), words[i].slice(1)];
  }
  return words.includes(null) || parts.every((part) => typeof part === "string") ? null : words.join("");
}

// --- tensors

function tensorBlock(tensor, kind) {
  if (!tensor) return html("p", { class: "missing" }, "not kept");
  const parts = [];
  if (tensor.values?.length === 1) parts.push(html("p", { class: "scalar" }, tensorText(tensor)));
  else if (tensor.values && tensor.shape.length < 3) parts.push(grid(tensor), tensor.values.length < 10 ? html("p", { class: "plain-text" }, tensorText(tensor)) : "");
  else if (tensor.values) parts.push(html("p", { class: "plain-text" }, tensorText(tensor)));
  else parts.push(corner(tensor));
  if (tensor.bars) {
    const picture = svg("svg", { viewBox: "0 0 240 46", class: "histogram", role: "img", "aria-label": `Histogram from ${numberText(tensor.stats.min)} to ${numberText(tensor.stats.max)}` }, histogram(tensor.bars, 0, 2, 240, 42));
    parts.push(picture, html("p", { class: "ends" }, html("span", {}, numberText(tensor.stats.min, undefined, 3)), html("span", {}, numberText(tensor.stats.max, undefined, 3))));
  }
  if (tensor.stats && !(tensor.values?.length < 9)) {
    const rows = ["mean", "std", "min", "max", "norm"].map((name) => [name, numberText(tensor.stats[name], undefined, 4)]);
    for (const name of ["zeros", "nan", "inf"]) if (tensor[name]) rows.push([name, tensor[name].toLocaleString("en")]);
    parts.push(facts(rows));
  } else if (tensor.nan) {
    parts.push(facts([["nan", tensor.nan]]));
  }
  return html("div", { class: `tensor ${kind}` }, ...parts);
}

function grid(tensor) {
  const columns = tensor.shape.at(-1);
  const words = tensor.values.map((value) => numberText(value, tensor.dtype, 5));
  const rows = [];
  for (let i = 0; i < words.length; i += columns) rows.push(html("tr", {}, ...words.slice(i, i + columns).map((word) => html("td", {}, word))));
  return html("div", { class: "scroll" }, html("table", { class: "grid" }, ...rows));
}

/** The first rows and columns of a tensor that is too large to show. */
function corner(tensor) {
  const [rows, columns] = tensor.shape.length > 1 ? tensor.shape.slice(-2) : [1, tensor.shape[0]];
  const lines = tensor.corner.map((row) => [...row.map((value) => numberText(value, tensor.dtype, 4)), ...(columns > row.length ? ["…"] : [])]);
  if (rows > lines.length) lines.push(lines[0].map(() => "⋮"));
  const table = html("table", { class: "grid" }, ...lines.map((line) => html("tr", {}, ...line.map((word) => html("td", {}, word)))));
  const of = tensor.shape.length > 2 ? `the first of ${tensor.shape.slice(0, -2).join(" × ")} matrices` : `of ${shapeText(tensor.shape)}`;
  return html("div", { class: "scroll" }, table, html("p", { class: "remark" }, of));
}
