// Training runs, from their log.jsonl.
import * as Plot from "@observablehq/plot";
import { integer, isNumber, NONE, number } from "./numbers";
import { Folded, Legend, Picture, Table } from "./parts";
import type { TuneEntry, TuneLog } from "./records";

type Series = [step: number, loss: number][];
export interface Tune {
  name: string;
  train: Series;
  held: Series;
  tokens: number;
  seconds: number;
}

/** The log as two series; a resumed run repeats steps, and the last word on a step counts. */
export function readTune(log: TuneLog): Tune {
  const train = new Map<number, TuneEntry>();
  const held = new Map<number, number>();
  for (const entry of log.entries) {
    if (isNumber(entry.loss)) train.set(entry.step, entry);
    if (isNumber(entry.eval_loss)) held.set(entry.step, entry.eval_loss);
  }
  const steps = [...train.values()].sort((a, b) => a.step - b.step);
  const sum = (key: "tokens" | "seconds") => steps.reduce((total, entry) => total + (entry[key] ?? 0), 0);
  return {
    name: log.name,
    train: steps.map((entry) => [entry.step, entry.loss!]),
    held: [...held].sort((a, b) => a[0] - b[0]),
    tokens: sum("tokens"),
    seconds: sum("seconds"),
  };
}

const spanOf = (series: Series) => Math.max(1, Math.round(series.length / 20));

/** Mean of the last `span` values at each place: batch losses jump about. */
const movingMean = (series: Series, span: number): Series =>
  series.map(([step], i) => {
    const window = series.slice(Math.max(0, i - span + 1), i + 1);
    return [step, window.reduce((total, [, v]) => total + v, 0) / window.length];
  });

export function aboutTune(tune: Tune): [string, string] {
  if (tune.held.length === 0) {
    const mean = movingMean(tune.train, spanOf(tune.train));
    return [
      tune.name,
      `the training loss went from ${number(tune.train[0][1])} to ${number(mean[mean.length - 1][1])}; ` +
        "nothing was held out, so this does not show how it does on new data.",
    ];
  }
  const before = tune.held[0][1];
  const after = tune.held[tune.held.length - 1][1];
  if (tune.held.length === 1) return [tune.name, `the held-out loss is ${number(after)}.`];
  const best = tune.held.reduce((a, b) => (b[1] < a[1] ? b : a));
  const verdict =
    after > before
      ? ": the training made it worse."
      : after > 1.02 * best[1]
        ? `, but it was ${number(best[1])} at step ${best[0]}: a shorter training would have been better.`
        : ".";
  return [tune.name, `the held-out loss went from ${number(before)} to ${number(after)}${verdict}`];
}

function Losses({ tune }: { tune: Tune }) {
  const span = spanOf(tune.train);
  const held = tune.held.map(([step, loss]) => ({
    step,
    loss,
    tip: `held-out loss at step ${step}: ${number(loss, 4)}`,
  }));
  const losses = [...tune.train, ...tune.held].map(([, loss]) => loss);
  const low = Math.min(...losses);
  const high = Math.max(...losses);
  return (
    <Picture
      title={`Loss over the steps of ${tune.name}: training and held-out`}
      caption={
        span > 1
          ? `The strong training line is the mean of the last ${span} steps, the faint one each step's own loss.`
          : "The training loss is that of each step's own batch."
      }
      draw={(width) => ({
        height: 330,
        marginLeft: 52,
        marginTop: 30,
        marginBottom: 44,
        x: { label: "optimizer step", labelArrow: "none", ticks: width < 480 ? 4 : 8 },
        y: { label: null, grid: true, domain: [low < 0.6 * high ? 0 : low, high], nice: true },
        marks: [
          Plot.text(["loss, nats per token"], {
            frameAnchor: "top-left",
            dx: -50,
            dy: -28,
            lineAnchor: "top",
            textAnchor: "start",
          }),
          ...(span > 1 ? [Plot.lineY(tune.train, { x: "0", y: "1", className: "line-raw" })] : []),
          Plot.lineY(movingMean(tune.train, span), { x: "0", y: "1", className: "line-first" }),
          Plot.lineY(tune.held, { x: "0", y: "1", className: "line-second" }),
          Plot.dot(held, { x: "step", y: "loss", r: 5, className: "held-dot" }),
          Plot.tip(held, Plot.pointer({ x: "step", y: "loss", title: "tip" })),
        ],
      })}
    />
  );
}

export function TrainingSection({ tunes }: { tunes: Tune[] }) {
  if (tunes.length === 0) return null;
  const first = (series: Series) => (series.length ? number(series[0][1], 4) : NONE);
  const last = (series: Series) => (series.length ? number(series[series.length - 1][1], 4) : NONE);
  const about50 = (series: Series) =>
    series.filter((_, i) => i === series.length - 1 || i % Math.ceil(series.length / 50) === 0);
  const rows = (series: Series) => series.map(([step, loss]) => [integer(step), number(loss, 4)]);
  return (
    <section id="training">
      <h2>Training</h2>
      {tunes.map((tune) => (
        <>
          <h3>{tune.name}</h3>
          <Legend
            items={[
              ["first", "training loss"],
              ...(tune.held.length ? [["second", "held-out loss"] as [string, string]] : []),
            ]}
          />
          <Losses tune={tune} />
          <Folded summary="Losses as a table">
            <Table
              caption={`Losses of ${tune.name}${tune.train.length > 50 ? ", about 50 of its steps" : ""}`}
              headings={["Step", "Training loss"]}
              rows={rows(about50(tune.train))}
            />
            {tune.held.length > 0 && (
              <Table
                caption={`Held-out losses of ${tune.name}`}
                headings={["Step", "Held-out loss"]}
                rows={rows(tune.held)}
              />
            )}
          </Folded>
        </>
      ))}
      <Table
        caption="Training runs"
        headings={[
          "Run",
          "Steps",
          "First loss",
          "Last loss",
          "Held-out before",
          "Held-out after",
          "Tokens",
          "Tokens/s",
        ]}
        rows={tunes.map((t) => [
          t.name,
          integer(t.train.length),
          first(t.train),
          last(t.train),
          first(t.held),
          last(t.held),
          integer(t.tokens),
          t.seconds > 0 ? number(t.tokens / t.seconds) : NONE,
        ])}
      />
    </section>
  );
}
