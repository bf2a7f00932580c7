// What thimble eval measured, of one model or several.
import { between, bytes, change, fixed, half95, integer, isNumber, NONE, number, percent, plusMinus } from "./numbers";
import { Intervals, type Row } from "./intervals";
import { CellMap } from "./map";
import { markBeaten, Pareto, type Point } from "./pareto";
import { Folded, Table } from "./parts";
import { TaskSection } from "./tasks";
import type { Eval, ExactMatch, LayerError, TextScore } from "./records";
import { WorstSection } from "./worst";

export type NamedEval = Eval & { name: string };

function aboutQuality(e: NamedEval, evals: NamedEval[]): [string, string][] {
  if (!isNumber(e.ppl)) return [];
  const ofReference =
    isNumber(e.reference_bytes) && e.reference_bytes !== e.bytes
      ? ` (${percent(e.bytes / e.reference_bytes, 0)} of the reference)`
      : "";
  const parts = [bytes(e.bytes) + ofReference];
  const largest = evals.filter((o) => isNumber(o.ppl)).reduce((a, b) => (b.bytes > a.bytes ? b : a));
  const [base, whose] = isNumber(e.reference_ppl)
    ? [e.reference_ppl, "the reference"]
    : e !== largest
      ? [largest.ppl!, largest.name]
      : [0, ""];
  if (!base) parts.push(`perplexity ${plusMinus(e.ppl, e.ppl_se)}`);
  else if (Math.abs(e.ppl / base - 1) < 5e-4) parts.push(`perplexity ${number(e.ppl, 4)}, that of ${whose}`);
  else parts.push(`perplexity ${number(e.ppl, 4)} against ${number(base, 4)} of ${whose} (${change(e.ppl / base)})`);
  if (isNumber(e.top1_agreement)) {
    parts.push(
      e.top1_agreement === 1
        ? "the same favourite next token everywhere"
        : `another favourite next token in ${percent(1 - e.top1_agreement)} of places`,
    );
  }
  return [[e.name, parts.join("; ") + "."]];
}

const tenths = (v: number) => fixed(v, 1);
const textScore = (s?: TextScore) => (s ? `${tenths(s.score)} (${between([s.low, s.high], tenths)})` : NONE);
const share = (m: ExactMatch) => m.correct / m.total;

/** Each model against the first one that answered the same prompts. */
function aboutMatches(evals: NamedEval[]): [string, string][] {
  const firstOf = new Map<string, NamedEval>();
  return evals.flatMap((e): [string, string][] => {
    const m = e.exact_match;
    if (!m) return [];
    const says = `answers ${m.correct} of ${m.total} prompts to the letter (${percent(share(m))})`;
    const key = `${m.data}\n${m.total}`;
    const before = firstOf.get(key);
    if (!before) {
      firstOf.set(key, e);
      return [[e.name, says + "."]];
    }
    const b = before.exact_match!;
    const verdict = m.low > b.high ? "better than" : m.high < b.low ? "worse than" : "not clearly different from";
    const overlap = verdict.startsWith("not") ? ", the 95 % intervals overlap" : "";
    return [[e.name, `${says}: ${verdict} ${before.name} with ${percent(share(b))}${overlap}.`]];
  });
}

function aboutTasks(evals: NamedEval[]): [string, string][] {
  return evals.flatMap((e) =>
    (e.tasks ?? []).map((task): [string, string] => [
      e.name,
      `right in ${percent(task.acc)} of ${task.name} (95 % interval ${between(task.acc_interval, percent)}).`,
    ]),
  );
}

export const evalFindings = (evals: NamedEval[]) => [
  ...evals.flatMap((e) => aboutQuality(e, evals)),
  ...aboutMatches(evals),
  ...aboutTasks(evals),
];

