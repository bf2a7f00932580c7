// What thimble eval, fit and compare write with --json, as far as the page shows it. The C++ side has checked that
// the fields without a question mark are there (eval/report.cc).

export interface Input {
  path: string;
  bytes: number;
  sha256: string;
}

interface Common {
  name?: string;
  model?: string;
  inputs?: Input[];
  command?: string;
  thimble_version?: string;
  ctx_size?: number;
  compute?: string;
}

type Maybe = number | null | undefined;
export type Interval = [number, number] | null | undefined;

export interface Figures {
  ppl?: Maybe;
  ppl_se?: Maybe;
  kld_mean?: Maybe;
  kld_se?: Maybe;
  kld_median?: Maybe;
  kld_p99?: Maybe;
  top1_agreement?: Maybe;
  reference_ppl?: Maybe;
  tokens_per_second?: Maybe;
  n_tokens?: Maybe;
}

export interface Task {
  name: string;
  total: number;
  acc: number;
  acc_norm: number;
  acc_interval?: Interval;
  acc_norm_interval?: Interval;
}

export interface Guess {
  token: string;
  p: number;
}

export interface Worst {
  text: string;
  context: string;
  next: string;
  kld: number;
  reference?: Guess[];
  model?: Guess[];
}

export interface TextScore {
  score: number;
  low: number;
  high: number;
}

export interface ExactMatch {
  correct: number;
  total: number;
  low: number;
  high: number;
  bleu?: TextScore;
  chrf?: TextScore;
  macro_f1?: TextScore;
  data?: string;
  wrong?: { expected: string; got: string }[];
}

export interface LayerError {
  layer: number;
  module: string;
  type?: string;
  relative_error: number;
}

/** Of the run that made the adapter, or the model. */
export interface Training {
  method?: string;
  base?: string;
  compute?: string;
  n_parameters?: Maybe;
  saved_bytes?: Maybe;
  steps?: Maybe;
  tokens?: Maybe;
  seconds?: Maybe;
  peak_rss_bytes?: Maybe;
}

export interface Eval extends Common, Figures {
  kind?: "eval";
  bytes: number;
  bits_per_weight?: Maybe;
  peak_rss_bytes?: Maybe;
  reference_bytes?: Maybe;
  n_parameters?: Maybe;
  reference?: string | null;
  adapters?: string[];
  texts?: (Figures & { name: string })[];
  tasks?: Task[];
  worst?: Worst[];
  exact_match?: ExactMatch | null;
  training?: Training | null;
  layers?: LayerError[];
}

export interface Score {
  text: string;
  tokens: number;
  kld_mean: number;
  kld_se: number;
  top1_agreement: number;
  ppl_ratio: number;
}

export interface Tensor {
  name: string;
  type: string;
  shape?: number[];
  weights: number;
  bytes: number;
  expected_kld: number;
  relative_error: number;
}

export interface Goal {
  bytes?: number;
  ram_bytes?: number;
  bits_per_weight?: number;
  max_kld?: Record<string, number>;
  min_top1?: number;
}

export interface Fit extends Common {
  kind: "fit";
  output?: string;
  goal?: Goal;
  bytes: number;
  model_bytes: number;
  bits_per_weight: number;
  expected_kld: number;
  activation_kld: number;
  expected_ram_bytes: number;
  cache_type_k?: string;
  cache_type_v?: string;
  selection?: Score[];
  scoring?: Score[];
  texts?: { name: string; calibration: number; selection: number; scoring: number }[];
  front: { bytes: number; kld: number }[];
  types?: { type: string; bytes: number; kld: number; other: number }[];
  matrices?: number;
  narrow_matrices?: number;
  tensors: Tensor[];
  seconds?: number;
}

export interface ComparedModel {
  name: string;
  path?: string;
  sha256?: string;
  bytes: number;
  bits_per_weight: number;
  tokens_per_second?: Maybe;
}

export interface TextRow {
  model: string;
  text: string;
  n_tokens: number;
  n_windows: number;
  ppl: number;
  ppl_ratio: number;
  kld_mean: number;
  kld_interval?: Interval;
  kld_p99: number;
  top1_agreement: number;
  right_to_wrong?: Maybe;
  wrong_to_right?: Maybe;
  kld_less_first?: Maybe;
  kld_less_first_interval?: Interval;
}

export interface TaskRow extends Task {
  model: string;
  right_to_wrong?: Maybe;
  wrong_to_right?: Maybe;
  acc_less_first?: Maybe;
  acc_less_first_interval?: Interval;
}

export interface Comparison extends Common {
  kind: "compare";
  reference?: Input | null;
  texts?: Input[];
  tasks?: Input[];
  models: ComparedModel[];
  rows?: TextRow[];
  task_rows?: TaskRow[];
}

export interface TuneEntry {
  step: number;
  loss?: number;
  eval_loss?: number;
  tokens?: number;
  seconds?: number;
}

export interface TuneLog {
  name: string;
  entries: TuneEntry[];
}

export interface ReportData {
  title: string;
  records: (Eval | Fit | Comparison)[];
  tunes: TuneLog[];
}
