// Which part of the picture is in sight: pan by dragging, zoom by wheel, pinch or buttons, and a map of the whole.

const LEGEND = 36; // the height of the legend below, which covers no card at first
const ZOOM = { least: 0.04, most: 3, comfortable: 0.9, readable: 0.66 };

class Camera {
  constructor(element, bounds) {
    this.element = element;
    this.bounds = bounds;
    this.content = element.querySelector("#content");
    this.map = document.querySelector("#map");
    this.x = 0;
    this.y = 0;
    this.zoom = 1;
    this.pointers = new Map();
    element.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    element.addEventListener("pointerdown", (event) => this.#down(event));
    element.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) element.addEventListener(name, (event) => this.#up(event));
    element.addEventListener("click", (event) => this.moved && event.stopPropagation(), true);
    this.map.addEventListener("pointerdown", (event) => this.#jump(event));
    this.map.addEventListener("pointermove", (event) => event.buttons && this.#jump(event));
  }

  get size() {
    return { width: this.element.clientWidth, height: this.element.clientHeight };
  }

  changed() {
    this.content.setAttribute("transform", `translate(${this.x.toFixed(2)} ${this.y.toFixed(2)}) scale(${this.zoom.toFixed(4)})`);
    this.#drawMap();
  }

  /** All in sight, if it can be read then; otherwise its beginning, at a size that can be read. */
  fit(whole = false) {
    const { width } = this.size;
    const height = this.size.height - LEGEND;
    const bounds = this.bounds();
    const all = Math.min(width / bounds.width, height / bounds.height, 1.25);
    const beginning = Math.max(Math.min(ZOOM.comfortable, height / bounds.height), ZOOM.readable);
    this.zoom = whole || all > ZOOM.readable ? Math.max(all, ZOOM.least) : beginning;
    this.x = Math.max((width - bounds.width * this.zoom) / 2, 0);
    this.y = Math.max((height - bounds.height * this.zoom) / 2, 0);
    this.changed();
  }

  zoomBy(factor, at = { x: this.size.width / 2, y: this.size.height / 2 }) {
    const zoom = Math.min(Math.max(this.zoom * factor, ZOOM.least), ZOOM.most);
    this.x = at.x - ((at.x - this.x) * zoom) / this.zoom;
    this.y = at.y - ((at.y - this.y) * zoom) / this.zoom;
    this.zoom = zoom;
    this.changed();
  }

  /** How near to the edge of the window a place may be and still be seen well. */
  get #margin() {
    const { width, height } = this.size;
    return Math.min(60, width / 8, height / 8);
  }

  hasRoomFor(place) {
    const { width, height } = this.size;
    return place.width * this.zoom < width - 2 * this.#margin && place.height * this.zoom < height - this.#margin;
  }

  /** Move a place into sight; with `always` into the middle. */
  reveal(place, always) {
    if (this.#showsAll && !always) return;
    const { width, height } = this.size;
    const left = this.x + place.x * this.zoom;
    const top = this.y + place.y * this.zoom;
    const margin = this.#margin;
    const inSight = left > margin && left + place.width * this.zoom < width - margin && top > margin / 2 && top + place.height * this.zoom < height - margin / 2;
    if (inSight && !always) return;
    const middle = { x: width / 2 - (place.x + place.width / 2) * this.zoom, y: height / 2 - (place.y + place.height / 2) * this.zoom };
    this.#glide(middle);
  }

  #glide(target) {
    cancelAnimationFrame(this.gliding);
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
      Object.assign(this, target);
      this.changed();
      return;
    }
    const from = { x: this.x, y: this.y };
    const began = performance.now();
    const frame = (now) => {
      const part = Math.min(Math.max((now - began) / 260, 0), 1);
      const eased = part * (2 - part);
      this.x = from.x + (target.x - from.x) * eased;
      this.y = from.y + (target.y - from.y) * eased;
      this.changed();
      if (part < 1) this.gliding = requestAnimationFrame(frame);
    };
    this.gliding = requestAnimationFrame(frame);
  }

  #wheel(event) {
    event.preventDefault();
    cancelAnimationFrame(this.gliding);
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      this.x -= event.deltaX || event.deltaY;
      this.y -= event.deltaX ? event.deltaY : 0;
      this.changed();
      return;
    }
    this.zoomBy(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), this.#inside(event));
  }

  #inside(event) {
    const { left, top } = this.element.getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  }

  #down(event) {
    cancelAnimationFrame(this.gliding);
    this.pointers.set(event.pointerId, this.#inside(event));
    this.moved = false;
  }

  #up(event) {
    this.pointers.delete(event.pointerId);
    setTimeout(() => { this.moved = false; }); // after the click that ends a drag, which is none
  }

  #move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = this.#inside(event);
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
    if (!this.moved && Math.hypot(now.x - before.x, now.y - before.y) < 4) return;
    if (!this.moved) this.element.setPointerCapture(event.pointerId);
    this.moved = true;
    this.pointers.set(event.pointerId, now);
    this.x += (now.x - before.x) / (others.length + 1);
    this.y += (now.y - before.y) / (others.length + 1);
    if (others.length) {
      const apart = (point) => Math.max(Math.hypot(point.x - others[0].x, point.y - others[0].y), 1);
      this.zoomBy(apart(now) / apart(before), others[0]);
    }
    this.changed();
  }

  /** Whether nothing is out of sight. */
  get #showsAll() {
    const { width, height } = this.size;
    const bounds = this.bounds();
    return this.x >= -1 && this.y >= -1 && this.x + bounds.width * this.zoom <= width + 1 && this.y + bounds.height * this.zoom <= height + 1;
  }

  #drawMap() {
    const bounds = this.bounds();
    const { width, height } = this.size;
    if (!bounds || !width) return;
    this.map.classList.toggle("needless", this.#showsAll);
    const scale = Math.min(200 / bounds.width, 90 / bounds.height);
    this.map.setAttribute("viewBox", `0 0 ${bounds.width} ${bounds.height}`);
    this.map.setAttribute("width", bounds.width * scale);
    this.map.setAttribute("height", Math.max(bounds.height * scale, 4));
    const view = this.map.querySelector("#view");
    view.setAttribute("x", -this.x / this.zoom);
    view.setAttribute("y", -this.y / this.zoom);
    view.setAttribute("width", width / this.zoom);
    view.setAttribute("height", height / this.zoom);
    view.setAttribute("stroke-width", 2 / scale);
  }

  #jump(event) {
    event.preventDefault();
    const { left, top, width, height } = this.map.getBoundingClientRect();
    const bounds = this.bounds();
    this.x = this.size.width / 2 - ((event.clientX - left) / width) * bounds.width * this.zoom;
    this.y = this.size.height / 2 - ((event.clientY - top) / height) * bounds.height * this.zoom;
    this.changed();
  }
}
