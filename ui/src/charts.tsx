// Says which charts there are, and which numbers they show.
import type { JSX } from "preact";
import { useMemo } from "preact/hooks";
import { Chart, type Line } from "./chart";
import { count, milliseconds, percent, perSecond } from "./format";
import type { Percentiles, Point } from "./history";

export function Charts({ points, isDark }: { points: Point[]; isDark: boolean }): JSX.Element {
  const times = useMemo(() => points.map(({ time }) => time), [points]);
  const shared = { times, isDark };
  const lines = useMemo(() => chartLines(points), [points]);
  const pages = points.at(-1)?.pages ?? 0;
  return (
    <div class="charts">
      <Chart {...shared} title="Requests" lines={lines.requests} format={count} atLeast={4} />
      <Chart {...shared} title="Tokens per second" lines={lines.tokens} format={perSecond} atLeast={20} />
      <Chart {...shared} title="KV cache pages" lines={lines.pages} format={count} atLeast={Math.max(4, pages)} />
      <Chart
        {...shared}
        title="Prompt tokens found in the prefix cache"
        lines={lines.prefix}
        format={percent}
        atLeast={100}
      />
      <Chart {...shared} title="Time to first token" lines={lines.firstToken} format={milliseconds} atLeast={10} />
      <Chart {...shared} title="Time between tokens" lines={lines.betweenTokens} format={milliseconds} atLeast={5} />
      <Chart {...shared} title="Time in the queue" lines={lines.queueTime} format={milliseconds} atLeast={10} />
      <Chart {...shared} title="Total request time" lines={lines.duration} format={milliseconds} atLeast={10} />
    </div>
  );
}

type ChartName = "requests" | "tokens" | "pages" | "prefix" | "firstToken" | "betweenTokens" | "queueTime" | "duration";

function chartLines(points: Point[]): Record<ChartName, Line[]> {
  const line = (label: string, value: (point: Point) => number | null): Line => ({ label, values: points.map(value) });
  const percentiles = (of: (point: Point) => Percentiles): Line[] => [
    line("p50", (point) => of(point)[0]),
    line("p90", (point) => of(point)[1]),
    line("p99", (point) => of(point)[2]),
  ];
  return {
    requests: [line("running", (point) => point.running), line("waiting", (point) => point.waiting)],
    tokens: [line("generated", (point) => point.generated), line("prompt", (point) => point.prompt)],
    pages: [line("running requests", (point) => point.pagesUsed), line("prefix cache", (point) => point.pagesCached)],
    prefix: [line("last 30 s", (point) => point.prefixHits)],
    firstToken: percentiles((point) => point.firstToken),
    betweenTokens: percentiles((point) => point.betweenTokens),
    queueTime: percentiles((point) => point.queueTime),
    duration: percentiles((point) => point.duration),
  };
}
