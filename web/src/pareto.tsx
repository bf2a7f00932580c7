// Cost to the right, divergence or perplexity upward, a point per model.
import * as Plot from "@observablehq/plot";
import { type Box, LETTER, labelPoints, type Rectangle } from "./labels";
import { isNumber } from "./numbers";
import { Picture } from "./parts";
import { axisOf, needsLog, scaleOf } from "./scales";

export interface Point {
  name: string;
  x: number;
  y: number;
  error?: number; // half of an error bar
  role: "model" | "beaten" | "type" | "chosen";
  tip: string;
}
export interface Limit {
  axis: "x" | "y";
  value: number;
  label: string;
}

/** Points that another one of them beats in both, or equals in one and beats in the other. */
export function markBeaten(points: Point[], moreIsBetter = false): Point[] {
  const sign = moreIsBetter ? -1 : 1;
  const beats = (p: Point, q: Point) =>
    sign * p.x <= sign * q.x && p.y <= q.y && (sign * p.x < sign * q.x || p.y < q.y);
  return points.map((q) => ({ ...q, role: points.some((p) => beats(p, q)) ? "beaten" : "model" }));
}

function limitMarks(limits: Limit[]) {
  return limits.map((limit) =>
    limit.axis === "x"
      ? Plot.ruleX([limit.value], { className: "limit" })
      : Plot.ruleY([limit.value], { className: "limit" }),
  );
}

/** Names of limits, on the side of their line that has room; and where they stand. */
function nameLimits(drawing: Element, limits: Limit[], box: Box, at: (axis: "x" | "y", value: number) => number) {
  return limits.map((limit): Rectangle => {
    const width = limit.label.length * LETTER;
    const place = at(limit.axis, limit.value);
    const isLeft = limit.axis === "x" && place + width + 6 > box.right;
    const x = limit.axis === "y" ? box.right - width : isLeft ? place - 6 - width : place + 6;
    const y = limit.axis === "y" ? place - 18 : box.top - 4;
    const text = document.createElementNS("http://www.w3.org/2000/svg", "text");
    text.setAttribute("x", String(isLeft || limit.axis === "y" ? x + width : x));
    text.setAttribute("y", String(y + 12));
    text.setAttribute("text-anchor", isLeft || limit.axis === "y" ? "end" : "start");
    text.setAttribute("class", "name");
    text.textContent = limit.label;
    drawing.append(text);
    return [x, y, x + width, y + 16];
  });
}

export function Pareto(props: {
  title: string;
  xTitle: string;
  yTitle: string;
  points: Point[];
  front?: { x: number; y: number; tip: string }[];
  limits?: Limit[];
  fromZero?: boolean;
  caption?: string;
}) {
  const { points, front = [], limits = [] } = props;
  const low = (p: Point) => p.y - (p.error ?? 0);
  const high = (p: Point) => p.y + (p.error ?? 0);
  const along = (axis: "x" | "y") => limits.filter((l) => l.axis === axis).map((l) => l.value);
  const ys = [...points, ...front].map((p) => p.y).concat(along("y"));
  const isLog = needsLog(ys);
  // On a logarithmic scale, a bar that would reach 0 ends at a third.
  const bottom = (p: Point) => (isLog ? Math.max(low(p), p.y / 3) : low(p));
  const y = scaleOf(ys.concat(points.map(high), points.map(bottom)), isLog, props.fromZero);
  const xs = [...points, ...front].map((p) => p.x).concat(along("x"));
  const x = scaleOf(xs, needsLog(xs));
  const of = (role: Point["role"]) => points.filter((p) => p.role === role);
  const dots = (role: Point["role"], r: number, symbol: "circle" | "diamond" = "circle") =>
    Plot.dot(of(role), { x: "x", y: "y", r, symbol, className: `${role}-dot` });
  const box = (width: number): Box => ({ left: 56, right: width - 18, top: 30, bottom: 320 });
  return (
    <Picture
      title={props.title}
      caption={props.caption}
      draw={(width) => {
        const across = axisOf("x", x, width - 74, props.xTitle);
        const up = axisOf("y", y, 580, null);
        return {
          height: 366,
          marginLeft: 56,
          marginRight: 18,
          marginTop: 30,
          marginBottom: 46,
          x: across.scale,
          y: up.scale,
          marks: [
            ...up.marks,
            across.marks[1],
            Plot.text([props.yTitle], {
              frameAnchor: "top-left",
              dx: -54,
              dy: -28,
              lineAnchor: "top",
              textAnchor: "start",
            }),
            ...limitMarks(limits),
            Plot.line(front, { x: "x", y: "y", className: "front-line" }),
            Plot.dot(front, { x: "x", y: "y", r: 2.5, className: "front-dot" }),
            Plot.ruleX(
              points.filter((p) => p.error),
              { x: "x", y1: bottom, y2: high, className: "whisker" },
            ),
            dots("type", 4.5, "diamond"),
            dots("beaten", 5),
            dots("model", 5.5),
            dots("chosen", 7),
            Plot.tip([...points, ...front], Plot.pointer({ x: "x", y: "y", title: "tip" })),
          ],
        };
      }}
      finish={(drawing, width) => {
        const at = (axis: "x" | "y", value: number) => drawing.scale(axis)!.apply(value) as number;
        const taken = nameLimits(drawing, limits, box(width), at);
        taken.push(
          ...front.map((p): Rectangle => [at("x", p.x) - 4, at("y", p.y) - 4, at("x", p.x) + 4, at("y", p.y) + 4]),
        );
        const rank = (p: Point) => (p.role === "chosen" ? -Infinity : at("y", p.y));
        const ordered = [...points].sort((p, q) => rank(p) - rank(q));
        const placed = ordered.map((p) => ({
          label: p.name,
          x: at("x", p.x),
          y: at("y", p.y),
          low: at("y", isNumber(p.error) ? bottom(p) : p.y),
          high: at("y", high(p)),
        }));
        drawing.append(...labelPoints(placed, box(width), taken));
      }}
    />
  );
}
