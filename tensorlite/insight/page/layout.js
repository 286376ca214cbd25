// Where things stand: a layered layout, left to right, box within box.
//
// Every open box is laid out by itself, inner ones first, and is then one rectangle for the box around it. An edge that
// enters or leaves an open box does so through a port on its left or right border; all edges of one source share it.
// Within a box: ranks by longest path, dummies where an edge passes a rank, order by medians with the fewest crossings
// kept, and heights by least squares under "no overlap", which has an exact solution (pool adjacent violators).

const SPACE = { rank: 40, aroundMinor: 20, beside: 16, lane: 7, padding: 18, header: 32, sweeps: 10 };

const FLOW = 2000; // the weight of a line between operations; one from a parameter has weight 1, and yields

/** The rectangles {x, y, width, height} of all visible items, and the routes of their edges, for the open boxes. */
function layout(model, sizeOf) {
  const scenes = scenesOf(model);
  for (const scene of [...scenes.values()].reverse()) arrange(scene, scenes, sizeOf);
  return placed(scenes.get(model.root), scenes, { items: new Map(), routes: [] }, 0, 0);
}

/** For every open box, outer ones first: its items, its ports, and the links between them. */
function scenesOf(model) {
  const scenes = new Map();
  const open = (box) => {
    const scene = { box, items: new Map(), ports: new Map(), links: new Map() };
    scenes.set(box, scene);
    for (const child of model.childrenOf(box)) {
      scene.items.set(child, { item: child, ins: new Map(), outs: new Map() });
      if (child.isBox && child.open) open(child);
    }
  };
  open(model.root);
  for (const edge of model.edges()) thread(edge, scenes);
  return scenes;
}

/** Lead one edge out of the boxes around its source and into those around its target. */
function thread(edge, scenes) {
  const above = (item) => (item.box ? [item.box, ...above(item.box)] : []);
  const outer = above(edge.from);
  const inner = above(edge.to);
  const common = outer.find((box) => inner.includes(box));
  let from = { item: edge.from };
  for (const box of outer.slice(0, outer.indexOf(common))) {
    link(scenes.get(box), from, { port: port(scenes.get(box), "out", edge.from) }, edge);
    from = { item: box, key: edge.from };
  }
  let to = { item: edge.to };
  for (const box of inner.slice(0, inner.indexOf(common))) {
    link(scenes.get(box), { port: port(scenes.get(box), "in", edge.from) }, to, edge);
    to = { item: box, key: edge.from };
  }
  link(scenes.get(common), from, to, edge);
}

function port(scene, side, source) {
  const key = `${side} ${source.id}`;
  if (!scene.ports.has(key)) scene.ports.set(key, { side, source, isPort: true });
  return scene.ports.get(key);
}

function link(scene, from, to, edge) {
  const name = (end) => (end.port ? `${end.port.side} ${end.port.source.id}` : `${end.item.id}/${end.key?.id ?? ""}`);
  const key = `${name(from)} > ${name(to)}`;
  if (!scene.links.has(key)) scene.links.set(key, { from, to, edges: [] });
  scene.links.get(key).edges.push(edge);
}

/** Give the items of one box their places relative to it, and the box its size. */
function arrange(scene, scenes, sizeOf) {
  const vertices = verticesOf(scene, scenes, sizeOf);
  const ranks = ranked(scene, vertices);
  const lines = withDummies(scene, vertices, ranks);
  order(ranks);
  setHeights(ranks);
  measure(scene, ranks);
  scene.lines = lines;
  scene.vertices = vertices;
}

function verticesOf(scene, scenes, sizeOf) {
  const vertices = new Map();
  for (const { item } of scene.items.values()) {
    const inner = scenes.get(item);
    const size = inner ?? sizeOf(item);
    vertices.set(item, { item, inner, width: size.width, height: size.height, before: [], after: [] });
  }
  for (const one of scene.ports.values()) {
    vertices.set(one, { port: one, width: 0, height: 2, before: [], after: [] });
  }
  return vertices;
}

const vertexOf = (vertices, end) => vertices.get(end.port ?? end.item);

/** How far below a vertex's middle an edge meets it. */
function offset(vertex, end, side) {
  return vertex.inner ? vertex.inner.portHeights.get(`${side} ${end.key.id}`) - vertex.height / 2 : 0;
}

/** The vertices by rank. In-ports come first, out-ports last; what nothing leads to stands right before its use. */
function ranked(scene, vertices) {
  const next = new Map();
  const waiting = new Map();
  for (const vertex of vertices.values()) {
    next.set(vertex, []);
    waiting.set(vertex, 0);
  }
  for (const { from, to } of scene.links.values()) {
    const target = vertexOf(vertices, to);
    next.get(vertexOf(vertices, from)).push(target);
    waiting.set(target, waiting.get(target) + 1);
  }
  const ready = [...vertices.values()].filter((vertex) => waiting.get(vertex) === 0);
  const sources = new Set(ready);
  for (const vertex of ready) {
    vertex.rank ??= 1;
    if (vertex.port?.side === "in") vertex.rank = 0;
    for (const target of next.get(vertex)) {
      target.rank = Math.max(target.rank ?? 1, vertex.rank + 1);
      waiting.set(target, waiting.get(target) - 1);
      if (waiting.get(target) === 0) ready.push(target);
    }
  }
  const inside = ready.filter((vertex) => !vertex.port);
  const last = Math.max(1, ...inside.map((vertex) => vertex.rank)) + 1;
  for (const vertex of ready) if (vertex.port?.side === "out") vertex.rank = last;
  for (const vertex of sources) {
    const uses = next.get(vertex).map((target) => target.rank);
    if (!vertex.port && uses.length) vertex.rank = Math.max(1, Math.min(...uses) - 1);
  }
  const ranks = Array.from({ length: last + 1 }, () => []);
  for (const vertex of vertices.values()) ranks[vertex.rank].push(vertex);
  return ranks;
}

