// The engine's state: what it is doing, what it did in the last minutes, and what it was started with.
import type { JSX } from "preact";
import { Charts } from "./charts";
import { Facts } from "./facts";
import { count, percent, perSecond } from "./format";
import type { Point } from "./history";
import { SupervisorCard } from "./supervisor_card";
import type { Engine } from "./use_engine";
import type { EngineCard } from "./wire";

export interface StatusProps {
  engine: Engine;
  model: string;
  isDark: boolean;
}

export function StatusView({ engine, model, isDark }: StatusProps): JSX.Element {
  const { info, points, isReachable } = engine;
  const card = info?.models.find(({ name }) => name === model) ?? info?.models[0];
  return (
    <main class="status">
      <h1 class="unseen">Status</h1>
      {isReachable === false && (
        <p class="fault" role="alert">
          The server does not answer. Trying again every second.
        </p>
      )}
      <Tiles point={points.at(-1)} />
      <Charts points={points} isDark={isDark} />
      <div class="cards">
        {card && (
          <section class="card" aria-label="Engine">
            <h2>Engine</h2>
            <Facts facts={engineFacts(card, info?.version ?? "")} />
          </section>
        )}
        {info?.supervisor && <SupervisorCard url={info.supervisor} />}
      </div>
    </main>
  );
}

function Tiles({ point }: { point: Point | undefined }): JSX.Element {
  const pages = point && point.pages ? (100 * point.pagesUsed) / point.pages : null;
  const tiles: [string, string | null][] = [
    ["Running", point ? count(point.running) : null],
    ["Waiting", point ? count(point.waiting) : null],
    ["Tokens/s", shown(point?.generated, perSecond)],
    ["KV pages in use", shown(pages, percent)],
    ["Prefix hits", shown(point?.prefixHits, percent)],
  ];
  if (point?.drafted) tiles.push(["Drafts kept", shown(point.draftsKept, percent)]);
  return (
    <dl class="tiles">
      {tiles.map(([name, value]) => (
        <div key={name} class="card">
          <dt>{name}</dt>
          <dd>{value ?? "–"}</dd>
        </div>
      ))}
    </dl>
  );
}

function shown(value: number | null | undefined, format: (value: number) => string): string | null {
  return value === null || value === undefined ? null : format(value);
}

function engineFacts(card: EngineCard, version: string): [string, string][] {
  const limits = Object.entries(card.limits).map(([name, value]): [string, string] => [name, setting(value)]);
  return [
    ["model", card.name],
    ["device", card.device],
    ["quantization", card.quantization],
    ["kv_cache_pages", `${count(card.kv_cache.num_pages)}, with ${card.kv_cache.page_size} tokens each`],
    ...limits,
    ["mlc_serve", version],
  ];
}

function setting(value: string | number | null): string {
  if (value === null) return "no limit";
  return typeof value === "number" ? count(value) : value;
}
