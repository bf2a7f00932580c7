// Draws the report from the JSON in #data: sentences, pictures (SVG) and, beside each picture, its figures as a
// table. Text reaches the page as text nodes only, never as markup.
'use strict';

// ---- Elements ----

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
  node.append(...children.flat().filter(child => child != null));
  return node;
}
const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) =>
  fill(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);
const line = (name, x1, y1, x2, y2) => s('line', {class: name, x1, y1, x2, y2});
const text = (content, x, y, attributes) => s('text', {x, y, ...attributes}, content);

// ---- Numbers as people read them ----

const isNumber = value => typeof value === 'number' && Number.isFinite(value);
const NONE = '–';

function number(value, digits = 3) {  // `digits` significant ones, but never a rounded whole part
  if (!isNumber(value)) return NONE;
  const whole = Math.floor(Math.log10(Math.abs(value) || 1)) + 1;
  const decimals = Math.min(6, Math.max(0, digits - whole));
  return value.toLocaleString('en-GB', {minimumFractionDigits: decimals, maximumFractionDigits: decimals});
}
const fixed = (value, decimals) => isNumber(value)
  ? value.toLocaleString('en-GB', {minimumFractionDigits: decimals, maximumFractionDigits: decimals}) : NONE;
const integer = value => fixed(value, 0);
const percent = (share, decimals = 1) => isNumber(share) ? fixed(100 * share, decimals) + ' %' : NONE;
const megabytes = bytes => isNumber(bytes) ? number(bytes / 1e6, 4) + ' MB' : NONE;
const plusMinus = (value, error) =>
  isNumber(error) ? `${number(value, 4)} ± ${number(error, 2)}` : number(value, 4);
const change = ratio => `${ratio >= 1 ? '+' : '−'}${number(100 * Math.abs(ratio - 1), 2)} %`;
const clip = (label, length) => label.length > length ? label.slice(0, length - 1) + '…' : label;

// ---- Scales ----

// Round numbers that span [low, high] in about `count` steps.
function niceTicks(low, high, count) {
  if (!(high > low)) high = low + (Math.abs(low) || 1);
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find(m => m * power >= rough * 0.999) * power;
  const ticks = [];
  for (let i = Math.floor(low / step); i <= Math.ceil(high / step - 1e-9); i++) ticks.push(i * step);
  return ticks;
}
function linearScale(low, high, from, to, count = 5) {
  const ticks = niceTicks(low, high, count), first = ticks[0], last = ticks[ticks.length - 1];
  const decimals = Math.max(0, -Math.floor(Math.log10(ticks[1] - ticks[0]) + 1e-9));
  return {at: v => from + (v - first) / (last - first) * (to - from),
          ticks: ticks.map(v => [v, fixed(v, decimals)])};
}
function logScale(low, high, from, to) {
  const a = Math.log(low / 1.3), b = Math.log(high * 1.3), ticks = [];
  const marks = high > 200 * low ? [1] : [1, 2, 5];
  for (let power = 10 ** Math.floor(Math.log10(low / 1.3)); power < high * 1.3; power *= 10) {
    for (const m of marks) {
      const v = m * power;
      if (Math.log(v) >= a && Math.log(v) <= b) ticks.push([v, number(v, 1)]);
    }
  }
  return {at: v => from + (Math.log(v) - a) / (b - a) * (to - from), ticks};
}

// ---- Parts of the page ----

// A picture that is drawn anew for the width it gets, so that its letters keep their size on a phone. Elements
// with data-tip say it below the picture when touched or pointed at.
function picture(title, draw, caption) {
  const holder = h('div'), readout = h('p', {class: 'readout', 'aria-hidden': 'true'});
  let drawn = 0;
  const redraw = () => {
    const width = Math.max(280, Math.round(holder.clientWidth || 640));
    if (width === drawn) return;
    drawn = width;
    const {height, parts} = draw(width);
    holder.replaceChildren(s('svg', {class: 'plot', role: 'img', 'aria-label': title, width, height,
                                     viewBox: `0 0 ${width} ${height}`}, parts));
  };
  const show = event => {
    const tip = event.target.getAttribute && event.target.getAttribute('data-tip');
    if (tip) readout.textContent = tip;
  };
  holder.addEventListener('pointerover', show);
  holder.addEventListener('click', show);
  drawings.push(redraw);
  return h('figure', {}, holder, readout, h('figcaption', {}, caption));
}
const drawings = [];

