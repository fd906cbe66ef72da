import { expect, test } from "vitest";
import { pointOf, withReading, type Reading } from "../src/history";
import { bucketGrowth, growth, parseMetrics, quantile, type Buckets } from "../src/metrics";

const text = (tokens: number, hits: number, fast: number, slow: number): string => `
# HELP mlc_serve_requests_running Requests
# TYPE mlc_serve_requests_running gauge
mlc_serve_requests_running{model="m"} 3.0
mlc_serve_requests_running{model="other"} 9.0
mlc_serve_generation_tokens_total{model="m"} ${tokens}
mlc_serve_prefix_cache_queried_tokens_total{model="m"} ${hits * 2}
mlc_serve_prefix_cache_hit_tokens_total{model="m"} ${hits}
mlc_serve_draft_tokens_total{model="m"} ${hits * 10}
mlc_serve_draft_tokens_kept_total{model="m"} ${hits * 3}
mlc_serve_time_to_first_token_seconds_bucket{le="0.1",model="m"} ${fast}
mlc_serve_time_to_first_token_seconds_bucket{le="0.2",model="m"} ${fast + slow}
mlc_serve_time_to_first_token_seconds_bucket{le="+Inf",model="m"} ${fast + slow}
python_info{version="3.10"} 1.0
`;

test("only one model's samples are read, even if its name is escaped", () => {
  const sample = parseMetrics(text(5, 1, 2, 2), "m");
  expect(sample.values.get("mlc_serve_requests_running")).toBe(3);
  expect(sample.values.has("python_info")).toBe(false);
  expect(sample.histograms.get("mlc_serve_time_to_first_token_seconds")).toEqual([
    [0.1, 2],
    [0.2, 4],
    [Infinity, 4],
  ]);
  expect(parseMetrics('a{model="x\\"y\\\\,{}"} 1e-3', 'x"y\\,{}').values.get("a")).toBe(0.001);
});

test("quantiles are interpolated within a bucket; without observations there are none", () => {
  const buckets: Buckets = [
    [1, 10],
    [2, 20],
    [Infinity, 21],
  ];
  expect(quantile(0.5, buckets)).toBeCloseTo(1.05);
  expect(quantile(1, buckets)).toBe(2);
  expect(
    quantile(0.5, [
      [1, 0],
      [Infinity, 0],
    ]),
  ).toBeNull();
  expect(quantile(0.5, [])).toBeNull();
});

test("a counter that shrank has started again from zero", () => {
  expect(growth(5, 8)).toBe(3);
  expect(growth(8, 5)).toBe(5);
  expect(
    bucketGrowth(
      [
        [1, 5],
        [Infinity, 9],
      ],
      [
        [1, 1],
        [Infinity, 2],
      ],
    ),
  ).toEqual([
    [1, 1],
    [Infinity, 2],
  ]);
});

test("a point has rates since the previous reading, and shares over the window", () => {
  const at = (time: number, body: string): Reading => ({ time, sample: parseMetrics(body, "m") });
  let readings: Reading[] = [];
  readings = withReading(readings, at(100, text(0, 0, 0, 0)));
  expect(pointOf(readings)).toMatchObject({ running: 3, generated: null, prefixHits: null, drafted: 0, draftsKept: null });
  readings = withReading(readings, at(102, text(100, 4, 10, 0)));
  const point = pointOf(readings);
  expect(point).toMatchObject({ generated: 50, prefixHits: 50, drafted: 40, draftsKept: 30 });
  expect(point?.firstToken[0]).toBeCloseTo(50);
});
