// The last minutes of an engine. Each reading of the metrics gives one point of every chart.
import { bucketGrowth, growth, quantile, type Sample } from "./metrics";

/** The charts' values at one moment, null if there was nothing to measure. Latencies are in milliseconds. */
export interface Point {
  /** Seconds since the Unix epoch. */
  time: number;
  running: number;
  waiting: number;
  generated: number | null;
  prompt: number | null;
  pages: number;
  pagesUsed: number;
  pagesCached: number;
  prefixHits: number | null;
  /** Tokens drafted since the server has started. */
  drafted: number;
  draftsKept: number | null;
  firstToken: Percentiles;
  betweenTokens: Percentiles;
  duration: Percentiles;
  queueTime: Percentiles;
}

export type Percentiles = [p50: number | null, p90: number | null, p99: number | null];

export interface Reading {
  time: number;
  sample: Sample;
}

export const KEPT_SECONDS = 120;
export const WINDOW_SECONDS = 30;

/** Adds a reading, and drops those that are too old for the charts. */
export function withReading(readings: Reading[], reading: Reading): Reading[] {
  const oldest = reading.time - KEPT_SECONDS - WINDOW_SECONDS;
  return [...readings.filter((entry) => entry.time >= oldest), reading];
}

/** The newest point. Rates are since the previous reading, shares and percentiles over the last WINDOW_SECONDS. */
export function pointOf(readings: Reading[]): Point | null {
  const now = readings.at(-1);
  if (!now) return null;
  const before = readings.at(-2);
  const start = readings.find((entry) => entry.time >= now.time - WINDOW_SECONDS);
  const windowStart = start === now ? before : start;
  const value = (name: string): number => now.sample.values.get(`mlc_serve_${name}`) ?? 0;
  return {
    time: now.time,
    running: value("requests_running"),
    waiting: value("requests_waiting"),
    generated: rate(before, now, "generation_tokens_total"),
    prompt: rate(before, now, "prompt_tokens_total"),
    pages: value("kv_cache_pages"),
    pagesUsed: value("kv_cache_pages_used"),
    pagesCached: value("kv_cache_pages_recycled"),
    prefixHits: share(windowStart, now, "prefix_cache_hit_tokens_total", "prefix_cache_queried_tokens_total"),
    drafted: value("draft_tokens_total"),
    draftsKept: share(windowStart, now, "draft_tokens_kept_total", "draft_tokens_total"),
    firstToken: percentiles(windowStart, now, "time_to_first_token"),
    betweenTokens: percentiles(windowStart, now, "inter_token_latency"),
    duration: percentiles(windowStart, now, "request_duration"),
    queueTime: percentiles(windowStart, now, "queue_time"),
  };
}

function added(before: Reading, now: Reading, name: string): number {
  const key = `mlc_serve_${name}`;
  return growth(before.sample.values.get(key), now.sample.values.get(key));
}

function rate(before: Reading | undefined, now: Reading, name: string): number | null {
  return before ? added(before, now, name) / (now.time - before.time) : null;
}

/** The share in per cent; null if the whole did not grow. */
function share(before: Reading | undefined, now: Reading, part: string, whole: string): number | null {
  const total = before ? added(before, now, whole) : 0;
  return before && total > 0 ? (100 * added(before, now, part)) / total : null;
}

function percentiles(before: Reading | undefined, now: Reading, name: string): Percentiles {
  const key = `mlc_serve_${name}_seconds`;
  const buckets = before && bucketGrowth(before.sample.histograms.get(key), now.sample.histograms.get(key) ?? []);
  const at = (fraction: number): number | null => {
    const seconds = buckets ? quantile(fraction, buckets) : null;
    return seconds === null ? null : seconds * 1000;
  };
  return [at(0.5), at(0.9), at(0.99)];
}
