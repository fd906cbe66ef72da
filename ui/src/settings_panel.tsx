// The fields beside the chat. If one is empty, the server decides.
import type { JSX } from "preact";
import { Icon } from "./icons";
import { DEFAULTS, EXAMPLE_TOOLS, toolsFault, type Settings } from "./settings";

const NUMBERS: [name: keyof Settings, label: string, step: string, hint: string][] = [
  ["temperature", "Temperature", "0.1", "0 to 2"],
  ["topP", "Top p", "0.05", "0 to 1"],
  ["topK", "Top k", "1", "1 or more"],
  ["maxTokens", "Max tokens", "1", "no limit"],
  ["seed", "Seed", "1", "random"],
];

interface Props {
  settings: Settings;
  onChange: (settings: Settings) => void;
  onClose: () => void;
}

export function SettingsPanel({ settings, onChange, onClose }: Props): JSX.Element {
  const set = (name: keyof Settings, value: string): void => onChange({ ...settings, [name]: value });
  const isDefault = Object.entries(settings).every(([name, value]) => value === DEFAULTS[name as keyof Settings]);
  const fault = toolsFault(settings.tools);
  return (
    <aside class="settings" aria-label="Settings">
      <div class="settings-head">
        <h2>Settings</h2>
        <button type="button" class="plain" aria-label="Close settings" onClick={onClose}>
          <Icon name="close" />
        </button>
      </div>
      <Area
        name="system"
        label="System prompt"
        rows={4}
        placeholder="You are a helpful assistant."
        settings={settings}
        set={set}
      />
      <div class="numbers">
        {NUMBERS.map(([name, label, step, hint]) => (
          <label key={name}>
            {label}
            <input
              type="number"
              step={step}
              min="0"
              placeholder={hint}
              value={settings[name]}
              onInput={(event) => set(name, event.currentTarget.value)}
            />
          </label>
        ))}
      </div>
      <Area name="stop" label="Stop strings, one per line" rows={2} placeholder="" settings={settings} set={set} />
      <Area name="tools" label="Tools, as a JSON list" rows={7} placeholder="[ … ]" settings={settings} set={set} />
      {fault && <p class="fault">{fault}</p>}
      <div class="buttons">
        <button type="button" disabled={settings.tools !== ""} onClick={() => set("tools", EXAMPLE_TOOLS)}>
          Example tool
        </button>
        <button type="button" disabled={isDefault} onClick={() => onChange(DEFAULTS)}>
          Reset all
        </button>
      </div>
    </aside>
  );
}

interface AreaProps {
  name: keyof Settings;
  label: string;
  rows: number;
  placeholder: string;
  settings: Settings;
  set: (name: keyof Settings, value: string) => void;
}

function Area({ name, label, rows, placeholder, settings, set }: AreaProps): JSX.Element {
  return (
    <label>
      {label}
      <textarea
        rows={rows}
        class={name === "tools" ? "code" : undefined}
        spellcheck={name === "system"}
        placeholder={placeholder}
        value={settings[name]}
        onInput={(event) => set(name, event.currentTarget.value)}
      />
    </label>
  );
}
