// What thimble fit chose, expected and measured.
import { useState } from "preact/hooks";
import { Intervals, type Row } from "./intervals";
import { type Cell, CellMap } from "./map";
import { baseName, bytes, change, count, fixed, half95, integer, number, percent, signed } from "./numbers";
import { type Limit, Pareto, type Point } from "./pareto";
import { Folded, Legend, Table } from "./parts";
import type { Fit, Score, Tensor } from "./records";

export const fitName = (fit: Fit) => fit.name ?? baseName(fit.output ?? "fit");
const klWithError = (score: Score) => `${number(score.kld_mean, 3)} ± ${number(half95(score.kld_se), 2)}`;
const allOf = (scores: Score[] | undefined) => scores?.[0];
// What the file was found to be, best on the text that expectations are of.
const measuredOf = (fit: Fit) => allOf(fit.selection) ?? allOf(fit.scoring);
const bitsOf = (t: Tensor) => (8 * t.bytes) / t.weights;

export function fitFindings(fit: Fit): [string, string][] {
  const parts = [
    `${bytes(fit.model_bytes)} became ${bytes(fit.bytes)} (${percent(fit.bytes / fit.model_bytes)}), ` +
      `${fixed(fit.bits_per_weight, 2)} bits per weight`,
  ];
  const scored = allOf(fit.scoring) ?? allOf(fit.selection);
  if (scored) {
    const kept = fit.scoring?.length ? "on text kept for this alone" : "on the text it was chosen by";
    parts.push(`KL divergence from the original ${klWithError(scored)} nats per token ${kept}`);
    parts.push(`the same favourite next token in ${percent(scored.top1_agreement)} of places`);
    parts.push(`perplexity ${change(scored.ppl_ratio)}`);
  }
  return [[fitName(fit), parts.join("; ") + "."]];
}

/** What the file's size may be, by the goals that bound it; and what the divergence may be. */
function limitsOf(fit: Fit): Limit[] {
  const goal = fit.goal ?? {};
  const limits: Limit[] = [];
  const atSize = (size: number, label: string) => limits.push({ axis: "x", value: size / 1e6, label });
  if (goal.bytes) atSize(goal.bytes, `at most ${bytes(goal.bytes)}`);
  if (goal.ram_bytes)
    atSize(fit.bytes + goal.ram_bytes - fit.expected_ram_bytes, `memory at most ${bytes(goal.ram_bytes)}`);
  if (goal.bits_per_weight) {
    const sum = (of: (t: Tensor) => number) => fit.tensors.reduce((total, t) => total + of(t), 0);
    const header = fit.bytes - sum((t) => t.bytes);
    atSize(
      header + (goal.bits_per_weight * sum((t) => t.weights)) / 8,
      `at most ${number(goal.bits_per_weight)} bits per weight`,
    );
  }
  const most = goal.max_kld?.all;
  if (most) limits.push({ axis: "y", value: most, label: `KL at most ${number(most)}` });
  return limits;
}

function goalText(fit: Fit) {
  const goal = fit.goal ?? {};
  const parts: string[] = [];
  if (goal.bytes) parts.push(`a file of at most ${bytes(goal.bytes)}`);
  if (goal.ram_bytes)
    parts.push(`memory of at most ${bytes(goal.ram_bytes)} (expected: ${bytes(fit.expected_ram_bytes)})`);
  if (goal.bits_per_weight) parts.push(`at most ${number(goal.bits_per_weight)} bits per weight`);
  for (const [text, most] of Object.entries(goal.max_kld ?? {})) {
    parts.push(`a KL divergence of at most ${number(most)} on ${text === "all" ? "all texts together" : text}`);
  }
  if (goal.min_top1) parts.push(`the same favourite next token in at least ${percent(goal.min_top1)} of places`);
  return parts.join(", and ");
}

