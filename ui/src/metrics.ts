// Reads Prometheus' text format, and computes what happened between two readings.

/** Upper bound (seconds) and cumulative count of each bucket, in ascending order. */
export type Buckets = [bound: number, count: number][];

/** The samples of one model: plain values by name, and histograms by name. */
export interface Sample {
  values: Map<string, number>;
  histograms: Map<string, Buckets>;
}

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** Reads the samples whose label `model` has the given value. Buckets are stored under their histogram's name. */
export function parseMetrics(text: string, model: string): Sample {
  const sample: Sample = { values: new Map(), histograms: new Map() };
  for (const line of text.split("\n")) {
    const found = LINE.exec(line);
    if (!found) continue;
    const [, name = "", labelText = "", value] = found;
    const labels = labelsOf(labelText);
    if (labels.get("model") !== model) continue;
    const bound = labels.get("le");
    if (bound === undefined) sample.values.set(name, Number(value));
    else addBucket(sample, name.replace(/_bucket$/, ""), bound, Number(value));
  }
  return sample;
}

function addBucket(sample: Sample, name: string, bound: string, count: number): void {
  const buckets = sample.histograms.get(name) ?? [];
  buckets.push([bound === "+Inf" ? Infinity : Number(bound), count]);
  sample.histograms.set(name, buckets);
}

function labelsOf(text: string): Map<string, string> {
  return new Map([...text.matchAll(LABEL)].map(([, name = "", value = ""]) => [name, unescaped(value)]));
}

function unescaped(value: string): string {
  return value.replace(/\\(.)/g, (_, char: string) => (char === "n" ? "\n" : char));
}

/** How much a counter grew. A counter that shrank belongs to a server that was restarted. */
export function growth(before: number | undefined, now: number | undefined): number {
  if (now === undefined) return 0;
  return before === undefined || now < before ? now : now - before;
}

/** The counts that were added between two readings of a histogram. */
export function bucketGrowth(before: Buckets | undefined, now: Buckets): Buckets {
  const isRestart = before !== undefined && (before.at(-1)?.[1] ?? 0) > (now.at(-1)?.[1] ?? 0);
  const old = isRestart ? undefined : before;
  return now.map(([bound, count], i) => [bound, count - (old?.[i]?.[1] ?? 0)]);
}

/** The value below which a share of the observations lies, interpolated within its bucket; null if there are none. */
export function quantile(share: number, buckets: Buckets): number | null {
  const total = buckets.at(-1)?.[1] ?? 0;
  if (total <= 0) return null;
  const rank = share * total;
  const i = buckets.findIndex(([, count]) => count >= rank);
  const [bound = 0, count = 0] = buckets[i] ?? [];
  const [lower, below] = i > 0 ? (buckets[i - 1] ?? [0, 0]) : [0, 0];
  if (bound === Infinity) return lower;
  return count === below ? bound : lower + ((bound - lower) * (rank - below)) / (count - below);
}
