// Domains and round numbers of axes.
import * as Plot from "@observablehq/plot";
import { number } from "./numbers";

/** Whether values are all positive and differ by more than a factor of 8; by more than 10 000, one is as good as 0. */
export function needsLog(values: number[]) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  return low > 0 && high > 8 * low && high < 1e4 * low;
}

export interface Scale {
  type: "linear" | "log";
  domain: [number, number];
  nice?: boolean;
  ticks?: number[];
  tickFormat?: (value: number) => string;
}

/** Around the values; a linear one never goes below 0. */
export function scaleOf(values: number[], isLog: boolean, fromZero = false): Scale {
  const low = Math.min(...values);
  const high = Math.max(...values);
  if (!isLog) {
    const pad = 0.08 * (high - low) || 0.1 * high || 1;
    const domain: [number, number] = [fromZero ? 0 : Math.max(0, low - pad), high + pad];
    return { type: "linear", domain, nice: true };
  }
  const domain: [number, number] = [low / 1.3, high * 1.3];
  const marks = high > 200 * low ? [1] : [1, 2, 5];
  const ticks: number[] = [];
  for (let power = 10 ** Math.floor(Math.log10(domain[0])); power < domain[1]; power *= 10) {
    ticks.push(...marks.map((m) => m * power).filter((v) => v >= domain[0] && v <= domain[1]));
  }
  return { type: "log", domain, ticks, tickFormat: (v: number) => number(v, 1) };
}

const isPower = (v: number) => Math.abs(Math.log10(v) - Math.round(Math.log10(v))) < 1e-9;

/**
 * A scale and its axis, with as many ticks as `room` in pixels allows. The labels are texts of their own, as Plot
 * leaves some of a logarithmic scale's out.
 */
export function axisOf(axis: "x" | "y", { ticks, tickFormat, ...scale }: Scale, room: number, label: string | null) {
  const narrow = axis === "x" && room < 400;
  const powers = (ticks ?? []).filter(isPower);
  const options = {
    ticks: ticks ? (narrow && powers.length > 1 ? powers : ticks) : Math.min(8, Math.max(2, Math.floor(room / 70))),
    ...(tickFormat && { text: tickFormat }),
    label,
    labelArrow: "none" as const,
  };
  const marks = axis === "x" ? [Plot.gridX(options), Plot.axisX(options)] : [Plot.gridY(options), Plot.axisY(options)];
  return { scale, marks };
}
