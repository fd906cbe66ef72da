// Asks for the API key. A key is tried before it is accepted.
import type { JSX, TargetedSubmitEvent } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Api, type ApiError } from "./api";

interface Props {
  /** Why a key is asked for; empty if the user wants to change it. */
  refusal: string;
  onKey: (key: string) => void;
  onClose: () => void;
}

export function KeyDialog({ refusal, onKey, onClose }: Props): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  const [key, setKey] = useState("");
  const [message, setMessage] = useState(refusal);
  useEffect(() => dialog.current?.showModal(), []);

  const submit = (event: TargetedSubmitEvent<HTMLFormElement>): void => {
    event.preventDefault();
    new Api(key).models().then(
      () => onKey(key),
      (error: ApiError) => setMessage(error.message),
    );
  };
  return (
    <dialog ref={dialog} class="key" aria-labelledby="key-title" onClose={onClose}>
      <form onSubmit={submit}>
        <h2 id="key-title">API key</h2>
        {message && <p role="alert">{message}</p>}
        <label>
          Key
          <input
            type="password"
            autocomplete="off"
            required
            value={key}
            onInput={(event) => setKey(event.currentTarget.value)}
          />
        </label>
        <p class="hint">The key is kept only in this tab, until you close it.</p>
        <div class="buttons">
          <button type="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" class="primary">
            Use this key
          </button>
        </div>
      </form>
    </dialog>
  );
}
