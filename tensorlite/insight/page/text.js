// Numbers and tensors in words. A vector reads as (1.0, 1.9), a matrix as [[0.5, 0.2], [0.3, 0.7]], a column as
// (1.0, 1.9)ᵀ, and what holds one number as that number.

const INTEGERS = /^(u?int\d+|bool)$/;

/** A number to so many significant digits, with a real minus, and with a point if its dtype has one. */
function numberText(value, dtype = "float32", digits = 5) {
  if (typeof value === "string") return value.replace("-", "−");
  if (typeof value === "boolean") return value ? "true" : "false";
  if (INTEGERS.test(dtype)) return String(value).replace("-", "−");
  const size = Math.abs(value);
  let text;
  if (size !== 0 && (size < (digits > 3 ? 1e-4 : 1e-3) || size >= 1e6)) {
    text = value.toExponential(Math.min(digits, 4) - 1).replace(/\.?0+e/, "e").replace("e+", "e");
  } else {
    text = String(Number.isInteger(value) ? value : Number(value.toPrecision(digits)));
    if (Number.isInteger(Number(text))) text += ".0";
  }
  return text.replaceAll("-", "−");
}

const shapeText = (shape) => (shape.length ? `(${shape.join(", ")})` : "a number");

const bytesText = (bytes) => {
  const unit = bytes < 1000 ? 0 : bytes < 1e6 ? 1 : bytes < 1e9 ? 2 : 3;
  return `${unit ? (bytes / 1000 ** unit).toPrecision(3) : bytes} ${["B", "kB", "MB", "GB"][unit]}`;
};

const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

/** A tensor that is there whole, as nested lists of words. */
function nested(tensor, digits) {
  const words = tensor.values.map((value) => numberText(value, tensor.dtype, digits));
  let level = words;
  for (const size of tensor.shape.slice(1).reverse()) {
    const rows = [];
    for (let i = 0; i < level.length; i += size) rows.push(level.slice(i, i + size));
    level = rows;
  }
  return tensor.shape.length ? level : words[0];
}

const listText = (level) => (typeof level === "string" ? level : `[${level.map(listText).join(", ")}]`);

/** A column is written lying down, as (1.0, 1.9)ᵀ. */
const isColumn = (tensor) => tensor.shape.length === 2 && tensor.shape[1] === 1;

/** A tensor in one line: all of it if it is small, else its size and spread. */
function tensorText(tensor, digits = 5) {
  if (!tensor) return "";
  if (!tensor.values) return `mean ${numberText(tensor.stats?.mean ?? "nan", undefined, 3)}, ${shapeText(tensor.shape)}`;
  if (tensor.shape.includes(0)) return "empty";
  if (tensor.values.length === 1) return numberText(tensor.values[0], tensor.dtype, digits);
  if (isColumn(tensor)) return `${tensorText({ ...tensor, shape: [tensor.values.length] }, digits)}ᵀ`;
  const text = listText(nested(tensor, digits));
  return tensor.shape.length === 1 ? `(${text.slice(1, -1)})` : text;
}

/** A tensor for a card: a few short lines, or none if it is large (a histogram stands there instead). */
function cardLines(tensor) {
  if (!tensor) return [];
  if (tensor.stats && tensor.stats.min === tensor.stats.max && !tensor.nan && !tensor.inf) return [`all ${numberText(tensor.stats.min, tensor.dtype, 4)}`];
  const flat = tensor.shape.length < 2 || isColumn(tensor) || tensor.values?.length === 1;
  const [rows, columns] = flat ? [1, count(tensor.shape)] : tensor.shape;
  const fits = tensor.values && (flat || tensor.shape.length === 2) && rows <= 4 && columns <= (rows > 1 ? 4 : 5);
  if (!fits) return tensor.bars ? [] : [ends(tensor)];
  if (columns === 0 || rows === 0) return ["empty"];
  const words = alike(tensor, columns < 3 ? 4 : columns < 4 || rows < 2 ? 3 : 2);
  if (flat) return [words.length === 1 ? words[0] : `(${words.join(", ")})${isColumn(tensor) ? "ᵀ" : ""}`];
  const width = Math.max(...words.map((word) => word.length));
  return Array.from({ length: rows }, (_, i) => {
    const row = words.slice(i * columns, (i + 1) * columns);
    const numbers = row.map((word) => (rows > 1 ? word.padStart(width, "\u00a0") : word)).join(", ");
    return `${i ? "\u00a0" : "["}[${numbers}]${i < rows - 1 ? "," : "]"}`;
  });
}

/** A small tensor's numbers with the same decimals, as many as its largest one needs to show so many digits. */
function alike(tensor, digits) {
  const most = Math.max(...tensor.values.map((value) => (typeof value === "number" && Number.isFinite(value) ? Math.abs(value) : 0)));
  if (INTEGERS.test(tensor.dtype) || most < 1e-3 || most >= 1e5) return tensor.values.map((value) => numberText(value, tensor.dtype, digits));
  const decimals = Math.max(digits - 1 - Math.floor(Math.log10(most)), 0);
  return tensor.values.map((value) => (typeof value === "number" ? numberText(Number(value.toFixed(decimals)), tensor.dtype, 9) : numberText(value)));
}

/** The first numbers of a tensor and the dots after them. */
function ends(tensor) {
  const first = tensor.values ?? tensor.corner[0];
  return `(${first.slice(0, 3).map((value) => numberText(value, tensor.dtype, 3)).join(", ")}, …)`;
}

/** Whose gradient: "∂L/∂W1", or "∂L/∂(z2 − y)" for what has no name. */
function gradientName(node) {
  return `∂L/∂${node.name ?? dashed(node.alias ?? `(${node.title})`)}`;
}

const dashed = (text) => text.replaceAll("-", "−");
