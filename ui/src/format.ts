// Writes numbers in a readable form.

export function milliseconds(value: number): string {
  if (value >= 1000) return `${Number((value / 1000).toFixed(value < 10_000 ? 2 : 1))} s`;
  return `${Number(value.toFixed(value < 10 ? 1 : 0))} ms`;
}

export function perSecond(value: number): string {
  return value < 10 ? String(Number(value.toFixed(1))) : count(value);
}

export function count(value: number): string {
  return Math.round(value).toLocaleString("en");
}

export function percent(value: number): string {
  return `${Number(value.toFixed(value < 10 ? 1 : 0))} %`;
}

/** Writes a length of time in its two largest units. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86_400)} d ${Math.floor((whole % 86_400) / 3600)} h`;
}
