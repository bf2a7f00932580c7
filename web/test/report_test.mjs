// Pages as thimble fit, eval, compare and report write them, opened in Chromium from a file: each shows what the JSON
// of the same run says. By hand: web/test/run.sh, with $THIMBLE and $CHROMIUM where they are not the usual ones.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const MODELS = join(ROOT, "tests/golden/models");
const PROGRAM = process.env.THIMBLE ?? join(ROOT, "build/release/bin/thimble");
const EVIL = "<script>document.title='evil'</script>";

const dir = mkdtempSync(join(tmpdir(), "thimble-web-"));
const json = {};
let browser;

const thimble = (...args) => execFileSync(PROGRAM, args.map(String), { cwd: dir, stdio: ["ignore", "pipe", "pipe"] });
const write = (name, content) => writeFileSync(join(dir, name), content);

/** Words of letters that the tiny tokenizer knows; the same for the same seed (Lehmer's generator). */
function words(n, seed, letters) {
  let state = seed + 1;
  const below = (m) => (state = (state * 48271) % 2147483647) % m;
  const word = () => Array.from({ length: 1 + below(8) }, () => letters[below(letters.length)]).join("");
  return Array.from({ length: n }, word).join(" ");
}
const documents = (n, letters) => Array.from({ length: n }, (_, i) => words(180, 100 * i, letters)).join("\n---\n");
const question = (i) => ({
  query: words(3, i, "abc"),
  choices: [1, 2, 3].map((j) => words(1, 50 * i + j, "abc")),
  gold: i % 3,
});

before(async () => {
  write("one.txt", documents(20, "abcdefghij"));
  write("two.txt", documents(20, "zyxwvutsrq"));
  write("en.txt", words(100, 1, "abcdefghij"));
  write("ko.txt", words(80, 2, "zyxwvutsrq"));
  write("task.jsonl", Array.from({ length: 30 }, (_, i) => JSON.stringify(question(i)) + "\n").join(""));
  write(
    "log.jsonl",
    '{"step": 1, "loss": 2.5, "tokens": 9, "seconds": 1}\n{"step": 2, "loss": 2.25}\n{"step": 2, "eval_loss": 2.4}\n',
  );
  const texts = ["--text", "en=en.txt", "--text", "ko=ko.txt", "--task", "quiz=task.jsonl", "-c", 32, "-t", 1];
  const out = (name) => ["--json", `${name}.json`, "--report", `${name}.html`];
  thimble(
    "fit",
    join(MODELS, "llama_bias_tied"),
    "-o",
    "small.gguf",
    "--size",
    "60kB",
    "--calibration",
    "one.txt",
    "--calibration",
    "ko=two.txt",
    "--calibration-tokens",
    4096,
    "--cache",
    "cache",
    "-t",
    1,
    ...out("fit"),
  );
  thimble("eval", join(MODELS, "llama"), "--reference", join(MODELS, "llama_rope_linear"), ...texts, ...out("eval"));
  thimble(
    "compare",
    join(MODELS, "llama"),
    `other=${join(MODELS, "llama_rope_linear")}`,
    `third=${join(MODELS, "llama_rope_llama3")}`,
    "--reference",
    join(MODELS, "llama_rope_llama3"),
    ...texts,
    ...out("compare"),
  );
  thimble("eval", join(MODELS, "llama"), "--task", "task.jsonl", "-t", 1, ...out("tasks"));
  write(
    "answers.jsonl",
    [1, 2, 3].map((i) => JSON.stringify({ prompt: words(3, i, "abc"), completion: "abc" }) + "\n").join(""),
  );
  const tune = ["tune", join(MODELS, "llama"), "--data", "answers.jsonl", "-o", "taught", "--max-steps", 2, "-t", 1];
  thimble(...tune);
  const taught = ["--adapter", "taught", "--data", "answers.jsonl", "-n", 8, "-t", 1];
  thimble("eval", join(MODELS, "llama"), ...taught, ...out("answers"));
  for (const name of ["fit", "eval", "compare", "tasks", "answers"])
    json[name] = JSON.parse(readFileSync(join(dir, `${name}.json`), "utf8"));
  const evil = structuredClone(json.eval);
  evil.name = evil.worst[0].next = evil.worst[0].context = evil.worst[0].model[0].token = EVIL;
  write("evil.json", JSON.stringify(evil));
  thimble(
    "report",
    "evil.json",
    "eval.json",
    "fit.json",
    "compare.json",
    "--tune",
    "log.jsonl",
    "-o",
    "joined.html",
    "--title",
    EVIL,
  );
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox"],
  });
});
after(async () => {
  await browser?.close();
  rmSync(dir, { recursive: true });
});