function sizePoints(
  evals: NamedEval[],
  quality: (e: Eval) => [number, number | null | undefined],
  what: string,
): Point[] {
  return markBeaten(
    evals.map((e) => {
      const [y, error] = quality(e);
      const tip = `${e.name}\n${bytes(e.bytes)}\n${what} ${plusMinus(y, error)}`;
      return { name: e.name, x: e.bytes / 1e6, y, error: error ?? 0, role: "model", tip };
    }),
  );
}

/** The reference beside the only model. */
function referencePoint(evals: NamedEval[], y: number | null | undefined): Point[] {
  const size = evals[0].reference_bytes;
  if (evals.length > 1 || !isNumber(size) || !isNumber(y)) return [];
  return [{ name: "reference", x: size / 1e6, y, role: "type", tip: `reference\n${bytes(size)}` }];
}

function SizeSection({ evals }: { evals: NamedEval[] }) {
  const withPpl = evals.filter((e) => isNumber(e.ppl));
  const withKld = evals.filter((e) => isNumber(e.kld_mean));
  if (withPpl.length === 0 || (evals.length === 1 && !evals[0].reference_bytes)) return null; // one point says nothing
  const hollow = (shown: Eval[]) =>
    shown.length > 2 ? " Hollow points: another model here is both smaller and better." : "";
  const rest = withPpl.length - withKld.length;
  const references = [
    ...new Set(
      withPpl
        .map((e) => e.reference_ppl)
        .filter(isNumber)
        .map((v) => v.toFixed(6)),
    ),
  ];
  const reference = references.length === 1 ? Number(references[0]) : null;
  return (
    <section id="size">
      <h2>Size against quality</h2>
      {withKld.length > 0 && (
        <Pareto
          title="Mean KL divergence from the reference against size, one point per model"
          xTitle="file size, MB"
          yTitle="mean KL divergence, nats per token"
          points={[
            ...sizePoints(withKld, (e) => [e.kld_mean!, e.kld_se], "KL divergence"),
            ...referencePoint(withKld, 0),
          ]}
          fromZero
          caption={
            "Lower is closer to the reference model; 0 would be its very predictions. Bars: one standard error." +
            hollow(withKld) +
            (rest > 0 ? ` ${rest} without a reference: only in the next picture.` : "")
          }
        />
      )}
      <Pareto
        title="Perplexity against size, one point per model"
        xTitle="file size, MB"
        yTitle="perplexity"
        points={[
          ...sizePoints(withPpl, (e) => [e.ppl!, e.ppl_se], "perplexity"),
          ...referencePoint(withPpl, reference),
        ]}
        limits={
          reference && evals.length > 1
            ? [{ axis: "y", value: reference, label: `reference: ${number(reference, 4)}` }]
            : []
        }
        caption={
          "Lower is better: the number of equally likely next tokens that would leave the model as unsure. Bars: one " +
          "standard error over the tokens of this text; all models read the same tokens only if text and window agree." +
          hollow(withPpl)
        }
      />
    </section>
  );
}

function FiguresSection({ evals }: { evals: NamedEval[] }) {
  return (
    <section id="figures">
      <h2>All figures</h2>
      <Table
        caption="What was measured, one model per row"
        headings={[
          "Model",
          "Size",
          "Bits per weight",
          "Perplexity",
          "KL mean",
          "KL median",
          "KL 99 %",
          "Same top token",
          "Exact match",
          "Tokens/s",
          "Peak memory",
          "Tokens scored",
        ]}
        rows={evals.map((e) => [
          e.name,
          bytes(e.bytes),
          fixed(e.bits_per_weight, 2),
          plusMinus(e.ppl, e.ppl_se),
          number(e.kld_mean, 2),
          number(e.kld_median, 2),
          number(e.kld_p99, 2),
          percent(e.top1_agreement),
          e.exact_match ? `${integer(e.exact_match.correct)} of ${integer(e.exact_match.total)}` : NONE,
          number(e.tokens_per_second),
          bytes(e.peak_rss_bytes),
          integer(e.n_tokens),
        ])}
      />
      <p class="muted">
        Perplexity with its standard error. KL divergence from the reference, in nats per token: the mean, the median,
        and what the worst hundredth of places exceeds. Tokens per second: reading the text (prefill), on the machine
        that made each file. Peak memory: of the process while it held the model alone.
      </p>
    </section>
  );
}

