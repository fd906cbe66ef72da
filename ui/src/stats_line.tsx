// How fast a reply came, and how many tokens it took.
import type { JSX } from "preact";
import { milliseconds, perSecond } from "./format";
import type { Stats } from "./reply";

export function StatsLine({ stats }: { stats: Stats }): JSX.Element {
  const about = stats.isExact ? "" : "≈ ";
  const parts = [
    stats.rate !== null && `${about}${perSecond(stats.rate)} tokens/s`,
    stats.firstToken !== null && `first token ${milliseconds(stats.firstToken)}`,
    `${about}${stats.tokens} tokens`,
    stats.promptTokens !== null &&
      `${stats.promptTokens} prompt tokens${stats.cachedTokens ? `, ${stats.cachedTokens} cached` : ""}`,
  ];
  return (
    <p class="stats">
      {parts.filter(Boolean).map((part) => (
        <span key={part}>{part}</span>
      ))}
    </p>
  );
}
