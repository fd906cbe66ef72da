// Draws lines over time with uPlot. The legend shows the values under the pointer, or else the newest ones.
import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { KEPT_SECONDS } from "./history";

const HEIGHT = 150;

export interface Line {
  label: string;
  values: (number | null)[];
}

interface Props {
  title: string;
  times: number[];
  lines: Line[];
  format: (value: number) => string;
  /** The axis always reaches up to at least this value. */
  atLeast: number;
  isDark: boolean;
}

export function Chart({ title, times, lines, format, atLeast, isDark }: Props): JSX.Element {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [pointed, setPointed] = useState<number | null>(null);
  const data = useMemo(() => [times, ...lines.map((line) => line.values)] as uPlot.AlignedData, [times, lines]);

  useEffect(() => {
    const element = place.current;
    if (!element) return undefined;
    const options = plotOptions(element, lines.length, atLeast, format, setPointed);
    const made = (plot.current = new uPlot(options, data, element));
    const watcher = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT }));
    watcher.observe(element);
    return () => {
      watcher.disconnect();
      made.destroy();
    };
    // The plot is recreated only when its colours, number of lines or range change. New data is set below.
  }, [isDark, lines.length, atLeast]);
  useEffect(() => plot.current?.setData(data), [data]);

  const shown = pointed ?? times.length - 1;
  return (
    <figure class="card chart" aria-label={title}>
      <figcaption>
        <h2>{title}</h2>
        <ul class="legend">
          {lines.map(({ label, values }, i) => (
            <li key={label} data-line={i}>
              <span class="name">{label}</span> <span class="value">{text(values[shown], format)}</span>
            </li>
          ))}
        </ul>
      </figcaption>
      <div ref={place} class="plot" />
    </figure>
  );
}

function text(value: number | null | undefined, format: (value: number) => string): string {
  return value === null || value === undefined ? "–" : format(value);
}

function plotOptions(
  element: HTMLElement,
  numLines: number,
  atLeast: number,
  format: (value: number) => string,
  onPointed: (index: number | null) => void,
): uPlot.Options {
  const style = getComputedStyle(element);
  const colour = (name: string): string => style.getPropertyValue(name).trim();
  const axis: uPlot.Axis = {
    stroke: colour("--muted"),
    grid: { stroke: colour("--grid"), width: 1 },
    ticks: { show: false },
    font: `11px ${style.fontFamily}`,
  };
  return {
    width: element.clientWidth,
    height: HEIGHT,
    padding: [6, 10, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { setScale: false } },
    scales: {
      x: { range: (_, __, max) => [(max ?? 0) - KEPT_SECONDS, max ?? 0] },
      y: { range: (_, __, max) => [0, Math.max(atLeast, (max ?? 0) * 1.1)] },
    },
    axes: [
      { ...axis, space: 70, size: 26, values: (_, ticks) => ticks.map(clock) },
      { ...axis, size: 58, space: 34, values: (_, ticks) => ticks.map(format) },
    ],
    series: [
      {},
      ...Array.from({ length: numLines }, (_, i) => ({
        stroke: colour(`--line-${i}`),
        width: 1.75,
        points: { show: false },
      })),
    ],
    hooks: { setCursor: [(plot) => onPointed(plot.cursor.idx ?? null)] },
  };
}

function clock(seconds: number): string {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB", {
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
  });
}