/** Links as chains of pieces between neighbouring ranks; links of one source share their dummies. */
function withDummies(scene, vertices, ranks) {
  const lines = [];
  const dummies = new Map();
  for (const each of scene.links.values()) {
    const source = vertexOf(vertices, each.from);
    const target = vertexOf(vertices, each.to);
    let piece = { vertex: source, dy: offset(source, each.from, "out") };
    const line = { link: each, stops: [piece] };
    for (let rank = source.rank + 1; rank < target.rank; rank += 1) {
      const key = `${each.from.item?.id ?? "in"} ${(each.from.key ?? each.from.port?.source)?.id ?? ""} ${rank}`;
      if (!dummies.has(key)) {
        const dummy = { dummy: true, rank, width: 0, height: 2, before: [], after: [] };
        ranks[rank].push(dummy);
        dummies.set(key, dummy);
        join(piece, { vertex: dummy, dy: 0 }, each);
      }
      piece = { vertex: dummies.get(key), dy: 0 };
      line.stops.push(piece);
    }
    const end = { vertex: target, dy: offset(target, each.to, "in") };
    join(piece, end, each);
    line.stops.push(end);
    lines.push(line);
  }
  return lines;
}

/** A piece of a link. What flows from operation to operation pulls harder than a parameter, so that it runs straight. */
function join(from, to, { edges }) {
  const flows = edges.some((edge) => edge.from.isBox || edge.from.kind === "op");
  const weight = (flows ? FLOW : 1) * (from.vertex.dummy && to.vertex.dummy ? 4 : 1);
  from.vertex.after.push({ vertex: to.vertex, own: from.dy, other: to.dy, weight });
  to.vertex.before.push({ vertex: from.vertex, own: to.dy, other: from.dy, weight });
}

/** Order the vertices of each rank so that few lines cross. */
function order(ranks) {
  const number = () => {
    for (const rank of ranks) rank.forEach((vertex, place) => { vertex.place = place; });
  };
  number();
  let best = ranks.map((rank) => [...rank]);
  let fewest = crossings(ranks);
  for (let sweep = 0; sweep < SPACE.sweeps && fewest > 0; sweep += 1) {
    const forwards = sweep % 2 === 0;
    for (const rank of forwards ? ranks.slice(1) : ranks.slice(0, -1).reverse()) {
      for (const vertex of rank) vertex.wish = middle(forwards ? vertex.before : vertex.after, vertex.place);
      rank.sort((a, b) => a.wish - b.wish || a.place - b.place);
      rank.forEach((vertex, place) => { vertex.place = place; });
    }
    const count = crossings(ranks);
    if (count < fewest) {
      fewest = count;
      best = ranks.map((rank) => [...rank]);
    }
  }
  best.forEach((rank, i) => { ranks[i] = rank; });
  number();
}

/** The place of a line's end in its rank, ports of one box told apart. */
const placeOf = (vertex, dy) => vertex.place + dy / (vertex.height + 1);

function middle(lines, otherwise) {
  if (!lines.length) return otherwise;
  return lines.reduce((sum, line) => sum + placeOf(line.vertex, line.other), 0) / lines.length;
}

function crossings(ranks) {
  let count = 0;
  for (const rank of ranks) {
    const ends = [];
    for (const vertex of rank) {
      for (const line of vertex.after) ends.push([placeOf(vertex, line.own), placeOf(line.vertex, line.other)]);
    }
    ends.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    count += inversions(ends.map((end) => end[1]));
  }
  return count;
}

/** How many pairs of a list are in falling order, by merging. */
function inversions(list) {
  if (list.length < 2) return 0;
  const half = list.length >> 1;
  const left = list.slice(0, half);
  const right = list.slice(half);
  let count = inversions(left) + inversions(right);
  for (let i = 0, j = 0, k = 0; k < list.length; k += 1) {
    if (j === right.length || (i < left.length && left[i] <= right[j])) {
      list[k] = left[i++];
    } else {
      list[k] = right[j++];
      count += left.length - i;
    }
  }
  return count;
}

/** Give every vertex the height of its middle, near those that it is joined to. */
function setHeights(ranks) {
  for (const rank of ranks) {
    let y = 0;
    for (const vertex of rank) {
      vertex.y = y + vertex.height / 2;
      y += vertex.height + gap(vertex, vertex);
    }
  }
  for (let sweep = 0; sweep < SPACE.sweeps; sweep += 1) {
    const forwards = sweep % 2 === 0;
    for (const rank of forwards ? ranks : [...ranks].reverse()) settle(rank, forwards, sweep >= SPACE.sweeps - 4);
  }
}

