// What thimble compare measured: models side by side.
import { useState } from "preact/hooks";
import { Intervals } from "./intervals";
import { between, bytes, change, fixed, integer, isNumber, NONE, number, percent, signed } from "./numbers";
import { markBeaten, Pareto, type Point } from "./pareto";
import { type Cell, Table } from "./parts";
import type { ComparedModel, Comparison, TextRow } from "./records";
import { TaskSection } from "./tasks";

const textsOf = (rows: TextRow[]) => [...new Set(rows.map((row) => row.text))];
const digits = (v: number) => number(v, 3);
const change4 = (v: number) => signed(v, 3);

/** Each model against the first, on each text. */
export function compareFindings(comparison: Comparison): [string, string][] {
  const first = comparison.models[0].name;
  return (comparison.rows ?? []).flatMap((row): [string, string][] => {
    const interval = row.kld_less_first_interval;
    if (!isNumber(row.kld_less_first)) return [];
    const clear = interval && interval[0] * interval[1] > 0;
    const verdict = !clear
      ? "not clearly different from"
      : row.kld_less_first < 0
        ? "closer to the reference than"
        : "farther from the reference than";
    const why = interval ? ` (KL ${change4(row.kld_less_first)}, 95 % interval ${between(interval, change4)})` : "";
    return [[row.model, `on ${row.text} ${verdict} ${first}${why}.`]];
  });
}

function pointsOf(rows: TextRow[], models: Map<string, ComparedModel>, by: "size" | "speed"): Point[] {
  const points = rows.flatMap((row): Point[] => {
    const model = models.get(row.model);
    const x = by === "size" ? model && model.bytes / 1e6 : model?.tokens_per_second;
    if (!model || !isNumber(x)) return [];
    const tip =
      `${row.model}\n${bytes(model.bytes)}${model.tokens_per_second ? `, ${number(model.tokens_per_second)} tokens/s` : ""}\n` +
      `KL ${digits(row.kld_mean)}${row.kld_interval ? `, ${between(row.kld_interval, digits)}` : ""}`;
    const error = row.kld_interval ? (row.kld_interval[1] - row.kld_interval[0]) / 2 : 0;
    return [{ name: row.model, x, y: row.kld_mean, error, role: "model", tip }];
  });
  return markBeaten(points, by === "speed");
}

function ParetoSection({ comparison }: { comparison: Comparison }) {
  const rows = comparison.rows ?? [];
  const models = new Map(comparison.models.map((model) => [model.name, model]));
  const hasSpeed = comparison.models.every((model) => isNumber(model.tokens_per_second));
  const [by, setBy] = useState<"size" | "speed">("size");
  const choice = (value: typeof by, label: string) => (
    <label>
      <input type="radio" name="cost" value={value} checked={by === value} onChange={() => setBy(value)} /> {label}
    </label>
  );
  return (
    <section class="compare-pareto">
      <h2>{by === "size" ? "Size" : "Speed"} against divergence</h2>
      {hasSpeed && (
        <fieldset class="switch">
          <legend>To the right</legend>
          {choice("size", "file size")}
          {choice("speed", "speed")}
        </fieldset>
      )}
      {textsOf(rows).map((text) => (
        <>
          <h3>{text}</h3>
          <Pareto
            key={by}
            title={`KL divergence from the reference on ${text} against ${by}, one point per model`}
            xTitle={by === "size" ? "file size, MB" : "speed of reading the texts, tokens per second"}
            yTitle="mean KL divergence, nats per token"
            points={pointsOf(
              rows.filter((row) => row.text === text),
              models,
              by,
            )}
            fromZero
          />
        </>
      ))}
      <p class="muted">
        Lower is closer to the reference; {by === "size" ? "left is smaller" : "right is faster"}. Bars: 95 % intervals
        over windows of text.
        {comparison.models.length > 2 &&
          ` Hollow points: another model here is both ${by === "size" ? "smaller" : "faster"} and closer.`}
      </p>
    </section>
  );
}

function RowsSection({ comparison }: { comparison: Comparison }) {
  const rows = comparison.rows ?? [];
  const first = comparison.models[0];
  const sizes = new Map(comparison.models.map((model) => [model.name, model.bytes]));
  const lessFirst = (row: TextRow): Cell =>
    isNumber(row.kld_less_first)
      ? `${change4(row.kld_less_first)} (${between(row.kld_less_first_interval, change4)})`
      : NONE;
  return (
    <section class="compare-rows">
      <h2>Text by text</h2>
      <Intervals
        title="KL divergence from the reference of each model on each text, with 95 % intervals"
        xTitle="mean KL divergence, nats per token"
        rows={rows.map((row) => ({
          group: row.text,
          name: row.model,
          value: row.kld_mean,
          low: row.kld_interval?.[0] ?? row.kld_mean,
          high: row.kld_interval?.[1] ?? row.kld_mean,
        }))}
        show={(v) => number(v, 2)}
        caption="Lines: 95 % intervals (Student's t) over windows of text, as the tokens of one window hang together."
      />
      <Table
        caption="Each model on each text"
        headings={[
          "Text",
          "Model",
          "Size",
          "Windows",
          "KL mean (95 %)",
          `KL more than ${first.name} (95 %)`,
          "KL 99 %",
          "Same top token",
          "Perplexity",
          "Against the reference",
          "Right to wrong",
          "Wrong to right",
        ]}
        rows={rows.map((row) => [
          row.text,
          { text: row.model },
          bytes(sizes.get(row.model)),
          integer(row.n_windows),
          `${digits(row.kld_mean)} (${between(row.kld_interval, digits)})`,
          lessFirst(row),
          number(row.kld_p99, 2),
          percent(row.top1_agreement),
          number(row.ppl, 4),
          change(row.ppl_ratio),
          percent(row.right_to_wrong),
          percent(row.wrong_to_right),
        ])}
      />
      <p class="muted">
        Differences are paired: taken window by window, so that what is hard for both models cancels out. Right to
        wrong: positions where the reference's favourite token was what followed and the model's is not.
      </p>
    </section>
  );
}

export function CompareSections({ comparison }: { comparison: Comparison }) {
  const { models } = comparison;
  const hasTexts = (comparison.rows ?? []).length > 0;
  return (
    <>
      {hasTexts && <ParetoSection comparison={comparison} />}
      {hasTexts && <RowsSection comparison={comparison} />}
      <TaskSection tasks={comparison.task_rows ?? []} />
      <section>
        <h2>Models</h2>
        <Table
          caption="What was compared"
          headings={["Model", "Size", "Against the first", "Bits per weight", "Tokens/s"]}
          rows={models.map((model) => [
            model.name,
            bytes(model.bytes),
            percent(model.bytes / models[0].bytes),
            fixed(model.bits_per_weight, 2),
            number(model.tokens_per_second),
          ])}
        />
      </section>
    </>
  );
}

/** Models, texts, tasks and the reference as inputs, with their hashes. */
export const inputsOf = (comparison: Comparison) => [
  ...comparison.models.map((model) => ({
    path: model.path ?? model.name,
    bytes: model.bytes,
    sha256: model.sha256 ?? "",
  })),
  ...(comparison.reference ? [comparison.reference] : []),
  ...(comparison.texts ?? []),
  ...(comparison.tasks ?? []),
];
