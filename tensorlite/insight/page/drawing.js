// The picture: an SVG of cards, boxes and edges, with a camera to pan and zoom.

const SVG = "http://www.w3.org/2000/svg";
const CHARACTER = 7.25; // the width of one in a card's numbers
const LINE = 17;
const CARD = { least: 86, most: 300, padding: 12 };

function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const short = (text, most = 34) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

/** What stands in a node's card. Values and gradients have their room from the start, so that nothing moves later. */
function cardOf(node) {
  const heading = node.short ?? node.name ?? node.title;
  const beside = node.name && node.kind === "op" ? node.title : "";
  const value = node.minor ? [] : cardLines(node.value);
  const delta = node.minor ? [] : cardLines(node.delta);
  const bars = (tensor) => (!node.minor && tensor?.bars && !cardLines(tensor).length ? tensor.bars : null);
  return { heading: short(heading, 24), beside: short(beside, 20), shape: shapeText(node.shape), value, delta,
    valueBars: bars(node.value), deltaBars: bars(node.delta) };
}

function boxCard(box) {
  const operations = box.nodes.filter((node) => node.kind === "op").length;
  const parameters = box.nodes.filter((node) => node.kind === "parameter").length;
  const counts = [plural(operations, "operation")];
  if (parameters) counts.push(plural(parameters, "parameter"));
  return { heading: short(box.name, 30), type: box.type === box.name ? "" : short(box.type ?? "", 34), counts };
}

const textWidth = (text, scale = 1) => text.length * CHARACTER * scale;

function sizeOf(item) {
  if (item.isBox) {
    const card = boxCard(item);
    const badge = item.kind === "repeat" ? textWidth(`×${item.count}`) + 36 : 0;
    const widest = Math.max(textWidth(card.heading, 1.05) + badge, textWidth(card.type, 0.9), ...card.counts.map((t) => textWidth(t, 0.9)));
    return { width: Math.max(130, widest + 2 * CARD.padding), height: 34 + LINE * (card.counts.length + (card.type ? 1 : 0)) };
  }
  const card = cardOf(item);
  if (item.minor) return { width: textWidth(card.heading, 0.8) + 14, height: 17 };
  const widths = [textWidth(card.heading, 1.05) + (card.beside ? textWidth(card.beside, 0.92) + 14 : 0), textWidth(card.shape, 0.92)];
  for (const line of [...card.value, ...card.delta.map((line) => `∂ ${line}`)]) widths.push(textWidth(line));
  const bars = (card.valueBars ? 1 : 0) + (card.deltaBars ? 1 : 0);
  if (bars) widths.push(120);
  return {
    width: Math.min(CARD.most, Math.max(CARD.least, ...widths) + 2 * CARD.padding),
    height: 44 + LINE * (card.value.length + card.delta.length) + 26 * bars,
  };
}

class Drawing {
  constructor(element, model, select) {
    this.element = element;
    this.model = model;
    this.select = select;
    this.camera = new Camera(element, () => this.bounds);
    this.groups = new Map();
  }

  /** Lay everything out anew and draw it. */
  draw() {
    const { items, routes } = layout(this.model, sizeOf);
    this.places = items;
    this.bounds = items.get(this.model.root);
    this.groups.clear();
    const boxes = svg("g");
    const edges = svg("g", { class: "edges", "aria-hidden": "true" });
    const cards = svg("g");
    for (const [item, place] of items) {
      if (item.isRoot) continue;
      const group = item.isBox && item.open ? this.#openBox(item, place) : item.isBox ? this.#closedBox(item, place) : this.#card(item, place);
      this.groups.set(item, group);
      (item.isBox && item.open ? boxes : cards).append(group);
    }
    this.routes = routes.map((route) => {
      const line = svg("path", { d: pathThrough(route.points), class: `edge ${route.begins ? "begins" : ""} ${route.ends ? "ends" : ""}` });
      edges.append(line);
      return { line, edges: route.edges };
    });
    this.camera.content.replaceChildren(boxes, edges, cards);
    document.querySelector("#map-items").replaceChildren(...[...items].filter(([item]) => !item.isRoot).map(([item, place]) =>
      svg("rect", { x: place.x, y: place.y, width: place.width, height: place.height, class: item.isBox && item.open ? "box-in-map" : "" })));
    this.camera.changed();
  }

