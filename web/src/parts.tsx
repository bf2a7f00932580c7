// What all sections are made of: tables, folds, pictures that are drawn anew for the width they get, and where the
// figures come from. Text reaches the page as text nodes only, never as markup.
import * as Plot from "@observablehq/plot";
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { baseName, bytes, integer } from "./numbers";
import type { Comparison, Eval, Fit } from "./records";

type Drawing = ReturnType<typeof Plot.plot>;

/** `finish` may add to the drawing what needs its scales. */
export function Picture(props: {
  title: string;
  draw: (width: number) => Plot.PlotOptions;
  finish?: (drawing: Drawing, width: number) => void;
  caption?: ComponentChildren;
}) {
  const holder = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const node = holder.current!;
    let drawn = 0;
    const draw = () => {
      const width = Math.max(280, Math.floor(node.clientWidth));
      if (width === drawn) return;
      drawn = width;
      const drawing = Plot.plot({
        ariaLabel: props.title,
        style: { background: "none", fontSize: "12px", overflow: "visible" },
        ...props.draw(width),
        width,
      });
      drawing.setAttribute("role", "img");
      props.finish?.(drawing, width);
      node.replaceChildren(drawing);
    };
    draw();
    const observer = new ResizeObserver(draw);
    observer.observe(node);
    return () => observer.disconnect();
  });
  return (
    <figure>
      <div class="picture" ref={holder} />
      {props.caption && <figcaption>{props.caption}</figcaption>}
    </figure>
  );
}

/** Cells are figures, set to the right, or { text }. The first cell of a row is its heading. */
export type Cell = string | { text: string };

export function Table(props: { caption: string; headings: string[]; rows: Cell[][] }) {
  const cell = (value: Cell, i: number) => {
    const isText = typeof value === "object";
    const content = isText ? value.text : value;
    if (i === 0) return <th scope="row">{content}</th>;
    return <td class={isText ? "text" : undefined}>{content}</td>;
  };
  return (
    <div class="scroll" role="region" tabIndex={0} aria-label={props.caption}>
      <table>
        <caption>{props.caption}</caption>
        <thead>
          <tr>
            {props.headings.map((heading) => (
              <th scope="col">{heading}</th>
            ))}
          </tr>
        </thead>
        <tbody>
          {props.rows.map((row) => (
            <tr>{row.map(cell)}</tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export function Folded(props: { summary: string; children: ComponentChildren }) {
  return (
    <details>
      <summary>{props.summary}</summary>
      {props.children}
    </details>
  );
}

export function Legend(props: { items: [string, string][] }) {
  return (
    <p class="legend">
      {props.items.map(([name, label]) => (
        <span class={name}>
          <i />
          {label}
        </span>
      ))}
    </p>
  );
}

/** Sentences, each about something with a name. */
export function Findings(props: { items: [string, string][] }) {
  return (
    <ul class="findings">
      {props.items.map(([name, says]) => (
        <li>
          <strong>{name}</strong>: {says}
        </li>
      ))}
    </ul>
  );
}

const SOURCES: [string, string][] = [
  ["model", "Model"],
  ["output", "File made"],
  ["adapters", "Adapters"],
  ["reference", "Reference"],
  ["ctx_size", "Window, tokens"],
  ["compute", "Products in"],
  ["n_parameters", "Parameters"],
  ["thimble_version", "Thimble"],
];

/** Hashes of all inputs and the command line. */
export function Sources(props: { record: Eval | Fit | Comparison; heading?: string }) {
  const record = props.record as unknown as Record<string, unknown>;
  const inputs = props.record.inputs ?? [];
  const shown = SOURCES.filter(([key]) => ["string", "number"].includes(typeof record[key]) && record[key] !== "");
  const adapters = Array.isArray(record.adapters) ? record.adapters.join(", ") : "";
  return (
    <div class="sources">
      {props.heading && <h3>{props.heading}</h3>}
      <dl>
        {shown.map(([key, label]) => (
          <>
            <dt>{label}</dt>
            <dd>{typeof record[key] === "number" ? integer(record[key]) : <code>{String(record[key])}</code>}</dd>
          </>
        ))}
        {adapters && (
          <>
            <dt>Adapters</dt>
            <dd>
              <code>{adapters}</code>
            </dd>
          </>
        )}
        {props.record.command && (
          <>
            <dt>Command that repeats it</dt>
            <dd>
              <code class="command">{props.record.command}</code>
            </dd>
          </>
        )}
      </dl>
      {inputs.length > 0 && (
        <Table
          caption="Every input, with its SHA-256"
          headings={["Input", "Size", "SHA-256"]}
          rows={inputs.map((input) => [baseName(input.path), bytes(input.bytes), { text: input.sha256 }])}
        />
      )}
    </div>
  );
}
