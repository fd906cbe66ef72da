import { afterEach, expect, test, vi } from "vitest";

import { Api } from "../src/api";

afterEach(() => vi.unstubAllGlobals());

test("A model is listed once, under its name, and entries without a root are names", async () => {
  const data = [{ id: "name", root: "name" }, { id: "alias", root: "name" }, { id: "plain" }];
  vi.stubGlobal("fetch", async () => new Response(JSON.stringify({ data })));
  expect((await new Api("").models()).map(({ id }) => id)).toEqual(["name", "plain"]);
});