  #group(item, place, label) {
    const group = svg("g", { transform: `translate(${place.x} ${place.y})`, tabindex: "0", role: "button", "aria-label": label, id: item.id });
    group.addEventListener("click", (event) => {
      event.stopPropagation();
      this.select(item);
    });
    group.addEventListener("dblclick", () => item.isBox && this.select(item, "toggle"));
    return group;
  }

  #openBox(box, place) {
    const group = this.#group(box, place, `${box.name}, open ${box.kind === "repeat" ? "repetition" : "module"}`);
    group.setAttribute("class", `box ${box.kind}`);
    group.setAttribute("aria-expanded", "true");
    const title = svg("text", { x: 14, y: 21, class: "box-title" }, short(box.name, Math.floor((place.width - 60) / CHARACTER)));
    const room = Math.floor((place.width - 60) / CHARACTER - box.name.length);
    if (box.type && box.type !== box.name && room > 8) title.append(svg("tspan", { dx: 8, class: "muted" }, short(box.type, room)));
    group.append(svg("rect", { width: place.width, height: place.height, rx: 12 }), title, this.#fold(box, place));
    return group;
  }

  #fold(box, place) {
    const fold = svg("g", { class: "fold", transform: `translate(${place.width - 28} 7)` },
      svg("rect", { width: 20, height: 18, rx: 5 }), svg("path", { d: "M6 9h8" }), svg("title", {}, `Fold ${box.name}`));
    fold.addEventListener("click", (event) => {
      event.stopPropagation();
      this.select(box, "toggle");
    });
    return fold;
  }

  #closedBox(box, place) {
    const card = boxCard(box);
    const times = box.kind === "repeat" ? `, ${box.count} times` : "";
    const group = this.#group(box, place, `${card.heading}${times}, folded: ${card.counts.join(", ")}`);
    group.setAttribute("class", `closed ${box.kind}`);
    group.setAttribute("aria-expanded", "false");
    if (box.kind === "repeat") {
      for (const shift of [8, 4]) group.append(svg("rect", { x: shift, y: -shift, width: place.width, height: place.height, rx: 10, class: "behind" }));
    }
    group.append(svg("rect", { width: place.width, height: place.height, rx: 10, class: "front" }),
      svg("text", { x: CARD.padding, y: 24, class: "heading" }, card.heading));
    if (box.kind === "repeat") group.append(badge(`×${box.count}`, place.width));
    let y = 42;
    for (const line of card.type ? [card.type, ...card.counts] : card.counts) {
      group.append(svg("text", { x: CARD.padding, y, class: "muted" }, line));
      y += LINE;
    }
    group.append(svg("rect", { class: "progress", x: 1, y: place.height - 4, width: 0, height: 3, rx: 1.5, "data-width": place.width - 2 }));
    return group;
  }

  #card(node, place) {
    const card = cardOf(node);
    const group = this.#group(node, place, describe(node));
    group.setAttribute("class", `card ${node.minor ? "minor" : node.kind} family-${node.family ?? "none"}`);
    const radius = node.minor || node.kind !== "op" ? Math.min(14, place.height / 2) : 8;
    group.append(svg("rect", { width: place.width, height: place.height, rx: radius, class: "front" }));
    if (node.minor) {
      group.append(svg("text", { x: place.width / 2, y: 12, class: "minor-name" }, card.heading));
      return group;
    }
    if (node.kind === "op") group.append(svg("path", { d: `M8 0H4.5A4.5 8 0 0 0 0 8V${place.height - 8}A4.5 8 0 0 0 4.5 ${place.height}H8Z`, class: "stripe" }));
    group.append(svg("text", { x: CARD.padding, y: 20, class: "heading" }, card.heading));
    if (card.beside) group.append(svg("text", { x: place.width - 10, y: 20, class: "beside" }, card.beside));
    group.append(svg("text", { x: CARD.padding, y: 36, class: "shape" }, card.shape));
    const most = Math.floor((place.width - 2 * CARD.padding + 2) / CHARACTER);
    let y = 36;
    for (const [name, lines, bars] of [["value", card.value, card.valueBars], ["delta", card.delta, card.deltaBars]]) {
      const part = svg("g", { class: name });
      lines.forEach((line, i) => {
        y += LINE;
        part.append(svg("text", { x: CARD.padding, y }, name === "delta" ? `${i ? "\u00a0\u00a0" : "∂ "}${short(line, most - 2)}` : short(line, most)));
      });
      if (bars) {
        y += 26;
        part.append(histogram(bars, CARD.padding, y - 18, place.width - 2 * CARD.padding, 20));
      }
      group.append(part);
    }
    return group;
  }

  /** Bring an item into sight, if it is not. */
  reveal(item, always = false) {
    const place = this.places.get(item);
    if (place) this.camera.reveal(place, always);
  }

  /** The same with what goes into the item, which its gradients reach; the item alone where not all of it has room. */
  revealWithInputs(item) {
    const inputs = this.routes.flatMap(({ edges }) => edges).filter((edge) => edge.to === item).map((edge) => edge.from);
    const places = [item, ...inputs].map((one) => this.places.get(one)).filter((place) => place);
    const x = Math.min(...places.map((place) => place.x));
    const y = Math.min(...places.map((place) => place.y));
    const width = Math.max(...places.map((place) => place.x + place.width)) - x;
    const height = Math.max(...places.map((place) => place.y + place.height)) - y;
    const all = { x, y, width, height };
    if (this.camera.hasRoomFor(all)) this.camera.reveal(all);
    else this.reveal(item);
  }
}

