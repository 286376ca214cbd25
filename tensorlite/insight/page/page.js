// The page: puts model, picture, panel and walk together, and listens to the reader.

const find = (selector) => document.querySelector(selector);

class Page {
  constructor() {
    this.model = new Model(JSON.parse(find("#data").textContent));
    this.walk = new Walk(this.model);
    const select = (item, how) => this.select(item, how);
    this.drawing = new Drawing(find("#graph"), this.model, select);
    this.panel = new Panel(find("#panel"), this.model, select);
    this.selected = null;
    this.resting = true; // nothing is pointed out until the reader walks
    this.drawing.draw();
    this.drawing.camera.fit();
    this.panel.show(null);
    this.#facts();
    this.#buttons();
    this.#search();
    this.#theme();
    document.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.drawing.camera.changed()).observe(find("#graph"));
    this.update();
  }

  // --- what is shown

  /** Show how far the walk has come. */
  update() {
    const { walk } = this;
    const now = this.resting ? null : walk.now();
    for (const [item, group] of this.drawing.groups) {
      group.classList.toggle("selected", item === this.selected);
      group.classList.toggle("current", item === now?.item);
      group.classList.toggle("backward", item === now?.item && now.phase !== "forward");
      if (item.isBox) this.#progress(item, group);
      else {
        group.classList.toggle("has-value", walk.valueAt.get(item) <= walk.time);
        group.classList.toggle("has-delta", walk.deltaAt.get(item) <= walk.time);
      }
    }
    for (const { line, edges } of this.drawing.routes) {
      const lit = now && edges.some((edge) => edge.to === now.item);
      line.classList.toggle("lit", Boolean(lit) && now.phase !== "start");
      line.classList.toggle("backward", Boolean(lit) && now.phase === "backward");
    }
    const place = walk.place;
    const slider = find("#position");
    slider.max = walk.stops.length - 1;
    slider.value = place;
    const caption = this.resting && walk.atEnd ? this.#summary() : walk.caption();
    find("#caption").textContent = caption;
    slider.setAttribute("aria-valuetext", `${place} of ${walk.stops.length - 1}: ${caption}`);
    const phase = this.resting ? "rest" : now?.phase ?? "forward";
    document.documentElement.dataset.phase = phase;
    document.documentElement.dataset.place = place;
    find(".track").style.setProperty("--turn", `${walk.turn * 100}%`);
    find("#turn").textContent = `${place} / ${walk.stops.length - 1}`;
    for (const [id, off] of [["start", place === 0], ["back", place === 0], ["step", walk.atEnd], ["end", walk.atEnd]]) find(`#${id}`).disabled = off;
  }

  #summary() {
    const { forward, backward } = this.model.data;
    return `${plural(forward.length, "operation")} forward, ${backward.length ? `${backward.length} backward` : "no gradients"}. Press play.`;
  }

  #progress(box, group) {
    const bar = group.querySelector(".progress");
    if (!bar) return;
    const operations = box.nodes.filter((node) => node.kind === "op");
    const share = (times) => operations.filter((node) => times.get(node) <= this.walk.time).length / operations.length;
    const backward = share(this.walk.deltaAt);
    bar.setAttribute("width", bar.dataset.width * (backward || share(this.walk.valueAt)));
    bar.classList.toggle("backward", backward > 0);
  }

  #facts() {
    const { data, nodes } = this.model;
    const parameters = nodes.filter((node) => node.kind === "parameter");
    const numbers = parameters.reduce((sum, node) => sum + count(node.shape), 0);
    const words = [plural(data.forward.length, "operation"), `${plural(parameters.length, "parameter")}, ${plural(numbers, "number")}`,
      `${bytesText(data.savedBytes)} saved`, data.device];
    find("#facts").append(...words.map((word) => html("li", {}, word)));
    find("#notes").hidden = !data.notes.length;
    find("#notes").append(...data.notes.map((note) => html("p", {}, note)));
  }

  // --- what the reader does

  /** Select an item, or nothing; "toggle" opens or folds a box, "reveal" brings the item into sight. */
  select(item, how) {
    if (how === "toggle") this.#toggle(item);
    if (how === "reveal") {
      this.model.openAround(item);
      if (this.model.isHidden(item)) this.model.withReshapes = true;
      this.#redraw();
      this.drawing.reveal(item);
    }
    this.selected = item;
    this.panel.show(item);
    this.#rove(item);
    this.update();
    if (item && !how) this.drawing.reveal(item); // the panel may cover it now
  }

  #toggle(box) {
    const before = this.drawing.places.get(box);
    box.open = !box.open;
    this.#redraw();
    const after = this.drawing.places.get(box);
    const { camera } = this.drawing;
    camera.x += (before.x - after.x) * camera.zoom; // the box stays under the pointer
    camera.y += (before.y - after.y) * camera.zoom;
    camera.changed();
  }

  #redraw() {
    this.drawing.draw();
    this.walk.group();
    this.walk.goTo(this.walk.place);
  }

  /** Of all items only one is in the order of the tab key. */
  #rove(item) {
    for (const group of this.drawing.groups.values()) group.setAttribute("tabindex", "-1");
    const one = this.drawing.groups.get(item) ?? this.drawing.groups.get(this.model.items()[0]);
    one?.setAttribute("tabindex", "0");
  }

  openAll(open) {
    for (const box of this.model.boxes.slice(1)) box.open = open;
    this.#redraw();
    this.drawing.camera.fit();
    this.select(null);
  }

  #showReshapes() {
    this.model.withReshapes = !this.model.withReshapes;
    find("#reshapes").setAttribute("aria-pressed", String(this.model.withReshapes));
    this.#redraw();
    this.drawing.camera.fit();
    this.select(this.model.isHidden(this.selected ?? {}) ? null : this.selected);
  }

  go(place) {
    this.resting = false;
    this.walk.goTo(place);
    const now = this.walk.now();
    if (now) this.drawing.revealWithInputs(now.item);
    else this.drawing.reveal(this.model.items()[0]);
    this.update();
  }

  play(playing = !this.timer) {
    clearTimeout(this.timer);
    this.timer = null;
    if (playing) {
      if (this.walk.atEnd) this.go(0);
      this.#tick();
    }
    find("#play").classList.toggle("playing", playing);
    find("#play").setAttribute("aria-label", playing ? "Pause" : "Play");
  }

  #tick() {
    this.timer = setTimeout(() => {
      this.go(this.walk.place + 1);
      if (this.walk.atEnd) this.play(false);
      else this.#tick();
    }, STEP_TIME / Number(find("#speed").value));
  }

  #buttons() {
    const { camera } = this.drawing;
    const actions = {
      play: () => this.play(),
      start: () => this.#leap(0), end: () => this.#leap(Infinity),
      back: () => this.#leap(this.walk.place - 1), step: () => this.#leap(this.walk.place + 1),
      in: () => camera.zoomBy(1.25), out: () => camera.zoomBy(0.8), fit: () => camera.fit(true),
      unfold: () => this.openAll(true), fold: () => this.openAll(false),
      reshapes: () => this.#showReshapes(), help: () => find("#keys").showModal(),
    };
    for (const [id, action] of Object.entries(actions)) find(`#${id}`).addEventListener("click", action);
    find("#position").addEventListener("input", (event) => this.#leap(Number(event.target.value)));
    find("#graph").addEventListener("click", () => this.select(null));
    this.#rove(null);
  }

  #leap(place) {
    this.play(false);
    this.go(place);
  }

  #key(event) {
    const target = event.target;
    if (event.ctrlKey || event.metaKey || event.altKey || find("#keys").open) return;
    if (target.matches("input[type=search], select")) return;
    if (target.matches("button, summary") && [" ", "Enter"].includes(event.key)) return;
    if (target.id === "position" && event.key.startsWith("Arrow")) return;
    const { camera } = this.drawing;
    const actions = {
      " ": () => this.play(), ArrowRight: () => this.#leap(this.walk.place + 1), ArrowLeft: () => this.#leap(this.walk.place - 1),
      Home: () => this.#leap(0), End: () => this.#leap(Infinity),
      ArrowDown: () => this.#next(1), ArrowUp: () => this.#next(-1), Enter: () => this.#enter(target),
      Escape: () => this.select(null), "/": () => find("#search").focus(), "?": () => find("#keys").showModal(),
      "+": () => camera.zoomBy(1.25), "=": () => camera.zoomBy(1.25), "-": () => camera.zoomBy(0.8), 0: () => camera.fit(true),
      r: () => this.#showReshapes(), u: () => this.openAll(true), f: () => this.openAll(false),
    };
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }

  #next(by) {
    const items = this.model.items();
    const place = items.indexOf(this.selected);
    const item = items[place < 0 ? (by > 0 ? 0 : items.length - 1) : Math.min(Math.max(place + by, 0), items.length - 1)];
    this.select(item);
    this.drawing.reveal(item);
    this.drawing.groups.get(item).focus({ preventScroll: true });
  }

  #enter(target) {
    const item = [...this.drawing.groups].find(([, group]) => group === target)?.[0];
    if (!item) return;
    this.select(item, item.isBox ? "toggle" : undefined);
    this.drawing.groups.get(item)?.focus({ preventScroll: true });
  }

  // --- search

  #search() {
    const field = find("#search");
    const matches = find("#matches");
    let found = [];
    let chosen = 0;
    const close = () => {
      matches.hidden = true;
      field.setAttribute("aria-expanded", "false");
      field.removeAttribute("aria-activedescendant");
    };
    const choose = (item) => {
      close();
      field.blur();
      this.select(item, "reveal");
      this.drawing.reveal(item, true);
    };
    const show = () => {
      found = this.#matching(field.value).slice(0, 40);
      chosen = Math.min(chosen, Math.max(found.length - 1, 0));
      const items = found.map((item, i) => html("li", { role: "option", id: `match-${i}`, "aria-selected": String(i === chosen), mousedown: (event) => { event.preventDefault(); choose(item); } },
        html("b", {}, item.isBox ? item.name : item.name ?? item.title), html("span", {}, item.isBox ? item.type ?? "module" : item.name && item.kind === "op" ? item.title : item.kind),
        html("small", {}, item.path ?? this.model.data.lines[item.line]?.code ?? "")));
      matches.replaceChildren(...(items.length ? items : [html("li", { class: "nothing" }, "nothing found")]));
      matches.hidden = !field.value.trim();
      field.setAttribute("aria-expanded", String(!matches.hidden));
      if (items.length) field.setAttribute("aria-activedescendant", `match-${chosen}`);
      items[chosen]?.scrollIntoView({ block: "nearest" });
    };
    field.addEventListener("input", () => { chosen = 0; show(); });
    field.addEventListener("focus", show);
    field.addEventListener("blur", close);
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") field.blur();
      else if (event.key === "Enter" && found[chosen]) choose(found[chosen]);
      else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        chosen = (chosen + (event.key === "ArrowDown" ? 1 : -1) + found.length) % Math.max(found.length, 1);
        show();
      } else return;
      event.preventDefault();
    });
  }

  #matching(text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) return [];
    const textOf = (item) => [item.name, item.title, item.op, item.type, item.path, this.model.data.lines[item.line]?.code].filter(Boolean).join(" ").toLowerCase();
    const rank = (item) => ((item.name ?? item.title ?? "").toLowerCase().startsWith(words[0]) ? 0 : 1);
    return [...this.model.boxes.slice(1), ...this.model.nodes].filter((item) => words.every((word) => textOf(item).includes(word)))
      .sort((a, b) => rank(a) - rank(b));
  }

  /** Light or dark as the system has it, until the reader says otherwise. */
  #theme() {
    const root = document.documentElement;
    const system = matchMedia("(prefers-color-scheme: dark)");
    const show = () => { root.dataset.theme = (this.dark ?? system.matches) ? "dark" : "light"; };
    system.addEventListener("change", show);
    find("#theme").addEventListener("click", () => {
      this.dark = root.dataset.theme !== "dark";
      show();
    });
    show();
  }
}

new Page();
document.documentElement.dataset.readyAfter = performance.now().toFixed(0);
document.documentElement.dataset.ready = "true";
