// What the page shows: nodes (operations, parameters, inputs) in boxes, some of which are open.

const FEW_ITEMS = 70; // boxes are open at first as long as no more than so many items are in sight

class Model {
  constructor(data) {
    this.data = data;
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
    for (const box of this.boxes) box.children.sort((a, b) => first(a) - first(b));
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
    let inSight = this.root.children.length;
    for (const box of this.boxes.slice(1)) {
      if (!box.box.open || box.kind === "repeat" || inSight + box.children.length > FEW_ITEMS) continue;
      box.open = true;
      inSight += box.children.length;
    }
  }

  /** Who stands for a node in the picture: itself, or the outermost closed box around it. */
  shown(node) {
    let seen = node;
    for (let box = node.box; box; box = box.box) if (!box.open) seen = box;
    return seen;
  }

  /** Open or close a box, or all of them. */
  open(box, open) {
    box.open = open || box.isRoot;
  }

  openAround(item) {
    for (let box = item.box; box; box = box.box) box.open = true;
  }

  /** The edges in sight, once each, from left to right. */
  edges() {
    const found = new Map();
    for (const node of this.nodes) {
      for (const input of node.inputs) {
        if (!input.node) continue;
        const from = this.shown(input.node);
        const to = this.shown(node);
        if (from !== to) found.set(`${from.id} ${to.id}`, { from, to });
      }
    }
    return [...found.values()];
  }

  /** The visible closed boxes and nodes, in the order of the program. */
  items() {
    const below = (box) => box.children.flatMap((item) => (item.isBox && item.open ? below(item) : [item]));
    return below(this.root);
  }

  /** Who in truth gets a gradient that goes to a node: reshapes and the like only hand it on. */
  receiver(node) {
    let found = node;
    while (found?.minor && found.inputs[0]?.node) found = found.inputs[0].node;
    return found;
  }
}

const first = (item) => (item.isBox ? item.nodes[0].index : item.index);