function badge(text, right) {
  const width = textWidth(text) + 12;
  return svg("g", { class: "badge", transform: `translate(${right - width - 10} 10)` },
    svg("rect", { width, height: 20, rx: 10 }), svg("text", { x: width / 2, y: 14.5 }, text));
}

function histogram(bars, x, y, width, height) {
  const most = Math.max(...bars);
  const step = width / bars.length;
  const d = bars.map((count, i) => {
    const tall = count ? Math.max(1, (height * count) / most) : 0;
    return tall ? `M${(x + i * step).toFixed(1)} ${y + height}v${(-tall).toFixed(1)}h${(step - 1).toFixed(1)}v${tall.toFixed(1)}z` : "";
  });
  return svg("path", { d: d.join(""), class: "bars" });
}

function describe(node) {
  const parts = [node.name ? `${node.name}${node.kind === "op" ? `, ${node.title}` : ""}` : node.title];
  if (node.kind !== "op") parts.push(node.kind);
  parts.push(`shape ${shapeText(node.shape)}`);
  return parts.join(", ");
}

function pathThrough(points) {
  let d = `M${points[0][0].toFixed(1)} ${points[0][1].toFixed(1)}`;
  for (let i = 1; i < points.length; i += 1) {
    const [x0, y0] = points[i - 1];
    const [x, y] = points[i];
    const bend = Math.max((x - x0) / 2, 0);
    d += Math.abs(y - y0) < 0.5 || x === x0
      ? `L${x.toFixed(1)} ${y.toFixed(1)}`
      : `C${(x0 + bend).toFixed(1)} ${y0.toFixed(1)} ${(x - bend).toFixed(1)} ${y.toFixed(1)} ${x.toFixed(1)} ${y.toFixed(1)}`;
  }
  return d;
}