function ParetoSection({ fit }: { fit: Fit }) {
  const measured = measuredOf(fit);
  const name = fitName(fit);
  const points: Point[] = (fit.types ?? []).map((t) => ({
    name: t.type,
    x: t.bytes / 1e6,
    y: t.kld,
    role: "type",
    tip: `every matrix in ${t.type}${t.other ? `, but ${t.other} in the nearest type that fits` : ""}\n${bytes(t.bytes)}\nexpected KL ${number(t.kld, 3)}`,
  }));
  points.push({
    name,
    x: fit.bytes / 1e6,
    y: measured?.kld_mean ?? fit.expected_kld,
    error: measured ? half95(measured.kld_se) : 0,
    role: "chosen",
    tip: `${name}\n${bytes(fit.bytes)}\n${measured ? `measured KL ${klWithError(measured)}\n` : ""}expected KL ${number(fit.expected_kld, 3)}`,
  });
  const front = fit.front.map((p) => ({
    x: p.bytes / 1e6,
    y: p.kld,
    tip: `the best of its size\n${bytes(p.bytes)}\nexpected KL ${number(p.kld, 3)}`,
  }));
  return (
    <section class="fit-pareto">
      <h2>Size against divergence</h2>
      <p>Asked for: {goalText(fit)}.</p>
      <Legend
        items={[
          ["front", "the solver's best choice of each size, expected"],
          ["type", "every matrix in one type (or the nearest that fits), expected"],
          ["chosen", "the file that was made, measured"],
        ]}
      />
      <Pareto
        title={`KL divergence from the original against size: ${name} among what else the model could be`}
        xTitle="file size, MB"
        yTitle="KL divergence from the original, nats per token"
        points={points}
        front={front}
        limits={limitsOf(fit)}
        caption={
          `Lower and to the left is better. ${number(fit.activation_kld, 2)} nats of each value come from int8 activations, ` +
          `whatever the weights' types. Measured on the text kept to ${fit.selection?.length ? "choose by" : "score on"}, with a 95 % ` +
          "interval; expected values are sums of " +
          "what each matrix costs, corrected by measurements along the line."
        }
      />
      <Folded summary="The points as a table">
        <Table
          caption="Every matrix in one type, or where its rows cannot hold it, in the nearest type that fits"
          headings={["Type", "File", "Expected KL", "Matrices in another type"]}
          rows={(fit.types ?? []).map((t) => [t.type, bytes(t.bytes), number(t.kld, 3), integer(t.other)])}
        />
        <Table
          caption="The solver's best choices"
          headings={["File", "Expected KL"]}
          rows={fit.front.map((p) => [bytes(p.bytes), number(p.kld, 3)])}
        />
      </Folded>
    </section>
  );
}

function ScoreSection({ fit }: { fit: Fit }) {
  const kinds: [string, Score[]][] = [
    ["chosen by", fit.selection ?? []],
    ["scored on", fit.scoring ?? []],
  ];
  const names = [...new Set(kinds.flatMap(([, scores]) => scores.map((s) => s.text)))];
  const rows = names.flatMap((text) =>
    kinds.flatMap(([name, scores]) =>
      scores
        .filter((s) => s.text === text)
        .map((s): Row => {
          const half = half95(s.kld_se);
          return { group: text, name, value: s.kld_mean, low: s.kld_mean - half, high: s.kld_mean + half };
        }),
    ),
  );
  if (rows.length === 0) return null;
  const texts = fit.texts ?? [];
  const total = (key: "calibration" | "selection" | "scoring") => texts.reduce((sum, t) => sum + t[key], 0);
  return (
    <section class="fit-scores">
      <h2>Scores of each text</h2>
      <p>
        Documents are dealt to three purposes, of ten documents eight, one and one, and none serves two: weights are
        rounded by what is calibrated on, types chosen by the second share, and the file scored on the third, which had
        no part in making it.
        {texts.length > 0 &&
          ` Of ${count(total("calibration") + total("selection") + total("scoring"), "document")}: ${integer(total("calibration"))} ` +
            `to calibrate on (as far as the limit of tokens goes), ${integer(total("selection"))} to choose by, ` +
            `${integer(total("scoring"))} to score on (as far as the windows of tokens go that count).`}
      </p>
      <Intervals
        title="KL divergence from the original on each text, with 95 % intervals"
        xTitle="KL divergence from the original, nats per token"
        rows={rows}
        show={(v) => number(v, 2)}
        caption="Lines: 95 % intervals (1.96 standard errors over tokens, taken to be independent)."
      />
      <Table
        caption="Scores"
        headings={["Text", "Share", "Tokens", "KL (95 %)", "Same top token", "Perplexity"]}
        rows={names.flatMap((text) =>
          kinds.flatMap(([name, scores]) =>
            scores
              .filter((s) => s.text === text)
              .map((s) => [
                text,
                { text: name },
                integer(s.tokens),
                klWithError(s),
                percent(s.top1_agreement),
                change(s.ppl_ratio),
              ]),
          ),
        )}
      />
      {texts.length > 0 && (
        <Table
          caption="How the documents of each text were dealt"
          headings={["Text", "To calibrate on", "To choose by", "To score on"]}
          rows={texts.map((t) => [t.name, integer(t.calibration), integer(t.selection), integer(t.scoring)])}
        />
      )}
    </section>
  );
}

const isMatrix = (t: Tensor) => (t.shape ?? []).length > 1;

function cellOf(t: Tensor, strength: number): Cell {
  const block = t.name.match(/^blk\.(\d+)\.(.+?)(\.weight)?$/);
  const tip = [
    t.name,
    `${t.type}, ${fixed(bitsOf(t), 2)} bits per weight, ${bytes(t.bytes)}`,
    `expected KL ${number(t.expected_kld, 2)}`,
    `relative error ${percent(t.relative_error, 2)}`,
  ].join("\n");
  return {
    module: block ? block[2] : t.name.replace(/\.weight$/, ""),
    layer: block ? Number(block[1]) : null,
    strength,
    tip,
  };
}