/** The page, which must have said nothing and asked for nothing. */
async function open(name, options = {}) {
  const page = await browser.newPage({ viewport: { width: 1100, height: 900 }, ...options });
  const said = [];
  const asked = [];
  page.on("console", (message) => said.push(message.text()));
  page.on("pageerror", (error) => said.push(error.stack));
  page.on("request", (request) => asked.push(request.url()));
  const url = pathToFileURL(join(dir, `${name}.html`)).href;
  await page.goto(url);
  assert.deepEqual(said, []);
  assert.deepEqual(asked, [url]);
  assert.equal(await page.locator(".failed").count(), 0);
  return page;
}

/** The first number of a text, as the page writes numbers. */
const find = (text) =>
  text
    .replaceAll(",", "")
    .replaceAll("−", "-")
    .match(/-?\d+(\.(\d+))?/);
const parse = (text) => Number(find(text)[0]);
/** Whether a text begins with the value, rounded to the decimals that are shown. */
function assertShows(text, value, what) {
  const [shown, , decimals = ""] = find(text);
  const rounding = 0.51 * 10 ** -decimals.length;
  assert.ok(Math.abs(shown - value) <= rounding, `${what}: the page says ${text}, the JSON ${value}`);
}

/** Rows of the table with this caption: cells by heading. */
async function tableRows(page, caption) {
  return page.locator(`table:has(caption:text-is("${caption}"))`).evaluate((table) => {
    const headings = [...table.querySelectorAll("thead th")].map((th) => th.textContent);
    return [...table.querySelectorAll("tbody tr")].map((tr) =>
      Object.fromEntries([...tr.children].map((cell, i) => [headings[i], cell.textContent])),
    );
  });
}

/** Centres of the dots of a class, in the order of the data. */
const dots = (scope, name) =>
  scope.locator(`.${name} > *`).evaluateAll((nodes) =>
    nodes.map((node) => {
      const { x, y, width, height } = node.getBoundingClientRect();
      return { x: x + width / 2, y: y + height / 2 };
    }),
  );
function assertPlaced(places, xs, ys) {
  assert.equal(places.length, xs.length);
  for (let i = 0; i < xs.length; ++i) {
    for (let j = 0; j < xs.length; ++j) {
      if (xs[i] < xs[j]) assert.ok(places[i].x <= places[j].x, `${xs[i]} stands to the left of ${xs[j]}`);
      if (ys[i] < ys[j]) assert.ok(places[i].y >= places[j].y, `${ys[i]} stands below ${ys[j]}`);
    }
  }
}

async function assertNoOverflow(page, name) {
  const [wide, seen, nodes] = await page.evaluate(() => {
    const { scrollWidth, clientWidth } = document.documentElement;
    const beyond = [...document.querySelectorAll("body *")].filter(
      (n) => n.getBoundingClientRect().right > clientWidth + 1,
    );
    const names = beyond.filter((n) => !n.closest(".scroll")).map((n) => `${n.tagName} ${n.textContent.slice(0, 60)}`);
    return [scrollWidth, clientWidth, names];
  });
  assert.ok(wide <= seen, `${name}.html is ${wide} pixels wide, of which ${seen} are seen: ${nodes.join("; ")}`);
}

async function assertNamesApart(page) {
  const overlaps = await page.evaluate(() => {
    const found = [];
    for (const svg of document.querySelectorAll("svg")) {
      const boxes = [...svg.querySelectorAll("text.name")].map((text) => [
        text.textContent,
        text.getBoundingClientRect(),
      ]);
      for (const [i, [a, p]] of boxes.entries()) {
        for (const [b, q] of boxes.slice(i + 1)) {
          if (p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 3 && q.top < p.bottom - 3)
            found.push(`${a} and ${b}`);
        }
      }
    }
    return found;
  });
  assert.deepEqual(overlaps, []);
}

async function assertSources(page, inputs, command) {
  const rows = await tableRows(page, "Every input, with its SHA-256");
  assert.deepEqual(
    rows.map((row) => row["SHA-256"]),
    inputs.map((input) => input.sha256),
  );
  assert.equal(await page.locator(".command").textContent(), command);
}