const gap = (a, b) => (a.item && b.item ? SPACE.beside : SPACE.lane);

function settle(rank, forwards, bothSides) {
  const wishes = rank.map((vertex) => {
    const all = bothSides ? [...vertex.before, ...vertex.after] : forwards ? vertex.before : vertex.after;
    const flows = all.filter((line) => line.weight >= FLOW);
    const lines = flows.length ? flows : all;
    let total = 0;
    let weight = 0;
    for (const line of lines) {
      total += line.weight * (line.vertex.y + line.other - line.own);
      weight += line.weight;
    }
    return weight ? { at: total / weight, weight } : { at: vertex.y, weight: 0.1 };
  });
  let shift = 0;
  const shifts = rank.map((vertex, i) => {
    if (i) shift += (rank[i - 1].height + vertex.height) / 2 + gap(rank[i - 1], vertex);
    return shift;
  });
  const rising = isotonic(wishes.map((wish, i) => ({ at: wish.at - shifts[i], weight: wish.weight })));
  rank.forEach((vertex, i) => { vertex.y = rising[i] + shifts[i]; });
}

/** The rising numbers nearest to the given ones, by weighted squares. */
function isotonic(points) {
  const blocks = [];
  for (const point of points) {
    let block = { at: point.at, weight: point.weight, count: 1 };
    while (blocks.length && blocks.at(-1).at > block.at) {
      const before = blocks.pop();
      const weight = before.weight + block.weight;
      const at = (before.at * before.weight + block.at * block.weight) / weight;
      block = { at, weight, count: before.count + block.count };
    }
    blocks.push(block);
  }
  return blocks.flatMap((block) => Array(block.count).fill(block.at));
}

/** The room between two ranks: more where many lines cross it, little where only a reshape stands. */
function gapAfter(rank, next) {
  const isMinor = (vertices) => vertices.every((vertex) => vertex.dummy || vertex.item?.minor);
  if (isMinor(rank) || isMinor(next)) return SPACE.aroundMinor;
  return SPACE.rank + Math.min(40, 2 * rank.reduce((sum, vertex) => sum + vertex.after.length, 0));
}

/** Set x of each rank, and the size and ports of the box. */
function measure(scene, ranks) {
  const inside = ranks.flat().filter((vertex) => !vertex.port);
  const top = Math.min(...inside.map((vertex) => vertex.y - vertex.height / 2));
  const bottom = Math.max(...inside.map((vertex) => vertex.y + vertex.height / 2));
  const header = scene.box.isRoot ? SPACE.padding : SPACE.header;
  for (const vertex of ranks.flat()) vertex.y += header - top;
  let x = ranks[0].length ? SPACE.padding + 8 : SPACE.padding;
  for (const vertex of ranks[0]) vertex.x = 0;
  ranks.slice(1, -1).forEach((rank, i) => {
    const width = Math.max(0, ...rank.map((vertex) => vertex.width));
    for (const vertex of rank) {
      vertex.x = x + (width - vertex.width) * (vertex.before.length ? 0.5 : 1); // what is given stands close to its use
      vertex.left = x;
      vertex.right = x + width;
    }
    x += width + (i < ranks.length - 3 ? gapAfter(rank, ranks[i + 2]) : 0);
  });
  scene.width = x + SPACE.padding + (ranks.at(-1).length ? 8 : 0);
  scene.height = bottom - top + header + SPACE.padding;
  for (const vertex of ranks.at(-1)) vertex.x = scene.width;
  const borders = [...ranks[0], ...ranks.at(-1)].filter((vertex) => vertex.port);
  scene.portHeights = new Map(borders.map((vertex) => {
    vertex.y = Math.min(Math.max(vertex.y, header / 2 + 8), scene.height - 8);
    return [`${vertex.port.side} ${vertex.port.source.id}`, vertex.y];
  }));
}

/** Everything in a box at its place on the page. */
function placed(scene, scenes, result, x, y) {
  const box = { x, y, width: scene.width, height: scene.height };
  result.items.set(scene.box, box);
  for (const vertex of scene.vertices.values()) {
    if (vertex.port) continue;
    const left = x + vertex.x;
    const upper = y + vertex.y - vertex.height / 2;
    if (vertex.inner) placed(vertex.inner, scenes, result, left, upper);
    else result.items.set(vertex.item, { x: left, y: upper, width: vertex.width, height: vertex.height });
  }
  for (const line of scene.lines) {
    const points = line.stops.flatMap(({ vertex, dy }, i) => {
      const height = y + vertex.y + dy;
      if (vertex.dummy) return [[x + vertex.left, height], [x + vertex.right, height]];
      return [[x + vertex.x + (i ? 0 : vertex.width), height]];
    });
    const { from, to } = line.link;
    result.routes.push({ points, edges: line.link.edges, begins: !from.port && !from.key, ends: !to.port && !to.key });
  }
  return result;
}