// Cells are strings, or {text} for what is not a figure. The first cell of a row is its heading.
function table(caption, headings, rows) {
  const cell = (value, i) => i === 0 ? h('th', {scope: 'row'}, value)
    : typeof value === 'object' ? h('td', {class: 'text'}, value.text) : h('td', {}, value);
  return h('div', {class: 'scroll', role: 'region', tabindex: '0', 'aria-label': caption},
    h('table', {}, h('caption', {}, caption),
      h('thead', {}, h('tr', {}, headings.map(heading => h('th', {scope: 'col'}, heading)))),
      h('tbody', {}, rows.map(row => h('tr', {}, row.map(cell))))));
}
const folded = (summary, ...content) => h('details', {}, h('summary', {}, summary), content);
const legend = (...items) =>
  h('p', {class: 'legend'}, items.map(([name, label]) => h('span', {class: name}, h('i'), label)));

// Axes with grid lines; the title of y stands above its ticks, where it can be read without turning the head.
function axes(box, x, y, xTitle, yTitle) {
  return [
    y.ticks.map(([v, label]) => [line('grid', box.left, y.at(v), box.right, y.at(v)),
      text(label, box.left - 8, y.at(v) + 4, {class: 'tick', 'text-anchor': 'end'})]),
    x.ticks.map(([v, label]) => [line('axis', x.at(v), box.bottom, x.at(v), box.bottom + 5),
      text(label, x.at(v), box.bottom + 19, {class: 'tick', 'text-anchor': 'middle'})]),
    line('axis', box.left, box.bottom, box.right, box.bottom),
    text(yTitle, 0, 12),
    text(xTitle, box.right, box.bottom + 38, {'text-anchor': 'end'}),
  ].flat(3);
}

// ---- Size against quality ----

const LETTER = 7;  // width of an average letter at 12 px, rounded up

// Places for the labels of points {x, y, low, high, label} where they cover no point, bar, other label, or rectangle
// of `occupied`, [x0, y0, x1, y1] each.
function placeLabels(points, box, occupied) {
  const taken = [...occupied, ...points.flatMap(p => [[p.x - 7, p.y - 7, p.x + 7, p.y + 7], [p.x - 2, p.high, p.x + 2, p.low]])];
  const free = ([x0, y0, x1, y1]) => x0 >= box.left && x1 <= box.right + 14 && y0 >= box.top - 6 && y1 <= box.bottom &&
    !taken.some(t => x0 < t[2] && x1 > t[0] && y0 < t[3] && y1 > t[1]);
  return [...points].sort((a, b) => a.y - b.y).flatMap(p => {
    const label = clip(p.label, Math.max(10, Math.floor((box.right - box.left) * 0.45 / LETTER)));
    const width = label.length * LETTER;
    for (const shift of [0, -16, 16, -32, 32, -48, 48, -64, 64, -80, 80]) {
      const sides = [[p.x + 11, p.y - 8 + shift], [p.x - 11 - width, p.y - 8 + shift]];
      if (shift !== 0) sides.push([p.x - width / 2, p.y - 8 + shift]);
      for (const [x, y] of sides) {
        const place = [x, y, x + width, y + 16];
        if (!free(place)) continue;
        taken.push(place);
        const left = x < p.x - width / 2 - 1, anchor = left ? 'end' : x > p.x ? 'start' : 'middle';
        const textX = left ? x + width : x > p.x ? x : p.x;
        return [
          Math.abs(shift) > 16 ? line('leader', p.x, p.y, x > p.x || left ? textX : p.x, shift < 0 ? y + 15 : y + 2) : null,
          text(label, textX, y + 12, {'text-anchor': anchor})];
      }
    }
    return [];  // too crowded: the table and the line below the picture name it
  });
}

