// What the page shows: nodes (operations, parameters, inputs) in boxes, some of which are open.

const FEW_ITEMS = 70; // boxes are open at first as long as no more than so many items are in sight

class Model {
  constructor(data) {
    this.data = data;
    this.withReshapes = false;
    this.boxes = data.boxes.map((box, i) => ({
      ...box, id: `b${i}`, isBox: true, isRoot: i === 0, open: i === 0, children: [], nodes: [], box: null,
    }));
    this.root = this.boxes[0];
    this.nodes = data.nodes.map((node, i) => ({
      ...node, id: `n${i}`, index: i, box: this.boxes[node.box], users: [],
      value: data.tensors[node.value], delta: data.tensors[node.delta],
    }));
    for (const box of this.boxes.slice(1)) box.box = this.boxes[data.boxes[this.boxes.indexOf(box)].parent];
    for (const node of this.nodes) this.#connect(node);
    for (const node of this.nodes) node.passesOn = passesOn(node);
    for (const box of this.boxes) box.children.sort((a, b) => first(a) - first(b));
    for (const box of this.boxes.slice(1)) box.name ??= operationsIn(box);
    this.#openWhatFits();
  }

  #connect(node) {
    node.inputs = (node.inputs ?? []).map((input) => ({ ...input, node: this.nodes[input.from] }));
    for (const input of node.inputs) input.node?.users.push(node);
    for (const each of node.gradients ?? []) each.tensor = this.data.tensors[each.tensor];
    node.box.children.push(node);
    for (let box = node.box; box; box = box.box) {
      if (!box.nodes.length && box.box) box.box.children.push(box);
      box.nodes.push(node);
    }
  }

  #openWhatFits() {
    let inSight = this.childrenOf(this.root).length;
    for (const box of this.boxes.slice(1)) {
      if (!box.box.open || box.kind === "repeat" || inSight + this.childrenOf(box).length > FEW_ITEMS) continue;
      box.open = true;
      inSight += this.childrenOf(box).length;
    }
  }

  /** Who stands for a node in the picture: itself, or the outermost closed box around it. */
  shown(node) {
    let seen = node;
    for (let box = node.box; box; box = box.box) if (!box.open && !this.isHidden(box)) seen = box;
    return seen;
  }

  openAround(item) {
    for (let box = item.box; box; box = box.box) box.open = true;
  }

  /** Whether an item has no card: reshapes and the like, and boxes of nothing else, are part of the edge. */
  isHidden(item) {
    return !this.withReshapes && (item.isBox ? item.nodes.every((node) => node.passesOn) : item.passesOn);
  }

  /** What is in an open box and in sight. */
  childrenOf(box) {
    return box.children.filter((item) => !this.isHidden(item));
  }

  /** The edges in sight, once each, from left to right. */
  edges() {
    const found = new Map();
    for (const node of this.nodes) {
      if (this.isHidden(node)) continue;
      for (const input of node.inputs) {
        const source = input.node && (this.withReshapes ? input.node : this.receiver(input.node));
        if (!source) continue;
        const from = this.shown(source);
        const to = this.shown(node);
        if (from !== to) found.set(`${from.id} ${to.id}`, { from, to });
      }
    }
    return [...found.values()];
  }

  /** The visible closed boxes and nodes, in the order of the program. */
  items() {
    const below = (box) => this.childrenOf(box).flatMap((item) => (item.isBox && item.open ? below(item) : [item]));
    return below(this.root);
  }

  /** Whose gradient it is in truth that goes to a node: reshapes and the like only hand it on. */
  receiver(node) {
    let found = node;
    while (found.passesOn) found = found.inputs[0].node;
    return found;
  }

  /** The operations that use a node, through reshapes too. */
  usersOf(node) {
    return node.users.flatMap((user) => (user.passesOn && !this.withReshapes ? this.usersOf(user) : [user]));
  }

  /** Where the gradient of an input ends up, in the shape that it has there: {node, tensor}; no node for a constant. */
  handedOn(user, gradient) {
    let node = user.inputs[gradient.input].node;
    let { tensor } = gradient;
    while (node?.passesOn && node.gradients?.length) {
      tensor = node.gradients[0].tensor;
      node = node.inputs[0].node;
    }
    return { node, tensor };
  }
}

const first = (item) => (item.isBox ? item.nodes[0].index : item.index);

/** A name for repeated operations without modules: those of the first repetition, as in "matmul, add, tanh". */
function operationsIn(box) {
  const inner = box.kind === "repeat" ? box.children[0] : box;
  const named = (inner.nodes ?? [inner]).filter((node) => node.kind === "op" && !node.minor);
  return [...new Set(named.map((node) => node.op))].join(", ") || "reshapes";
}

const count = (shape) => shape.reduce((product, size) => product * size, 1);

/** Whether a node only gives the numbers of its input another shape or order, on their way to others. */
function passesOn(node) {
  const [input] = node.inputs;
  return Boolean(node.minor && node.users.length && node.inputs.length === 1 && input.node && count(input.shape) === count(node.shape));
}