/** A row per text and model, with 95 % intervals. */
function TextsSection({ evals }: { evals: NamedEval[] }) {
  const rows = evals.flatMap((e) => (e.texts ?? []).map((text) => ({ e, text })));
  if (rows.length === 0) return null;
  const group = (text: string) => (evals.length > 1 ? text : undefined);
  const intervals = rows
    .filter(({ text }) => isNumber(text.kld_mean))
    .map(({ e, text }): Row => {
      const half = half95(text.kld_se);
      const value = text.kld_mean!;
      const name = evals.length > 1 ? e.name : text.name;
      return { group: group(text.name), name, value, low: value - half, high: value + half };
    });
  return (
    <section id="texts">
      <h2>Text by text</h2>
      {intervals.length > 0 && (
        <Intervals
          title="KL divergence from the reference on each text, with 95 % intervals"
          xTitle="mean KL divergence, nats per token"
          rows={intervals}
          show={(v) => number(v, 2)}
          caption="Lines: 95 % intervals (1.96 standard errors), taking positions to be independent."
        />
      )}
      <Table
        caption="Each text on its own"
        headings={[
          "Text",
          "Model",
          "Tokens",
          "Perplexity",
          "Reference",
          "KL mean (95 %)",
          "KL median",
          "KL 99 %",
          "Same top token",
        ]}
        rows={rows.map(({ e, text }) => [
          text.name,
          { text: e.name },
          integer(text.n_tokens),
          plusMinus(text.ppl, text.ppl_se),
          number(text.reference_ppl, 4),
          isNumber(text.kld_mean) ? `${number(text.kld_mean, 3)} ± ${number(half95(text.kld_se), 2)}` : NONE,
          number(text.kld_median, 2),
          number(text.kld_p99, 2),
          percent(text.top1_agreement),
        ])}
      />
    </section>
  );
}

/** What was taught, and what that took. */
function TaughtSection({ evals }: { evals: NamedEval[] }) {
  const shown = evals.flatMap((e) => (e.training ? [{ name: e.name, t: e.training }] : []));
  if (shown.length === 0) return null;
  return (
    <section id="taught">
      <h2>What was taught</h2>
      <Table
        caption="Training that was measured here"
        headings={[
          "Model",
          "Method",
          "Base",
          "Trained parameters",
          "Saved",
          "Steps",
          "Tokens",
          "Minutes",
          "Peak memory",
        ]}
        rows={shown.map(({ name, t }) => [
          name,
          { text: t.method ?? NONE },
          { text: t.base?.split("/").pop() ?? NONE },
          integer(t.n_parameters),
          bytes(t.saved_bytes),
          integer(t.steps),
          integer(t.tokens),
          isNumber(t.seconds) ? number(t.seconds / 60) : NONE,
          bytes(t.peak_rss_bytes),
        ])}
      />
    </section>
  );
}

