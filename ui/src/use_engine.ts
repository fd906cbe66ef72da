// Reads what the status view shows, once a second while the view is open and the page is visible.
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, type Api } from "./api";
import { KEPT_SECONDS, pointOf, withReading, type Point, type Reading } from "./history";
import { parseMetrics } from "./metrics";
import type { EngineInfo } from "./wire";

const POLL_MILLISECONDS = 1000;

export interface Engine {
  /** The points of the charts, oldest first. */
  points: Point[];
  info: EngineInfo | null;
  /** Whether the server answered the last call; null before the first call. */
  isReachable: boolean | null;
}

export function useEngine(
  api: Api,
  model: string,
  isWatched: boolean,
  onUnauthorized: (message: string) => void,
): Engine {
  const [engine, setEngine] = useState<Engine>({ points: [], info: null, isReachable: null });
  const readings = useRef<Reading[]>([]);
  const info = useRef<EngineInfo | null>(null);
  useEffect(() => {
    readings.current = [];
    setEngine((old) => ({ ...old, points: [] }));
  }, [model, api]);

  useEffect(() => {
    if (!isWatched) return undefined;
    let isOver = false;
    const tick = async (): Promise<void> => {
      try {
        if (document.visibilityState === "visible") await read();
      } catch (error) {
        if (isOver) return;
        if (error instanceof ApiError && error.status === 401) return onUnauthorized(error.message);
        info.current = null; // the server that answers next may be a different one
        setEngine((old) => ({ ...old, isReachable: false }));
      }
      if (!isOver) timer = setTimeout(() => void tick(), POLL_MILLISECONDS);
    };
    const read = async (): Promise<void> => {
      const text = await api.metrics();
      const found = (info.current ??= await api.engineInfo());
      if (isOver) return;
      const sample = parseMetrics(text, model || (found.models[0]?.name ?? ""));
      readings.current = withReading(readings.current, { time: Date.now() / 1000, sample });
      const point = pointOf(readings.current);
      setEngine(({ points }) => ({ info: found, isReachable: true, points: point ? recent(points, point) : points }));
    };
    let timer = setTimeout(() => void tick(), 0);
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [api, model, isWatched, onUnauthorized]);
  return engine;
}

function recent(points: Point[], point: Point): Point[] {
  return [...points.filter(({ time }) => time >= point.time - KEPT_SECONDS), point];
}