// `quality(e)` -> {value, error}; smaller is better. `limit` is a {value, label} to draw a line at, or null. Values
// that differ by more than a factor of 8 get a logarithmic scale.
function sizeAgainst(evals, quality, yTitle, fromZero, limit, caption) {
  const all = evals.map(e => ({e, ...quality(e)}));
  const beaten = p => all.some(q => q.e.bytes <= p.e.bytes && q.value <= p.value &&
                                    (q.e.bytes < p.e.bytes || q.value < p.value));
  const reach = p => isNumber(p.error) ? p.error : 0;
  return picture(`${yTitle} against size in megabytes, one point per model`, width => {
    const box = {left: 52, right: width - 16, top: 28, bottom: 330};
    const sizes = all.map(p => p.e.bytes / 1e6), small = Math.min(...sizes), large = Math.max(...sizes);
    const logX = large > 3 * small, margin = 0.06 * (large - small) || 0.1 * large;
    const x = logX ? logScale(small, large, box.left, box.right)
      : linearScale(small - margin, large + margin, box.left, box.right, width < 480 ? 4 : 6);
    const values = [...all.map(p => p.value), ...(limit ? [limit.value] : [])];
    const logY = Math.min(...values) > 0 && Math.max(...values) > 8 * Math.min(...values);
    const bottom = p => logY ? Math.max(p.value - reach(p), p.value / 3) : p.value - reach(p);
    const high = Math.max(...all.map(p => p.value + reach(p)), ...values), low = Math.min(...all.map(bottom), ...values);
    const pad = Math.max((high - low) * 0.08, high * 1e-3);
    const y = logY ? logScale(low, high, box.bottom, box.top)
      : linearScale(fromZero ? 0 : Math.max(0, low - pad), high + pad, box.bottom, box.top);
    const points = all.map(p => ({p, label: p.e.name, x: x.at(p.e.bytes / 1e6), y: y.at(p.value),
                                  low: y.at(bottom(p)), high: y.at(p.value + reach(p))}));
    const limitLabel = limit ? [[box.left + 6, y.at(limit.value) + 2, box.left + 6 + limit.label.length * LETTER, y.at(limit.value) + 19]] : [];
    return {height: 374, parts: [
      ...axes(box, x, y, 'size of the file in MB' + (logX ? ' (log scale)' : ''), yTitle + (logY ? ' (log scale)' : '')),
      ...(limit ? [line('limit', box.left, y.at(limit.value), box.right, y.at(limit.value)),
                   text(limit.label, box.left + 6, y.at(limit.value) + 15, {class: 'tick'})] : []),
      ...points.filter(p => reach(p.p) > 0).flatMap(p => [line('error', p.x, p.low, p.x, p.high),
        line('error', p.x - 4, p.low, p.x + 4, p.low), line('error', p.x - 4, p.high, p.x + 4, p.high)]),
      ...points.map(p => s('circle', {class: beaten(p.p) ? 'dot beaten' : 'dot', cx: p.x, cy: p.y, r: 6,
        'data-tip': `${p.label}: ${megabytes(p.p.e.bytes)}, ${yTitle} ${plusMinus(p.p.value, p.p.error)}`})),
      ...placeLabels(points, box, limitLabel)]};
  }, caption);
}

function sizeSection(evals) {
  const withPpl = evals.filter(e => isNumber(e.ppl)), withKld = evals.filter(e => isNumber(e.kld_mean));
  if (withPpl.length === 0) return [];
  const hollow = shown => shown.length > 2 ? ' Hollow points: another model here is both smaller and better.' : '';
  const parts = [h('h2', {}, 'Size against quality')];
  if (withKld.length > 0) {
    const rest = withPpl.length - withKld.length;
    parts.push(sizeAgainst(withKld, e => ({value: e.kld_mean, error: e.kld_se}),
      'mean KL divergence from the reference, nats', true, null,
      'Lower is closer to the reference model; 0 would be its very predictions. Bars: one standard error.' +
      hollow(withKld) + (rest > 0 ? ` ${rest} without a reference: only in the next picture.` : '')));
  }
  const references = [...new Set(withPpl.map(e => e.reference_ppl).filter(isNumber).map(v => v.toFixed(6)))];
  const limit = references.length === 1 ? {value: Number(references[0]), label: `reference: ${number(Number(references[0]), 4)}`} : null;
  parts.push(sizeAgainst(withPpl, e => ({value: e.ppl, error: e.ppl_se}), 'perplexity', false, limit,
    'Lower is better: the number of equally likely next tokens that would leave the model as unsure. Bars: one ' +
    'standard error over the tokens of this text; all models read the same tokens only if text and window agree.' +
    hollow(withPpl)));
  return parts;
}

