// Numbers as people read them.
import type { Interval } from "./records";

export const NONE = "–";

export const isNumber = (value: unknown): value is number => typeof value === "number" && Number.isFinite(value);

type Value = number | null | undefined;

export function fixed(value: Value, decimals: number): string {
  if (!isNumber(value)) return NONE;
  return value
    .toLocaleString("en-GB", { minimumFractionDigits: decimals, maximumFractionDigits: decimals })
    .replace("-", "−");
}

/** `digits` significant ones, but never a rounded whole part. */
export function number(value: Value, digits = 3): string {
  if (!isNumber(value)) return NONE;
  if (Math.abs(value) < 5e-7) return "0";
  const whole = Math.floor(Math.log10(Math.abs(value) || 1)) + 1;
  return fixed(value, Math.min(6, Math.max(0, digits - whole)));
}

export const integer = (value: Value) => fixed(value, 0);
export const percent = (share: Value, decimals = 1) => (isNumber(share) ? fixed(100 * share, decimals) + " %" : NONE);
export const signed = (value: Value, digits = 2) => (isNumber(value) && value > 0 ? "+" : "") + number(value, digits);
export const change = (ratio: Value, decimals = 2) =>
  isNumber(ratio) ? (ratio > 1 ? "+" : "") + fixed(100 * (ratio - 1), decimals) + " %" : NONE;

export function bytes(value: Value): string {
  if (!isNumber(value)) return NONE;
  const [unit, size] = value >= 1e9 ? ["GB", 1e9] : value >= 1e6 ? ["MB", 1e6] : value >= 1e3 ? ["kB", 1e3] : ["B", 1];
  return `${number(value / size, value < 1e3 ? 1 : 4)} ${unit}`;
}

export const plusMinus = (value: Value, error: Value) =>
  isNumber(error) ? `${number(value, 4)} ± ${number(error, 2)}` : number(value, 4);
export const between = (interval: Interval, show: (v: number) => string) =>
  interval ? `${show(interval[0])} to ${show(interval[1])}` : NONE;

/** Half the width of a 95 % interval of a mean with this standard error. */
export const half95 = (error: Value) => (isNumber(error) ? 1.96 * error : 0);

export const baseName = (path: string) => path.split("/").filter(Boolean).pop() ?? path;
export const count = (n: number, word: string) => `${integer(n)} ${word}${n === 1 ? "" : "s"}`;