function MatchSection({ evals }: { evals: NamedEval[] }) {
  const shown = evals.flatMap((e) => (e.exact_match ? [{ name: e.name, m: e.exact_match }] : []));
  if (shown.length === 0) return null;
  return (
    <section id="match">
      <h2>Exact match</h2>
      <Intervals
        title="Share of prompts answered to the letter, one row per model"
        xTitle="share of prompts"
        rows={shown.map(({ name, m }) => ({ name, value: share(m), low: m.low, high: m.high }))}
        show={(v) => percent(v, 0)}
        domain={[0, 1]}
        caption="A prompt counts only if the whole answer equals the expected one. Lines: 95 % intervals (Wilson). Below, macro-F1 takes each different answer as a class; BLEU and chrF are sacreBLEU's; intervals are over resampled sets of answers."
      />
      <Table
        caption="Exact match"
        headings={["Model", "Right", "Of", "Share", "95 % interval", "Prompts"]}
        rows={shown.map(({ name, m }) => [
          name,
          integer(m.correct),
          integer(m.total),
          percent(share(m)),
          between([m.low, m.high], percent),
          { text: m.data ?? NONE },
        ])}
      />
      <Table
        caption="How near the answers are"
        headings={["Model", "Macro-F1 (95 %)", "BLEU (95 %)", "chrF (95 %)"]}
        rows={shown.map(({ name, m }) => [name, textScore(m.macro_f1), textScore(m.bleu), textScore(m.chrf)])}
      />
      {shown.map(
        ({ name, m }) =>
          m.wrong &&
          m.wrong.length > 0 && (
            <Folded summary={`Wrong answers of ${name}`}>
              <Table
                caption={`Expected, and what ${name} answered instead`}
                headings={["Expected", "Answered"]}
                rows={m.wrong.map((w) => [String(w.expected), { text: String(w.got) }])}
              />
            </Folded>
          ),
      )}
    </section>
  );
}

function summarize(errors: LayerError[], key: "module" | "type") {
  const groups = new Map<string, number[]>();
  for (const e of errors) groups.set(e[key] || NONE, [...(groups.get(e[key] || NONE) ?? []), e.relative_error]);
  return [...groups].map(([name, values]) => [
    name,
    integer(values.length),
    percent(values.reduce((a, b) => a + b, 0) / values.length, 2),
    percent(Math.max(...values), 2),
  ]);
}

function Layers({ e, errors }: { e: NamedEval; errors: LayerError[] }) {
  const worst = Math.max(0.01, ...errors.map((l) => l.relative_error)); // rounding to F16 is not worth colour
  return (
    <>
      <h3>{e.name}</h3>
      <CellMap
        title={`Relative error of each linear layer of ${e.name}`}
        cells={errors.map((l) => ({
          module: l.module,
          layer: l.layer,
          strength: l.relative_error / worst,
          tip: `layer ${l.layer}, ${l.module}\n${l.type ?? ""}\nrelative error ${percent(l.relative_error, 2)}`,
        }))}
        caption={`Stronger colour: larger error; the strongest would be ${percent(worst)}.`}
      />
      <Table
        caption={`Error of ${e.name} by module`}
        headings={["Module", "Layers", "Mean", "Largest"]}
        rows={summarize(errors, "module")}
      />
      <Folded summary="By weight type, and every layer">
        <Table
          caption={`Error of ${e.name} by weight type`}
          headings={["Type", "Layers", "Mean", "Largest"]}
          rows={summarize(errors, "type")}
        />
        <Table
          caption={`Error of every layer of ${e.name}`}
          headings={["Layer", "Module", "Type", "Relative error"]}
          rows={errors.map((l) => [
            integer(l.layer),
            { text: l.module },
            { text: l.type ?? NONE },
            percent(l.relative_error, 2),
          ])}
        />
      </Folded>
    </>
  );
}

function LayerSection({ evals }: { evals: NamedEval[] }) {
  const shown = evals.filter((e) => e.layers && e.layers.length > 0);
  if (shown.length === 0) return null;
  return (
    <section id="layers">
      <h2>Error of each layer</h2>
      <p>
        How far the stored weights of each linear layer are from the reference's: the length of the difference over the
        length of the original. It says where the precision went, not what each layer matters to the output.
      </p>
      {shown.map((e) => (
        <Layers e={e} errors={e.layers!} />
      ))}
    </section>
  );
}

export function EvalSections({ evals }: { evals: NamedEval[] }) {
  const tasks = evals.flatMap((e) => (e.tasks ?? []).map((task) => ({ ...task, model: e.name })));
  return (
    <>
      <SizeSection evals={evals} />
      <FiguresSection evals={evals} />
      <TextsSection evals={evals} />
      <TaskSection tasks={tasks} />
      <TaughtSection evals={evals} />
      <MatchSection evals={evals} />
      <WorstSection models={evals} />
      <LayerSection evals={evals} />
    </>
  );
}