test("fit: the Pareto picture", async () => {
  const page = await open("fit");
  const { fit } = json;
  const picture = page.locator(".fit-pareto");
  assertPlaced(
    await dots(picture, "front-dot"),
    fit.front.map((p) => p.bytes),
    fit.front.map((p) => p.kld),
  );
  assertPlaced(
    await dots(picture, "type-dot"),
    fit.types.map((t) => t.bytes),
    fit.types.map((t) => t.kld),
  );
  assert.equal((await dots(picture, "chosen-dot")).length, 1);
  const names = await picture.locator("text.name").allTextContents();
  assert.deepEqual(names.sort(), ["small.gguf", "at most 60.00 kB", ...fit.types.map((t) => t.type)].sort());
  const [limit] = await picture
    .locator(".limit line, line.limit")
    .evaluateAll((lines) => lines.map((l) => l.getBoundingClientRect().x));
  const [chosen] = await dots(picture, "chosen-dot");
  assert.ok(chosen.x <= limit + 1, "the file is within its goal");
  await page.close();
});

test("fit: a cell for each matrix", async () => {
  const page = await open("fit");
  const matrices = json.fit.tensors.filter((t) => t.shape.length > 1);
  const map = page.locator(".fit-map");
  const strengths = (name) =>
    map.locator(`.${name} > rect`).evaluateAll((cells) => cells.map((c) => Number(c.getAttribute("fill-opacity"))));
  const bits = await strengths("cell-first");
  assert.equal(bits.length, matrices.length);
  const strongest = (values) => values.indexOf(Math.max(...values));
  assert.equal(bits[strongest(matrices.map((t) => t.bytes / t.weights))], Math.max(...bits));
  await map.locator("input[value=kld]").check();
  const kld = await strengths("cell-second");
  assert.equal(kld.length, matrices.length);
  assert.equal(strongest(kld), strongest(matrices.map((t) => t.expected_kld)));
  await map.locator(".cell-second > rect").nth(3).hover();
  const tip = await map.locator("svg").textContent();
  assert.ok(tip.includes(matrices[3].name) && tip.includes(matrices[3].type), tip);
  const rows = await map.locator("details").locator("tbody tr").count();
  assert.equal(rows, matrices.length);
  assert.ok((await map.textContent()).includes(`${json.fit.narrow_matrices} of ${json.fit.matrices} matrices`));
  await page.close();
});

test("fit: scores, documents, hashes", async () => {
  const page = await open("fit");
  const { fit } = json;
  const rows = await tableRows(page, "Scores");
  const scores = fit.scoring.flatMap((s, i) => [
    ...(fit.selection.length ? [["chosen by", fit.selection[i]]] : []),
    ["scored on", s],
  ]);
  assert.equal(rows.length, scores.length);
  scores.forEach(([share, score], i) => {
    assert.deepEqual([rows[i].Text, rows[i].Share], [score.text, share]);
    assertShows(rows[i]["KL (95 %)"], score.kld_mean, `KL of ${score.text}`);
    assertShows(rows[i]["KL (95 %)"].split("±")[1], 1.96 * score.kld_se, `interval of ${score.text}`);
    assertShows(rows[i]["Same top token"], 100 * score.top1_agreement, `top-1 of ${score.text}`);
  });
  assert.equal((await dots(page.locator(".fit-scores"), "model-dot")).length, scores.length);
  const dealt = await tableRows(page, "How the documents of each text were dealt");
  assert.deepEqual(
    dealt.map((row) => Object.values(row)),
    fit.texts.map((t) => [t.name, t.calibration, t.selection, t.scoring].map(String)),
  );
  await assertSources(page, fit.inputs, fit.command);
  await page.close();
});

test("eval: figures, texts, tasks, layers", async () => {
  const page = await open("eval");
  const { eval: e } = json;
  const [figures] = await tableRows(page, "What was measured, one model per row");
  assertShows(figures.Size, e.bytes / 1e3, "size");
  assertShows(figures.Perplexity, e.ppl, "perplexity");
  assertShows(figures["KL mean"], e.kld_mean, "KL");
  const texts = await tableRows(page, "Each text on its own");
  assert.deepEqual(
    texts.map((row) => row.Text),
    ["en", "ko"],
  );
  e.texts.forEach((text, i) => {
    assertShows(texts[i].Perplexity, text.ppl, text.name);
    assertShows(texts[i]["KL mean (95 %)"], text.kld_mean, text.name);
  });
  const [task] = await tableRows(page, "Answers");
  assertShows(task["Right (95 %)"], 100 * e.tasks[0].acc, "accuracy");
  assert.equal(await page.locator("#layers .cell-first > rect").count(), e.layers.length);
  assert.equal(await page.locator(".example").count(), e.worst.length);
  const guesses = await page.locator(".example .share").allTextContents();
  e.worst
    .flatMap((w) => [...w.reference, ...w.model])
    .forEach((guess, i) => assertShows(guesses[i], 100 * guess.p, `guess ${i}`));
  await assertSources(page, e.inputs, e.command);
  await page.close();
});

