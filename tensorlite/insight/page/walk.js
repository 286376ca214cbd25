// The walk through the chain rule: forwards the values appear in the order of the program, backwards the gradients.
//
// A walk is a list of events, one per operation and direction. The player stops where the visible item changes: a folded
// module is one step, and a reshape goes along with the operation that it serves.

const STEP_TIME = 1100; // milliseconds at speed 1

class Walk {
  constructor(model) {
    this.model = model;
    this.events = this.#events();
    this.valueAt = new Map(); // node -> how many events must have happened before its value is there
    this.deltaAt = new Map();
    for (const node of model.nodes) if (node.kind !== "op" && node.value) this.valueAt.set(node, 0);
    this.events.forEach((event, i) => this.#happens(event, i + 1));
    this.time = this.events.length;
    this.group();
  }

  #events() {
    const { data, nodes } = this.model;
    const events = data.forward.map((place) => ({ phase: "forward", node: nodes[place] }));
    if (data.backward.length) events.push({ phase: "start", node: nodes[data.root] });
    return [...events, ...data.backward.map((place) => ({ phase: "backward", node: nodes[place] }))];
  }

  #happens({ phase, node }, time) {
    if (phase === "forward") this.valueAt.set(node, time);
    else if (phase === "start") this.deltaAt.set(node, time);
    else for (const { input } of node.gradients ?? []) if (node.inputs[input].node) this.deltaAt.set(node.inputs[input].node, time);
  }

  /** Find anew where the walk stops, after boxes were opened or folded. */
  group() {
    const keys = this.events.map(({ node }) => this.model.shown(node));
    const plain = keys.map((item) => item.isBox || !item.minor);
    const forward = this.model.data.forward.length;
    for (let i = forward - 1; i >= 0; i -= 1) if (!plain[i] && i + 1 < forward) keys[i] = keys[i + 1];
    for (let i = forward + 1; i < keys.length; i += 1) if (!plain[i]) keys[i] = keys[i - 1];
    this.stops = [0];
    this.events.forEach((event, i) => {
      const next = this.events[i + 1];
      if (!next || keys[i + 1] !== keys[i] || next.phase !== event.phase) this.stops.push(i + 1);
    });
    this.keys = keys;
  }

  /** The number of the stop at or after the present time. */
  get place() {
    return this.stops.findIndex((stop) => stop >= this.time);
  }

  goTo(place) {
    this.time = this.stops[Math.min(Math.max(place, 0), this.stops.length - 1)];
  }

  get atEnd() {
    return this.time >= this.events.length;
  }

  /** How much of the walk is forward, from 0 to 1. */
  get turn() {
    return this.stops.indexOf(this.model.data.forward.length) / (this.stops.length - 1);
  }

  /** What happened last: the events of the present stop, their visible item and direction. */
  now() {
    const place = this.place;
    if (place <= 0) return null;
    const events = this.events.slice(this.stops[place - 1], this.stops[place]);
    const item = this.keys[this.stops[place] - 1];
    return { events, item, phase: events[0].phase };
  }

  caption() {
    const now = this.now();
    if (!now) return "The inputs and the parameters are given. Play to see every value, and then every gradient.";
    return now.item.isBox ? this.#boxCaption(now) : { forward: forwardCaption, start: startCaption, backward: backwardCaption }[now.phase](now.item, this.model);
  }

  #boxCaption({ item, phase, events }) {
    const what = phase === "forward" ? "computed" : "gradients of";
    const times = item.count ? ` ×${item.count}` : "";
    return `${item.name}${times}: ${what} ${plural(events.length, "operation")}`;
  }
}

/** A formula in names, if it can be read without an explanation. */
const inNames = (formula) => (formula?.plain ? dashed(formula.parts.map((part) => part.name ?? part).join("")) : "");

/** " = (1.0, 1.9)", or of a large tensor its shape. */
function equalTo(tensor) {
  if (!tensor) return "";
  return tensor.values?.length <= 9 ? ` = ${tensorText(tensor)}` : `, ${shapeText(tensor.shape)}`;
}

/** In the user's own words, where the line says what the name stands for: "z1 = W1 @ x + b1 = (1.0, 1.9)". */
function forwardCaption(node, model) {
  const code = model.data.lines[node.line]?.code ?? "";
  if (node.name && code.startsWith(`${node.name} = `) && code.length < 70) return `${code}${equalTo(node.value)}`;
  const right = inNames(node.formula) || (node.name ? node.title : "");
  const left = node.name ?? (node.alias ? "" : node.title);
  return `${left}${left && right && " = "}${right}${equalTo(node.value)}`;
}

function startCaption(node) {
  return `${gradientName(node)}${equalTo(node.delta)}: backward starts here`;
}

function backwardCaption(node, model) {
  const lines = (node.gradients ?? []).map((gradient) => {
    const { node: target, tensor } = model.handedOn(node, gradient);
    const formula = inNames(gradient.formula);
    const name = target ? gradientName(target) : `∂L/∂${node.inputs[gradient.input].label}`;
    return `${name}${formula && ` = ${formula}`}${equalTo(tensor)}`;
  });
  return lines.length ? lines.join("   ·   ") : `${node.title}: nothing flows on`;
}
