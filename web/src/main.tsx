// The report: findings, pictures and tables from the JSON in #data.
import { type ComponentChild, render } from "preact";
import { compareFindings, CompareSections, inputsOf } from "./compare";
import { evalFindings, EvalSections, type NamedEval } from "./eval";
import { fitFindings, fitName, FitSections } from "./fit";
import { baseName, count } from "./numbers";
import { Findings, Sources } from "./parts";
import type { Comparison, Eval, Fit, ReportData } from "./records";
import "./report.css";
import { aboutTune, readTune, TrainingSection } from "./training";

/** Names that tell records apart: the given name or the file's, numbered where two are equal. */
function nameAll<T extends { name?: string; model?: string }>(items: T[]): (T & { name: string })[] {
  const seen = new Map<string, number>();
  return items.map((item) => {
    const name = item.name || baseName(item.model || "") || "unnamed";
    const n = (seen.get(name) ?? 0) + 1;
    seen.set(name, n);
    return { ...item, name: n > 1 ? `${name} (${n})` : name };
  });
}

function Report({ data }: { data: ReportData }) {
  const evals = nameAll(data.records.filter((r): r is Eval => (r.kind ?? "eval") === "eval")) as NamedEval[];
  const fits = nameAll(
    data.records.filter((r): r is Fit => r.kind === "fit").map((fit) => ({ ...fit, name: fitName(fit) })),
  );
  const comparisons = data.records.filter((r): r is Comparison => r.kind === "compare");
  const tunes = nameAll(data.tunes)
    .map(readTune)
    .filter((t) => t.train.length + t.held.length > 0);
  const counts: [number, string][] = [
    [evals.length, "evaluation"],
    [fits.length, "fit"],
    [comparisons.length, "comparison"],
    [tunes.length, "training run"],
  ];
  const findings = [
    ...evalFindings(evals),
    ...fits.flatMap(fitFindings),
    ...comparisons.flatMap(compareFindings),
    ...tunes.map(aboutTune),
  ];
  const sourced: [string, Eval | Fit | Comparison][] = [
    ...evals.map((e): [string, Eval] => [e.name, e]),
    ...fits.map((fit): [string, Fit] => [fit.name, fit]),
    ...comparisons.map((c, i): [string, Comparison] => [
      comparisons.length > 1 ? `Comparison ${i + 1}` : "Comparison",
      { ...c, inputs: inputsOf(c), reference: undefined },
    ]),
  ];
  return (
    <>
      <header>
        <h1>{data.title || "Thimble report"}</h1>
        <p class="muted">
          {counts
            .filter(([n]) => n > 0)
            .map(([n, word]) => count(n, word))
            .join(", ")}
        </p>
      </header>
      <main id="report">
        {findings.length > 0 && (
          <section id="findings">
            <h2>In short</h2>
            <Findings items={findings} />
          </section>
        )}
        {evals.length > 0 && <EvalSections evals={evals} />}
        {fits.map((fit) => (
          <Titled title={fits.length > 1 ? fit.name : ""}>
            <FitSections fit={fit} />
          </Titled>
        ))}
        {comparisons.map((comparison, i) => (
          <Titled title={comparisons.length > 1 ? `Comparison ${i + 1}` : ""}>
            <CompareSections comparison={comparison} />
          </Titled>
        ))}
        <TrainingSection tunes={tunes} />
        {sourced.length > 0 && (
          <section id="sources">
            <h2>Where the figures come from</h2>
            {sourced.map(([name, record]) => (
              <Sources record={record} heading={sourced.length > 1 ? name : undefined} />
            ))}
          </section>
        )}
      </main>
      <footer class="muted">
        <p>Made by Thimble. Everything on this page is in this one file; it loads nothing from elsewhere.</p>
      </footer>
    </>
  );
}

function Titled(props: { title: string; children: ComponentChild }) {
  return (
    <>
      {props.title && <h2 class="record">{props.title}</h2>}
      {props.children}
    </>
  );
}

const page = document.getElementById("page")!;
try {
  page.textContent = "";
  render(<Report data={JSON.parse(document.getElementById("data")!.textContent!)} />, page);
} catch (error) {
  const says = document.createElement("p");
  says.className = "failed";
  says.textContent = `This page could not be drawn: ${error instanceof Error ? error.stack : error}`;
  page.append(says);
  throw error;
}