function figuresSection(evals) {
  return [h('h2', {}, 'All figures'), table('What was measured, one model per row',
    ['Model', 'Size', 'Bits per weight', 'Perplexity', 'KL mean', 'KL median', 'KL 99 %', 'Same top token', 'Exact match',
     'Tokens/s', 'Peak memory', 'Tokens scored'],
    evals.map(e => [e.name, megabytes(e.bytes), fixed(e.bits_per_weight, 2), plusMinus(e.ppl, e.ppl_se),
      number(e.kld_mean, 2), number(e.kld_median, 2), number(e.kld_p99, 2), percent(e.top1_agreement),
      e.exact_match ? `${integer(e.exact_match.correct)} of ${integer(e.exact_match.total)}` : NONE,
      number(e.tokens_per_second), megabytes(e.peak_rss_bytes), integer(e.n_tokens)])),
    h('p', {class: 'muted'}, 'Perplexity with its standard error. KL divergence from the reference, in nats per token: the mean, the median, and what the worst hundredth of places exceeds. Tokens per second: reading the text (prefill), on the ' +
      'machine that made each file. Peak memory: of the process while it held the model alone.')];
}

// ---- Exact match ----

function matchSection(evals) {
  const shown = evals.filter(e => e.exact_match);
  if (shown.length === 0) return [];
  const share = e => e.exact_match.correct / e.exact_match.total;
  const drawing = picture('Share of prompts answered to the letter, one bar per model', width => {
    const row = 46, right = width - 8, bottom = shown.length * row + 6;
    const x = {at: v => v * right, ticks: []};
    const parts = shown.flatMap((e, i) => {
      const top = i * row, m = e.exact_match, value = percent(share(e));
      return [text(clip(e.name, Math.floor((right - 70) / LETTER)), 0, top + 14), text(value, right, top + 14, {'text-anchor': 'end'}),
        s('rect', {class: 'track', x: 0, y: top + 21, width: right, height: 14, rx: 2}),
        s('rect', {class: 'bar', x: 0, y: top + 21, width: x.at(share(e)), height: 14, rx: 2,
                   'data-tip': `${e.name}: ${m.correct} of ${m.total} right`}),
        line('whisker', x.at(m.low), top + 28, x.at(m.high), top + 28),
        line('whisker', x.at(m.low), top + 24, x.at(m.low), top + 32), line('whisker', x.at(m.high), top + 24, x.at(m.high), top + 32)];
    });
    const ticks = [0, 0.25, 0.5, 0.75, 1].map(v => text(percent(v, 0), x.at(v), bottom + 12,
      {class: 'tick', 'text-anchor': v === 0 ? 'start' : v === 1 ? 'end' : 'middle'}));
    return {height: bottom + 20, parts: [...parts, ...ticks]};
  }, 'A prompt counts only if the whole answer equals the expected one. Whiskers: 95 % interval (Wilson).');
  return [h('h2', {}, 'Exact match'), drawing,
    table('Exact match', ['Model', 'Right', 'Of', 'Share', '95 % interval', 'Prompts'],
      shown.map(e => [e.name, integer(e.exact_match.correct), integer(e.exact_match.total), percent(share(e)),
        `${percent(e.exact_match.low)} to ${percent(e.exact_match.high)}`, {text: e.exact_match.data || NONE}])),
    ...shown.filter(e => Array.isArray(e.exact_match.wrong) && e.exact_match.wrong.length > 0).map(e =>
      folded(`Wrong answers of ${e.name}`, table(`Expected, and what ${e.name} answered instead`, ['Expected', 'Answered'],
        e.exact_match.wrong.map(w => [String(w.expected), {text: String(w.got)}]))))];
}

// ---- Training ----

// The log as two series; a resumed run repeats steps, and the last word on a step counts.
function readTune(tune) {
  const train = new Map(), held = new Map();
  for (const entry of tune.entries) {
    if (isNumber(entry.loss)) train.set(entry.step, entry);
    if (isNumber(entry.eval_loss)) held.set(entry.step, entry.eval_loss);
  }
  const inOrder = map => [...map].sort((a, b) => a[0] - b[0]);
  const steps = inOrder(train).map(([, entry]) => entry);
  const sum = key => steps.reduce((total, entry) => total + (entry[key] || 0), 0);
  return {name: tune.name, train: steps.map(e => [e.step, e.loss]), held: inOrder(held), tokens: sum('tokens'), seconds: sum('seconds')};
}

// Mean of the last `span` values at each place: batch losses jump about.
const movingMean = (series, span) => series.map(([step], i) => {
  const window = series.slice(Math.max(0, i - span + 1), i + 1);
  return [step, window.reduce((total, [, v]) => total + v, 0) / window.length];
});