test("eval of tasks alone", async () => {
  const page = await open("tasks");
  const [task] = await tableRows(page, "Answers");
  assertShows(task["Right (95 %)"], 100 * json.tasks.tasks[0].acc, "accuracy");
  await page.close();
});

test("eval of free answers", async () => {
  const page = await open("answers");
  const { exact_match: m } = json.answers;
  const [match] = await tableRows(page, "Exact match");
  assertShows(match.Of, m.total, "prompts");
  const [near] = await tableRows(page, "How near the answers are");
  assertShows(near["Macro-F1 (95 %)"], m.macro_f1.score, "macro-F1");
  assertShows(near["BLEU (95 %)"], m.bleu.score, "BLEU");
  assertShows(near["chrF (95 %)"], m.chrf.score, "chrF");
  await page.close();
});

test("what was taught", async () => {
  const page = await open("answers");
  const [row] = await tableRows(page, "Training that was measured here");
  const training = json.answers.training;
  assert.equal(row.Method, "lora");
  assert.equal(row.Base, "llama");
  assertShows(row["Trained parameters"], training.n_parameters, "trained parameters");
  assertShows(row.Steps, 2, "steps");
  assertShows(row.Tokens, training.tokens, "tokens");
  await page.close();
});

test("compare: rows, points, flips", async () => {
  const page = await open("compare");
  const { compare } = json;
  const rows = await tableRows(page, "Each model on each text");
  compare.rows.forEach((row, i) => {
    assert.deepEqual([rows[i].Text, rows[i].Model], [row.text, row.model]);
    assertShows(rows[i]["KL mean (95 %)"], row.kld_mean, `KL of ${row.model} on ${row.text}`);
    assertShows(rows[i].Perplexity, row.ppl, `perplexity of ${row.model} on ${row.text}`);
    if (row.kld_less_first !== null)
      assertShows(rows[i]["KL more than llama (95 %)"], row.kld_less_first, `difference of ${row.model}`);
  });
  const picture = page.locator(".compare-pareto");
  const count = async () => (await dots(picture, "model-dot")).length + (await dots(picture, "beaten-dot")).length;
  assert.equal(await count(), compare.rows.length);
  await picture.locator("input[value=speed]").check();
  assert.equal(await count(), compare.rows.length);
  assert.ok((await picture.locator("svg").first().textContent()).includes("tokens per second"));
  const answers = await tableRows(page, "Answers");
  compare.task_rows.forEach((row, i) => {
    if (row.right_to_wrong === null) return;
    assertShows(answers[i]["Answers that flipped"], 100 * (row.right_to_wrong + row.wrong_to_right), "flips");
  });
  const inputs = [...compare.models, compare.reference, ...compare.texts, ...compare.tasks];
  await assertSources(page, inputs, compare.command);
  await page.close();
});

test("markup in what was measured stays text", async () => {
  const page = await open("joined");
  assert.equal(await page.title(), EVIL);
  assert.equal(await page.locator("h1").textContent(), EVIL);
  const example = page.locator(".example").first();
  assert.equal(await example.locator("mark").textContent(), EVIL);
  assert.ok((await example.locator("blockquote").textContent()).includes(EVIL));
  assert.ok((await example.locator(".token").allTextContents()).includes(EVIL));
  assert.equal(await page.locator("script").count(), 2); // the data and the page's own
  assert.equal(await page.locator("#training svg").count(), 1);
  assert.ok(
    (await page.locator("header").textContent()).includes("2 evaluations, 1 fit, 1 comparison, 1 training run"),
  );
  await page.close();
});

for (const [look, options] of Object.entries({
  light: {},
  dark: { colorScheme: "dark" },
  phone: { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true },
})) {
  test(`nothing overflows or overlaps: ${look}`, async () => {
    for (const name of ["fit", "eval", "compare", "joined"]) {
      const page = await open(name, options);
      await assertNoOverflow(page, name);
      await assertNamesApart(page);
      await page.close();
    }
  });
}

test("the dark page is dark", async () => {
  const lightness = async (options) => {
    const page = await open("fit", options);
    const colours = await page.evaluate(() =>
      ["backgroundColor", "color"].map((key) => getComputedStyle(document.body)[key]),
    );
    await page.close();
    return colours.map((colour) => parse(colour));
  };
  const [page, ink] = await lightness({ colorScheme: "dark" });
  assert.ok(page < 64 && ink > 192);
  const [lightPage, lightInk] = await lightness({ colorScheme: "light" });
  assert.ok(lightPage > 192 && lightInk < 64);
});
