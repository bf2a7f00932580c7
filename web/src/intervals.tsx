// Values with their 95 % intervals, a row each, in groups under a common scale.
import * as Plot from "@observablehq/plot";
import { LETTER } from "./labels";
import { Picture } from "./parts";
import { axisOf, needsLog, type Scale, scaleOf } from "./scales";

export interface Row {
  group?: string;
  name: string;
  value: number;
  low: number;
  high: number;
}

const ROW = 26;

/** A group's name takes a row of its own. */
function placesOf(rows: Row[]): (Row | string)[] {
  const groups = [...new Set(rows.map((row) => row.group ?? ""))];
  return groups.flatMap((group) => [
    ...(group === "" ? [] : [group]),
    ...rows.filter((row) => (row.group ?? "") === group),
  ]);
}

export function Intervals(props: {
  title: string;
  xTitle: string;
  rows: Row[];
  show: (value: number) => string;
  domain?: [number, number];
  caption?: string;
}) {
  const { show } = props;
  const isLog = !props.domain && needsLog(props.rows.map((row) => row.value));
  // On a logarithmic scale, an interval that would reach 0 ends at a third.
  const places = placesOf(props.rows);
  const rows = places.flatMap((place, i) => {
    if (typeof place === "string") return [];
    const low = Math.max(place.low, isLog ? place.value / 3 : 0);
    return [
      { ...place, i, low, tip: `${place.name}: ${show(place.value)}, ${show(place.low)} to ${show(place.high)}` },
    ];
  });
  const headings = places.flatMap((place, i) => (typeof place === "string" ? [{ name: place, i }] : []));
  const x: Scale = props.domain
    ? { type: "linear", domain: props.domain, tickFormat: show }
    : scaleOf(
        rows.flatMap((row) => [row.value, row.low, row.high]),
        isLog,
        true,
      );
  const longest = Math.max(...rows.map((row) => row.name.length));
  return (
    <Picture
      title={props.title}
      caption={props.caption}
      draw={(width) => {
        const marginLeft = Math.min(longest * LETTER + 14, Math.round(width * 0.36));
        const letters = Math.floor((marginLeft - 10) / LETTER);
        const clip = (name: string) => (name.length > letters ? name.slice(0, letters - 1) + "…" : name);
        const axis = axisOf("x", x, width - marginLeft - 70, props.xTitle);
        const left = { frameAnchor: "left" as const, textAnchor: "start" as const, dx: -marginLeft };
        return {
          height: places.length * ROW + 54,
          marginLeft,
          marginRight: 70,
          marginTop: 8,
          marginBottom: 46,
          x: axis.scale,
          y: { type: "linear", domain: [places.length - 0.5, -0.5], axis: null },
          marks: [
            ...axis.marks,
            Plot.text(headings, { ...left, y: "i", text: "name", className: "heading" }),
            Plot.text(rows, { ...left, y: "i", text: (row) => clip(row.name) }),
            Plot.ruleY(rows, { y: "i", x1: "low", x2: "high", className: "whisker" }),
            Plot.dot(rows, { x: "value", y: "i", r: 5, className: "model-dot" }),
            Plot.text(rows, { x: "high", y: "i", dx: 8, textAnchor: "start", text: (row) => show(row.value) }),
            Plot.tip(rows, Plot.pointerY({ x: "value", y: "i", title: "tip" })),
          ],
        };
      }}
    />
  );
}