function tunePicture(tune) {
  const span = Math.max(1, Math.round(tune.train.length / 20));
  return picture(`Loss over the steps of ${tune.name}: training and held-out`, width => {
    const box = {left: 52, right: width - 16, top: 28, bottom: 290};
    const all = [...tune.train, ...tune.held], losses = all.map(p => p[1]), steps = all.map(p => p[0]);
    const high = Math.max(...losses), low = Math.min(...losses);
    const x = linearScale(Math.min(0, ...steps), Math.max(1, ...steps), box.left, box.right, width < 480 ? 4 : 8);
    const y = linearScale(low < 0.6 * high ? 0 : low, high, box.bottom, box.top);
    const path = series => series.map(([step, v], i) => `${i ? 'L' : 'M'}${x.at(step).toFixed(1)} ${y.at(v).toFixed(1)}`).join('');
    return {height: 334, parts: [...axes(box, x, y, 'optimizer step', 'loss, nats per token'),
      span > 1 ? s('path', {class: 'first line raw', d: path(tune.train)}) : null,
      s('path', {class: 'first line', d: path(movingMean(tune.train, span))}),
      s('path', {class: 'second line', d: path(tune.held)}),
      ...tune.held.map(([step, v]) => s('circle', {class: 'second dot', cx: x.at(step), cy: y.at(v), r: 5,
        'data-tip': `held-out loss at step ${step}: ${number(v, 4)}`}))]};
  }, span > 1 ? `The strong training line is the mean of the last ${span} steps, the faint one each step's own loss.`
    : 'The training loss is that of each step\'s own batch.');
}

function tuneSection(tunes) {
  if (tunes.length === 0) return [];
  const first = series => series.length ? number(series[0][1], 4) : NONE;
  const last = series => series.length ? number(series[series.length - 1][1], 4) : NONE;
  const every = series => series.filter((_, i) => i === series.length - 1 || i % Math.ceil(series.length / 50) === 0);
  return [h('h2', {}, 'Training'), tunes.map(tune => [h('h3', {}, tune.name),
    legend(['first', 'training loss'], ...(tune.held.length ? [['second', 'held-out loss']] : [])), tunePicture(tune),
    folded('Losses as a table',
      table(`Losses of ${tune.name}${tune.train.length > 50 ? ', about 50 of its steps' : ''}`, ['Step', 'Training loss'],
        every(tune.train).map(([step, v]) => [integer(step), number(v, 4)])),
      tune.held.length ? table(`Held-out losses of ${tune.name}`, ['Step', 'Held-out loss'],
        tune.held.map(([step, v]) => [integer(step), number(v, 4)])) : null)]),
    table('Training runs', ['Run', 'Steps', 'First loss', 'Last loss', 'Held-out before', 'Held-out after', 'Tokens', 'Tokens/s'],
      tunes.map(t => [t.name, integer(t.train.length), first(t.train), last(t.train), first(t.held), last(t.held),
        integer(t.tokens), t.seconds > 0 ? number(t.tokens / t.seconds) : NONE]))].flat(2);
}

// ---- Error of each layer ----

const hasLayers = e => Array.isArray(e.layers) && e.layers.length > 0;

