import { afterEach, expect, test, vi } from "vitest";
import { watchSupervisor, type SupervisorStatus } from "../src/supervisor";

/** An event source whose events come from the test. */
class FakeSource extends EventTarget {
  static last: FakeSource;
  isOpen = true;

  constructor(readonly url: string) {
    super();
    FakeSource.last = this;
  }

  send(status: Partial<SupervisorStatus>): void {
    this.dispatchEvent(new MessageEvent("mlc-status-changed", { data: JSON.stringify(status) }));
  }

  close(): void {
    this.isOpen = false;
  }
}

function watched(): { told: unknown[]; end: () => void } {
  vi.stubGlobal("EventSource", FakeSource);
  vi.stubGlobal("fetch", () => {
    throw new Error("nothing but the stream may be requested");
  });
  const told: unknown[] = [];
  return { told, end: watchSupervisor("http://s", (status) => told.push(status)) };
}

afterEach(() => vi.unstubAllGlobals());

test("the status is what the last event said", () => {
  const { told } = watched();
  expect(FakeSource.last.url).toBe("http://s/events");
  FakeSource.last.send({ pid: 1 });
  FakeSource.last.send({ pid: 2 });
  expect(told).toEqual([{ pid: 1 }, { pid: 2 }]);
});

test("after the connection is lost, there is no status until an event brings one", () => {
  const { told } = watched();
  FakeSource.last.send({ pid: 1 });
  FakeSource.last.dispatchEvent(new Event("error"));
  FakeSource.last.send({ pid: 3 });
  expect(told).toEqual([{ pid: 1 }, null, { pid: 3 }]);
});

test("the stream is closed when nobody watches", () => {
  const { end } = watched();
  end();
  expect(FakeSource.last.isOpen).toBe(false);
});