function TypeTable({ matrices }: { matrices: Tensor[] }) {
  const types = [...new Set(matrices.map((t) => t.type))];
  const sum = (list: Tensor[], of: (t: Tensor) => number) => list.reduce((total, t) => total + of(t), 0);
  const all = sum(matrices, (t) => t.weights);
  const rows = types
    .map((type) => ({ type, list: matrices.filter((t) => t.type === type) }))
    .sort((a, b) => bitsOf(a.list[0]) - bitsOf(b.list[0]))
    .map(({ type, list }) => [
      type,
      fixed(bitsOf(list[0]), 2),
      integer(list.length),
      percent(sum(list, (t) => t.weights) / all),
      number(
        sum(list, (t) => t.expected_kld),
        2,
      ),
    ]);
  return (
    <Table
      caption="Types that were chosen"
      headings={["Type", "Bits per weight", "Matrices", "Share of weights", "Expected KL"]}
      rows={rows}
    />
  );
}

function MapSection({ fit }: { fit: Fit }) {
  const [shown, show] = useState<"bits" | "kld">("bits");
  const matrices = fit.tensors.filter(isMatrix);
  const bits = matrices.map(bitsOf);
  const [fewest, most] = [Math.min(...bits), Math.max(...bits)];
  const total = matrices.reduce((sum, t) => sum + t.expected_kld, 0);
  const worst = matrices.reduce((a, b) => (b.expected_kld > a.expected_kld ? b : a));
  const strength = (t: Tensor) =>
    shown === "kld"
      ? t.expected_kld / (worst.expected_kld || 1)
      : most > fewest
        ? (bitsOf(t) - fewest) / (most - fewest)
        : 0.5;
  const id = `map-${fitName(fit)}`;
  const choice = (value: typeof shown, label: string) => (
    <label>
      <input type="radio" name={id} value={value} checked={shown === value} onChange={() => show(value)} /> {label}
    </label>
  );
  return (
    <section class="fit-map">
      <h2>Types and errors of each matrix</h2>
      {fit.narrow_matrices !== undefined && fit.narrow_matrices > 0 && (
        <p>
          {fit.narrow_matrices} of {count(fit.matrices ?? matrices.length, "matrix").replace(/matrixs$/, "matrices")}{" "}
          have rows that are not multiples of 256: no K- or IQ-type but IQ4_NL can hold them.
        </p>
      )}
      <fieldset class="switch">
        <legend>Colour</legend>
        {choice("bits", "bits per weight")}
        {choice("kld", "share of the expected KL")}
      </fieldset>
      <CellMap
        key={shown}
        title={`${shown === "bits" ? "Bits per weight" : "Expected KL divergence"} of each matrix of ${fitName(fit)}`}
        tone={shown === "bits" ? "first" : "second"}
        cells={matrices.map((t) => cellOf(t, strength(t)))}
        caption={
          shown === "bits"
            ? `Faintest: ${fixed(fewest, 2)} bits per weight; strongest: ${fixed(most, 2)}. Matrices of no layer span them all.`
            : `Strongest: ${worst.name} with ${percent(worst.expected_kld / (total || 1))} of the ${number(total, 2)} nats expected of all.`
        }
      />
      <TypeTable matrices={matrices} />
      <Folded summary="Every matrix">
        <Table
          caption={`The matrices of ${fitName(fit)}`}
          headings={["Matrix", "Type", "Bits per weight", "Size", "Expected KL", "Relative error"]}
          rows={matrices.map((t) => [
            t.name,
            { text: t.type },
            fixed(bitsOf(t), 2),
            bytes(t.bytes),
            number(t.expected_kld, 2),
            percent(t.relative_error, 2),
          ])}
        />
      </Folded>
    </section>
  );
}

function Made({ fit }: { fit: Fit }) {
  const measured = measuredOf(fit);
  return (
    <Table
      caption="The file"
      headings={[
        "File",
        "Size",
        "Bits per weight",
        "Expected KL",
        fit.selection?.length ? "Measured, chosen by" : "Measured, scored on",
        "Against expected",
        "Memory expected",
        "Cache",
      ]}
      rows={[
        [
          fitName(fit),
          bytes(fit.bytes),
          fixed(fit.bits_per_weight, 2),
          number(fit.expected_kld, 3),
          measured ? klWithError(measured) : "–",
          measured ? signed(100 * (measured.kld_mean / fit.expected_kld - 1), 2) + " %" : "–",
          bytes(fit.expected_ram_bytes),
          { text: `${fit.cache_type_k}/${fit.cache_type_v}` },
        ],
      ]}
    />
  );
}

export function FitSections({ fit }: { fit: Fit }) {
  return (
    <>
      <ParetoSection fit={fit} />
      <Made fit={fit} />
      <MapSection fit={fit} />
      <ScoreSection fit={fit} />
    </>
  );
}