function heatMap(e) {
  const worst = Math.max(0.01, ...e.layers.map(l => l.relative_error));  // rounding to F16 is not worth colour
  const modules = [...new Set(e.layers.map(l => l.module))], layers = [...new Set(e.layers.map(l => l.layer))].sort((a, b) => a - b);
  return picture(`Relative error of each linear layer of ${e.name}`, width => {
    const wide = width >= 480;  // layers run to the right, or on a phone down
    const left = wide ? 82 : 34, top = wide ? 6 : 62, across = wide ? layers.length : modules.length;
    const cellWidth = Math.min(wide ? 26 : 48, (width - left - (wide ? 4 : 36)) / across), cellHeight = wide ? 24 : 15;
    const place = l => {
      const a = layers.indexOf(l.layer), b = modules.indexOf(l.module);
      return wide ? [a, b] : [b, a];
    };
    const cells = e.layers.map(l => {
      const [column, row] = place(l);
      return s('rect', {class: 'cell', x: left + column * cellWidth, y: top + row * cellHeight, width: cellWidth - 1, height: cellHeight - 1,
        'fill-opacity': (0.06 + 0.94 * l.relative_error / worst).toFixed(3),
        'data-tip': `layer ${l.layer}, ${l.module}: ${percent(l.relative_error, 2)}${l.type ? ` (${l.type})` : ''}`});
    });
    const every = layers.length > 12 ? 5 : 1;
    const layerLabels = layers.map((layer, i) => i % every ? null : wide
      ? text(layer, left + (i + 0.5) * cellWidth, top + modules.length * cellHeight + 15, {class: 'tick', 'text-anchor': 'middle'})
      : text(layer, left - 6, top + (i + 0.8) * cellHeight, {class: 'tick', 'text-anchor': 'end'}));
    const moduleLabels = modules.map((module, i) => wide
      ? text(clip(module, 12), left - 6, top + (i + 0.7) * cellHeight, {'text-anchor': 'end'})
      : text(clip(module, 10), 0, 0, {transform: `translate(${left + (i + 0.65) * cellWidth} ${top - 6}) rotate(-50)`}));
    const bottom = top + (wide ? modules.length : layers.length) * cellHeight;
    return {height: bottom + 24, parts: [...cells, ...layerLabels, ...moduleLabels,
      wide ? text('layer', 0, bottom + 15, {class: 'tick'}) : text('layer', 0, top - 8, {class: 'tick'})]};
  }, `Stronger colour: larger error; the strongest would be ${percent(worst)}.`);
}

function summarize(errors, key) {
  const groups = new Map();
  for (const l of errors) groups.set(l[key] || NONE, [...(groups.get(l[key] || NONE) || []), l.relative_error]);
  return [...groups].map(([name, values]) => [name, integer(values.length),
    percent(values.reduce((a, b) => a + b, 0) / values.length, 2), percent(Math.max(...values), 2)]);
}

function layerSection(evals) {
  const shown = evals.filter(hasLayers);
  if (shown.length === 0) return [];
  return [h('h2', {}, 'Error of each layer'),
    h('p', {}, 'How far the stored weights of each linear layer are from the reference\'s: the length of the difference over the ' +
      'length of the original. It says where the precision went, not what each layer matters to the output.'),
    ...shown.flatMap(e => [h('h3', {}, e.name), heatMap(e),
      table(`Error of ${e.name} by module`, ['Module', 'Layers', 'Mean', 'Largest'], summarize(e.layers, 'module')),
      folded('By weight type, and every layer',
        table(`Error of ${e.name} by weight type`, ['Type', 'Layers', 'Mean', 'Largest'], summarize(e.layers, 'type')),
        table(`Error of every layer of ${e.name}`, ['Layer', 'Module', 'Type', 'Relative error'],
          e.layers.map(l => [integer(l.layer), {text: l.module}, {text: l.type || NONE}, percent(l.relative_error, 2)])))])];
}

// ---- In words ----

// [name, what to say of it], or null.
function aboutQuality(e, evals) {
  if (!isNumber(e.ppl)) return null;
  const ofReference = isNumber(e.reference_bytes) && e.reference_bytes !== e.bytes
    ? ` (${percent(e.bytes / e.reference_bytes, 0)} of the reference)` : '';
  const parts = [megabytes(e.bytes) + ofReference];
  const largest = evals.filter(o => isNumber(o.ppl)).reduce((a, b) => b.bytes > a.bytes ? b : a);
  const [base, whose] = isNumber(e.reference_ppl) ? [e.reference_ppl, 'the reference'] : e !== largest ? [largest.ppl, largest.name] : [];
  if (!base) parts.push(`perplexity ${plusMinus(e.ppl, e.ppl_se)}`);
  else if (Math.abs(e.ppl / base - 1) < 5e-4) parts.push(`perplexity ${number(e.ppl, 4)}, that of ${whose}`);
  else parts.push(`perplexity ${number(e.ppl, 4)} against ${number(base, 4)} of ${whose} (${change(e.ppl / base)})`);
  if (isNumber(e.top1_agreement)) {
    parts.push(e.top1_agreement === 1 ? 'the same favourite next token everywhere'
      : `another favourite next token in ${percent(1 - e.top1_agreement)} of places`);
  }
  return [e.name, parts.join('; ') + '.'];
}

