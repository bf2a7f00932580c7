// A cell for each matrix of a model: layers to the right, on a narrow page down, and stronger colour for more.
import * as Plot from "@observablehq/plot";
import { LETTER } from "./labels";
import { Picture } from "./parts";

export interface Cell {
  module: string; // "attn_q", "ffn_down", "token_embd"
  layer: number | null; // null: of no layer; its cell spans them all
  strength: number; // 0 to 1
  tip: string;
}

const WIDE = 560;

export function CellMap(props: { title: string; cells: Cell[]; tone?: "first" | "second"; caption?: string }) {
  const layers = 1 + Math.max(0, ...props.cells.map((cell) => cell.layer ?? 0));
  const modules = [...new Set(props.cells.map((cell) => cell.module))];
  const cells = props.cells.map((cell) => ({
    ...cell,
    from: (cell.layer ?? 0) - 0.5,
    to: (cell.layer ?? layers - 1) + 0.5,
    middle: cell.layer ?? 0,
    opacity: 0.08 + 0.92 * Math.min(1, Math.max(0, cell.strength)),
  }));
  // A cell that spans all layers is pointed at in each.
  const tips = cells.flatMap((cell) =>
    cell.layer === null ? Array.from({ length: layers }, (_, middle) => ({ ...cell, middle })) : [cell],
  );
  const letters = Math.max(...modules.map((module) => module.length));
  const look = { fillOpacity: "opacity", inset: 0.5, className: `cell-${props.tone ?? "first"}` };
  const along = { domain: [-0.5, layers - 0.5], ticks: layersToName(layers), tickFormat: String, tickSize: 0 };
  const across = { domain: modules, label: null, tickSize: 0, padding: 0 };
  const wide = (width: number): Plot.PlotOptions => ({
    height: modules.length * 26 + 44,
    marginLeft: letters * LETTER + 12,
    marginTop: 4,
    marginBottom: 40,
    marginRight: Math.max(4, width - letters * LETTER - 16 - layers * 28),
    x: { ...along, label: "layer", labelAnchor: "left", labelArrow: "none" },
    y: across,
    marks: [
      Plot.barX(cells, { x1: "from", x2: "to", y: "module", ...look }),
      Plot.tip(tips, Plot.pointer({ x: "middle", y: "module", title: "tip" })),
    ],
  });
  const narrow = (width: number): Plot.PlotOptions => ({
    height: layers * 16 + letters * 6 + 16,
    marginLeft: 30,
    marginTop: letters * 6 + 12,
    marginBottom: 4,
    marginRight: Math.max(36, width - 30 - modules.length * 44),
    x: { ...across, axis: "top", tickRotate: -50 },
    y: { ...along, domain: [layers - 0.5, -0.5], label: "layer", labelArrow: "none", labelAnchor: "top" },
    marks: [
      Plot.barY(cells, { y1: "from", y2: "to", x: "module", ...look }),
      Plot.tip(tips, Plot.pointer({ y: "middle", x: "module", title: "tip" })),
    ],
  });
  return (
    <Picture
      title={props.title}
      caption={props.caption}
      draw={(width) => (width >= WIDE ? wide(width) : narrow(width))}
    />
  );
}

function layersToName(layers: number) {
  const step = layers > 12 ? 5 : 1;
  return Array.from({ length: Math.ceil(layers / step) }, (_, i) => i * step);
}
