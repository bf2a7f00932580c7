// Names beside points, where they cover no point, error bar, other name, or rectangle that is taken already.

export interface Placed {
  label: string;
  x: number; // of the point, in pixels
  y: number;
  low: number; // ends of its error bar
  high: number;
}
export interface Box {
  left: number;
  right: number;
  top: number;
  bottom: number;
}
export type Rectangle = [x0: number, y0: number, x1: number, y1: number];

export const LETTER = 7; // width of an average letter at 12 px, rounded up
const SHIFTS = [0, -16, 16, -32, 32, -48, 48, -64, 64, -80, 80, -96, 96];

const clip = (label: string, length: number) => (label.length > length ? label.slice(0, length - 1) + "…" : label);

function svg(tag: string, attributes: Record<string, string | number>, content = "") {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, String(value));
  node.textContent = content;
  return node;
}

function placeLabel(p: Placed, box: Box, isFree: (place: Rectangle) => boolean) {
  const label = clip(p.label, Math.max(10, Math.floor(((box.right - box.left) * 0.45) / LETTER)));
  const width = label.length * LETTER;
  for (const shift of SHIFTS) {
    const top = p.y - 8 + shift;
    const sides: [number, "start" | "end" | "middle"][] = [
      [p.x + 11, "start"],
      [p.x - 11 - width, "end"],
    ];
    if (shift !== 0) sides.push([p.x - width / 2, "middle"]);
    for (const [left, anchor] of sides) {
      const place: Rectangle = [left, top, left + width, top + 16];
      if (!isFree(place)) continue;
      const x = anchor === "start" ? left : anchor === "end" ? left + width : p.x;
      const nodes = [svg("text", { x, y: top + 12, "text-anchor": anchor, class: "name" }, label)];
      if (Math.abs(shift) > 16) {
        nodes.unshift(svg("line", { x1: p.x, y1: p.y, x2: x, y2: shift < 0 ? top + 15 : top + 2, class: "leader" }));
      }
      return { place, nodes };
    }
  }
  return null; // too crowded: the table and the tip name it
}

/** Earlier points come first. A name keeps more distance to other points than to its own, so as not to seem theirs. */
export function labelPoints(points: Placed[], box: Box, occupied: Rectangle[]): SVGElement[] {
  const taken = [...occupied];
  const overlaps = ([x0, y0, x1, y1]: Rectangle, t: Rectangle) => x0 < t[2] && x1 > t[0] && y0 < t[3] && y1 > t[1];
  const around = (p: Placed, x: number, y: number): Rectangle[] => [
    [p.x - x, p.y - y, p.x + x, p.y + y],
    [p.x - 2, p.high, p.x + 2, p.low],
  ];
  return points.flatMap((p) => {
    const dots = points.flatMap((other) => (other === p ? around(p, 7, 7) : around(other, 14, 8)));
    const isFree = (place: Rectangle) =>
      place[0] >= box.left &&
      place[2] <= box.right + 14 &&
      place[1] >= box.top - 6 &&
      place[3] <= box.bottom &&
      ![...dots, ...taken].some((t) => overlaps(place, t));
    const placed = placeLabel(p, box, isFree);
    if (!placed) return [];
    taken.push(placed.place);
    return placed.nodes;
  });
}