// Each model against the first one that answered the same prompts.
function aboutMatches(evals) {
  const firstOf = new Map();
  return evals.filter(e => e.exact_match).map(e => {
    const m = e.exact_match, says = `answers ${m.correct} of ${m.total} prompts to the letter (${percent(m.correct / m.total)})`;
    const key = `${m.data}\n${m.total}`, before = firstOf.get(key);
    if (!before) {
      firstOf.set(key, e);
      return [e.name, says + '.'];
    }
    const b = before.exact_match;
    const verdict = m.low > b.high ? 'better than' : m.high < b.low ? 'worse than' : 'not clearly different from';
    return [e.name, `${says}: ${verdict} ${before.name} with ${percent(b.correct / b.total)}${verdict.startsWith('not') ? ', the 95 % intervals overlap' : ''}.`];
  });
}

function aboutTune(tune) {
  if (tune.held.length === 0) {
    const series = movingMean(tune.train, Math.max(1, Math.round(tune.train.length / 20)));
    return [tune.name, `the training loss went from ${number(tune.train[0][1])} to ${number(series[series.length - 1][1])}; ` +
      'nothing was held out, so this does not show how it does on new data.'];
  }
  const [, before] = tune.held[0], [, after] = tune.held[tune.held.length - 1];
  if (tune.held.length === 1) return [tune.name, `the held-out loss is ${number(after)}.`];
  const best = tune.held.reduce((a, b) => b[1] < a[1] ? b : a);
  return [tune.name, `the held-out loss went from ${number(before)} to ${number(after)}` +
    (after > before ? ': the training made it worse.' : after > 1.02 * best[1]
      ? `, but it was ${number(best[1])} at step ${best[0]}: a shorter training would have been better.` : '.')];
}

function findings(evals, tunes) {
  const all = [...evals.map(e => aboutQuality(e, evals)), ...tunes.map(aboutTune), ...aboutMatches(evals)];
  return [h('h2', {}, 'In short'),
    h('ul', {class: 'findings'}, all.filter(found => found).map(([name, says]) => h('li', {}, h('strong', {}, name), ': ', says)))];
}

// ---- Where the figures come from ----

function sources(evals) {
  if (evals.length === 0) return [];
  const show = value => Array.isArray(value) ? value.join(', ') : typeof value === 'object' ? JSON.stringify(value) : String(value);
  const rows = [['model', 'Model'], ['model_sha256', 'its SHA-256'], ['adapters', 'Adapters'], ['text', 'Text'], ['text_sha256', 'its SHA-256'],
    ['reference', 'Reference'], ['ctx_size', 'Window, tokens'], ['compute', 'Products in'], ['n_parameters', 'Parameters'],
    ['thimble_version', 'Thimble'], ['command', 'Command']];
  const present = value => value != null && value !== '' && !(Array.isArray(value) && value.length === 0);
  return [h('h2', {}, 'Where the figures come from'), ...evals.map(e => folded(e.name,
    h('dl', {}, rows.filter(([key]) => present(e[key])).map(([key, label]) => [h('dt', {}, label),
      h('dd', {}, typeof e[key] === 'number' ? integer(e[key]) : h('code', {}, show(e[key])))]).flat())))];
}

// ---- The page ----

// Names that tell evaluations apart: the given name or the file's, numbered where two are equal.
function nameAll(items) {
  const seen = new Map();
  return items.map(item => {
    const name = item.name || (item.model || '').split('/').pop() || 'unnamed', count = (seen.get(name) || 0) + 1;
    seen.set(name, count);
    return {...item, name: count > 1 ? `${name} (${count})` : name};
  });
}

function main() {
  const data = JSON.parse(document.getElementById('data').textContent);
  const evals = nameAll(data.evals), tunes = nameAll(data.tunes).map(readTune).filter(t => t.train.length + t.held.length > 0);
  const count = (n, word) => `${n} ${word}${n === 1 ? '' : 's'}`;
  document.getElementById('subtitle').textContent =
    [evals.length && count(evals.length, 'evaluation'), tunes.length && count(tunes.length, 'training run')].filter(Boolean).join(', ');
  document.getElementById('report').replaceChildren(...findings(evals, tunes), ...sizeSection(evals), ...(evals.length ? figuresSection(evals) : []),
    ...matchSection(evals), ...tuneSection(tunes), ...layerSection(evals), ...sources(evals));
  const redrawAll = () => drawings.forEach(redraw => redraw());
  redrawAll();
  addEventListener('resize', redrawAll);
}

try {
  main();
} catch (error) {
  document.getElementById('report').append(h('p', {class: 'failed', id: 'failed'}, `This page could not be drawn: ${error.stack || error}`));
}
